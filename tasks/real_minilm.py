"""Activations of MiniLM-L6, a sentence encoder: the mean over the tokens of a noun and its gloss."""

from __future__ import annotations

from lrbench.real.models import MINILM
from lrbench.real.source import ACTIVATIONS, real_task
from lrbench.task import Scale, TaskSpec, family

SITES = ("mlp5.in", "mlp5.out", "layer2", "layer6")


@family(
    levels={"trained": ("trained", *SITES), "random": ("random", *SITES)},
    source=ACTIVATIONS, smoke=(), quick=(), standard=(), real=("trained",),
)  # fmt: skip
def real_minilm(place: tuple[str, ...], scale: Scale) -> TaskSpec:
    """The fifth MLP's input, its output, and the second and last layer; class means of WordNet stand for the truth."""
    init, *sites = place
    return real_task(MINILM, tuple(sites), scale, init)
