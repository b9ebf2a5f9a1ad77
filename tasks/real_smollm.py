"""Activations of SmolLM2-135M, a language model: the mean over the tokens of a noun and its gloss."""

from __future__ import annotations

from lrbench.real.models import SMOLLM
from lrbench.real.source import ACTIVATIONS, real_task
from lrbench.task import Scale, TaskSpec, family

SITES = ("mlp9.in", "mlp9.out", "layer3", "layer15")


@family(
    levels={"trained": ("trained", *SITES), "random": ("random", *SITES)},
    source=ACTIVATIONS, smoke=(), quick=(), standard=(), real=("trained",),
)  # fmt: skip
def real_smollm(place: tuple[str, ...], scale: Scale) -> TaskSpec:
    """The ninth MLP's input, its output, and the third and fifteenth layer; class means of WordNet stand for the truth."""
    init, *sites = place
    return real_task(SMOLLM, tuple(sites), scale, init)
