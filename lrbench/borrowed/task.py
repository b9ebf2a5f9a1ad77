"""A task from a synthetic model of SAELens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lrbench.borrowed.model import read
from lrbench.borrowed.world import Lender
from lrbench.task import Task, get_suite


def task_from_sae_lens(model: Any, suite: str = "synth", seed: int = 0) -> Task:
    """Return a task whose world is a synthetic model of SAELens, with its own directions.

    Parameters
    ----------
    model
        A ``sae_lens.synthetic.SyntheticModel``, for instance from its ``load_from_disk`` or ``from_pretrained``.
    suite
        Gives the width, the samples and the batch size. The L0 that is told is that of as many features as there are latents.
    seed
        Of the samples that are drawn, and of the anchors.

    Raises
    ------
    LrbenchError
        For a model that is none, or whose law cannot be taken over (see `lrbench.borrowed.model.read`).

    Examples
    --------
    >>> from sae_lens.synthetic import SyntheticModel, SyntheticModelConfig  # doctest: +SKIP
    >>> task = task_from_sae_lens(SyntheticModel(SyntheticModelConfig(500, 64)), "smoke")  # doctest: +SKIP
    >>> lrbench.score(lrbench.load_method("topk_sae").fit(task.view()), task)["headline"]  # doctest: +SKIP
    """
    given, borrowed = read(model)
    n, dim = borrowed.directions.shape
    scale = replace(get_suite(suite).scale, dim=dim, n_sites=1)
    offset = float(borrowed.offset.norm())
    spec = scale.task(n, n_distinct="fresh", structure=given, interference=1.0, offset=offset).telling_what_fits()
    return Task("sae_lens/model", suite, seed, spec, source=Lender(borrowed))
