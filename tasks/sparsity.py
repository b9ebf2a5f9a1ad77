"""Sparsity: how often a feature is active (the paper's table 6)."""

from __future__ import annotations

from lrbench.task import Scale, TaskSpec, family


@family(levels={"0.005": 0.005, "0.01": 0.01, "0.05": 0.05, "0.1": 0.1}, smoke=("0.1",), quick=("0.05",))
def sparsity(rate: float, scale: Scale) -> TaskSpec:
    """The activation probability 1-S."""
    return scale.task(rate=rate)
