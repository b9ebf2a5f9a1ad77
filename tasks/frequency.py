"""Frequency: some features are common and most are rare (Zipf's law)."""

from __future__ import annotations

from lrbench.task import Scale, TaskSpec, family


@family(levels={"zipf0.5": 0.5, "zipf1.0": 1.0, "zipf1.5": 1.5}, smoke=("zipf1.0",), quick=("zipf1.5",))
def frequency(exponent: float, scale: Scale) -> TaskSpec:
    """Activation rates that fall with rank to the power of an exponent."""
    return scale.task(zipf=exponent)
