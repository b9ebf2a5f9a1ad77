"""Noise: Gaussian observation noise, its root-mean-square length in units of a feature direction."""

from __future__ import annotations

from lrbench.task import Scale, TaskSpec, family


@family(levels={"0.1": 0.1, "0.3": 0.3, "1.0": 1.0, "2.0": 2.0, "4.0": 4.0}, smoke=("0.3",), quick=("4.0",))
def noise(length: float, scale: Scale) -> TaskSpec:
    """Representations that are not exactly a sum of features."""
    return scale.task(noise=length)
