"""Sparsity: how often a feature is active (the paper's table 6); 0.01 is the default world of `standard`."""

from __future__ import annotations

from lrbench.task import Scale, TaskSpec, family

LEVELS = {"0.005": 0.005, "0.01": 0.01, "0.05": 0.05, "0.1": 0.1, "0.2": 0.2}


@family(levels=LEVELS, smoke=("0.1",), quick=("0.2",), standard=("0.005", "0.05", "0.1", "0.2"))
def sparsity(rate: float, scale: Scale) -> TaskSpec:
    """The activation probability 1-S."""
    return scale.task(rate=rate)
