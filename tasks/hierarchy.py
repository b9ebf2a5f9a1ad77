"""Hierarchy: forests in which a child is active only when its parent is, two or three levels deep."""

from __future__ import annotations

from lrbench.structure import Hierarchy
from lrbench.task import Scale, TaskSpec, family

LEVELS = {
    "depth2-exclusive": ((3,), True),
    "depth2-overlapping": ((3,), False),
    "depth3-exclusive": ((3, 2), True),
    "depth3-overlapping": ((3, 2), False),
}


@family(levels=LEVELS, smoke=("depth2-exclusive",), quick=("depth3-exclusive",))
def hierarchy(level: tuple[tuple[int, ...], bool], scale: Scale) -> TaskSpec:
    """All features live in trees of concepts and sub-concepts."""
    branching, exclusive = level
    return scale.task(structure=Hierarchy(branching=branching, root_rate=2 * scale.rate, exclusive=exclusive))
