"""Absorption: parents with three exclusive children, which are rarely, evenly or mostly active when the parent is."""

from __future__ import annotations

from lrbench.structure import Hierarchy
from lrbench.task import Scale, TaskSpec, family


@family(levels={"rare": 0.1, "even": 0.5, "dominant": 0.9}, smoke=("even",), quick=("rare",))
def absorption(child_given_parent: float, scale: Scale) -> TaskSpec:
    """A latent for the parent saves a latent of L0 by leaving its children's samples out."""
    trees = Hierarchy(branching=(3,), root_rate=2.5 * scale.rate, child_given_parent=child_given_parent, fraction=0.5)
    return scale.task(structure=trees)
