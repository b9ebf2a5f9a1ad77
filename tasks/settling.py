"""Settling: the worlds of the traps at any sparsity and any bend, where the settling test holds the theory against training."""

from __future__ import annotations

from dataclasses import replace

from lrbench.structure import Hierarchy
from lrbench.task import Scale, TaskSpec, family
from lrbench.tasks.traps import IN_A_HIERARCHY, start

STEPS = {150: 40, 600: 400}  # a training is shorter than the suite's own where it is repeated a thousand times
KINDS = ("own", "own-hierarchy", "polysemantic", "dead", "rotated")
LEVELS = {kind: (kind, 0.0, 0.0) for kind in KINDS}  # start or world, activation probability 1-S (0 for 1/n), bend


@family(levels=LEVELS, kinds=("sdl",), twins=("anchored", "resample"), start=start, smoke=(), quick=(), standard=())
def settling(level: tuple[str, float, float], scale: Scale) -> TaskSpec:
    """Training where the theory predicts its outcome: sparser or denser, bent away from linearity, from the start of a trap."""
    kind, rate, bend = level
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is none of {', '.join(KINDS)}")
    steps = scale.n_samples // scale.batch_size
    rate = rate or 1.0 / scale.task().world.n_features
    scale = replace(scale, n_samples=STEPS.get(steps, steps) * scale.batch_size, rate=rate)
    trees = Hierarchy(branching=(3,), root_rate=2.5 * scale.rate, child_given_parent=0.5, fraction=0.5)
    spec = scale.task(structure=trees) if kind in IN_A_HIERARCHY else scale.task()
    return replace(spec, start=kind, world=replace(spec.world, bend=bend))
