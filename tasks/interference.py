"""Interference: how close two feature directions may come (the paper's table 5)."""

from __future__ import annotations

from lrbench.task import Scale, TaskSpec, family


@family(levels={"0.05": 0.05, "0.1": 0.1, "0.2": 0.2, "0.5": 0.5}, smoke=("0.2",), quick=("0.5",))
def interference(largest: float, scale: Scale) -> TaskSpec:
    """The largest inner product M between two directions."""
    return scale.task(interference=largest)
