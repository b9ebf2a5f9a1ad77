"""Traps: training starts in a constructed minimum; each world has a control that starts where the method always does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lrbench.errors import LrbenchError, NotApplicable
from lrbench.structure import Hierarchy
from lrbench.task import Scale, TaskSpec, family

if TYPE_CHECKING:
    from lrbench.dictionary import Dictionary
    from lrbench.world import World

LEVELS = {name: name for name in ("polysemantic", "dead", "rotated", "own", "absorbed", "own-hierarchy")}
IN_A_HIERARCHY = ("absorbed", "own-hierarchy")


def start(name: str, world: World, n_latents: int, pair: str, seed: int) -> tuple[Dictionary | None, list[int]]:
    """Return the construction and the features that it traps."""
    from lrbench.theory.traps import trap

    try:
        return trap(name, world, n_latents, pair, seed)
    except LrbenchError as why:  # a world can be too crowded for a construction: no method can start there
        raise NotApplicable(str(why)) from why


@family(levels=LEVELS, kinds=("sdl",), twins=("anchored", "resample"), start=start, smoke=("dead",), quick=())
def traps(name: str, scale: Scale) -> TaskSpec:
    """Training starts in a minimum that the theory constructs and has to get out."""
    trees = Hierarchy(branching=(3,), root_rate=2.5 * scale.rate, child_given_parent=0.5, fraction=0.5)
    spec = scale.task(structure=trees) if name in IN_A_HIERARCHY else scale.task()
    return replace(spec, start=name)
