"""Correlation: groups of four features that tend to be active together."""

from __future__ import annotations

from lrbench.structure import Groups
from lrbench.task import Scale, TaskSpec, family


@family(levels={"0.2": 0.2, "0.5": 0.5, "0.8": 0.8}, smoke=("0.5",), quick=("0.8",))
def correlation(cohesion: float, scale: Scale) -> TaskSpec:
    """The probability that a member of an active group is active."""
    return scale.task(structure=Groups(size=4, cohesion=cohesion))
