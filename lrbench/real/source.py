"""What makes a task family one of real activations: ``@family(source=ACTIVATIONS)`` and a `TaskSpec` from `real_task`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from lrbench.real.items import items
from lrbench.real.models import Model
from lrbench.real.spec import ANCHOR_SHARE, HELD_OUT, L0, RealSpec, real_spec
from lrbench.structure import WorldSpec
from lrbench.suite import Scale, TaskSpec

LEAST_LATENTS = 512  # at the smallest scales too: half of the classes are anchors and need a latent each

if TYPE_CHECKING:
    from lrbench.world import World


class Activations:
    """Worlds of activations: see `lrbench.task.Source`."""

    def missing(self, law: WorldSpec) -> str:
        """Return what is missing for the model, and the command that installs it."""
        model = cast(RealSpec, law).model
        reason = model.missing()
        return f"{reason}: `{model.command}`" if reason else ""

    def prepare(self, law: WorldSpec) -> None:
        """Take the activations, so that cells find them in the cache."""
        from lrbench.real.cache import activations

        spec = cast(RealSpec, law)
        activations(spec.model, spec.init, spec.sites, [item.text for item in items()])

    def world(self, law: WorldSpec, seed: int) -> World:
        """Return the world of a split."""
        from lrbench.real.world import RealWorld

        return RealWorld(cast(RealSpec, law), seed)


ACTIVATIONS = Activations()


def real_task(model: Model, sites: tuple[str, ...], scale: Scale, init: str = "trained") -> TaskSpec:
    """Return the task on a model's activations: steps are the scale's, and so is the width where it is large enough, items and L0 are the world's.

    Parameters
    ----------
    model, sites, init
        See `lrbench.real.spec.RealSpec`.
    scale
        The suite's.
    """
    law = real_spec(model, sites, init)
    n_distinct = len(items()) - HELD_OUT
    drawn = scale.task(n_distinct=n_distinct)
    return replace(
        drawn, world=law, n_latents=max(LEAST_LATENTS, scale.n_latents), n_evaluation=HELD_OUT, told_l0=L0 / law.mean_l0,
        anchor_share=ANCHOR_SHARE,
    )  # fmt: skip
