"""What the study of real activations sees of one dictionary, inside a worker, beside its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from lrbench.activation import TopK
from lrbench.controls.few_anchors import of_few_anchors
from lrbench.controls.frozen import fit_frozen
from lrbench.controls.watched import Watched
from lrbench.dictionary import Dictionary
from lrbench.methods.oracle import Oracle
from lrbench.real.world import RealWorld
from lrbench.scoring.best_latent import detection_by_best
from lrbench.scoring.causes import OUTCOMES, ChildRecall, child_recalls, summary
from lrbench.scoring.matching import mcc
from lrbench.scoring.metrics import score
from lrbench.sdl import SDL
from lrbench.seeds import derive_seed, generator
from lrbench.study import Trained
from lrbench.task import Task
from lrbench.terms import Anchors

EARLY = 0.1  # share of the budget that the undertrained control has
OF_FROZEN = ("mip_enc", "fvu")
OF_ANCHORS = ("headline", "found", "matched_dec", "mip_dec", "mip_enc", "recovery_dec", "f1", "fvu", "l0", "dead")
CONTROLLED = 0  # the seed whose plain methods are trained again, with another start and with a frozen decoder


def measure(trained: Trained) -> dict[str, float]:
    """Return what parents lose on their children and why, and the controls: undertrained, few anchors, a frozen decoder, a second start."""
    dictionary, task, method = trained.dictionary.to("cpu"), trained.task, trained.method
    rows = child_recalls(dictionary, task)
    numbers = named("parent", summary(rows)) | named("best", detection_by_best(dictionary, task))
    if isinstance(task.world, RealWorld):
        numbers["reliability"] = min(task.world.reliability)
    if isinstance(method, Oracle):  # once per task: no other reference has to repeat it
        return numbers | of_anchors(task, method.pair)
    if not isinstance(method, SDL):
        return numbers
    numbers |= of_early(task, method) | of_few_anchors(dictionary, task, method)
    if trained.seed == CONTROLLED:
        numbers |= of_children(rows, task)
        if not any(isinstance(term, Anchors) for term in method.terms):
            numbers |= of_second_start(dictionary, task, method)
            if not method.resample:
                numbers |= of_frozen(task, method)
    return numbers


def of_early(task: Task, method: SDL) -> dict[str, float]:
    """Return what parents lose after a training of its own with a tenth of the budget, its learning rate's rise and fall included."""
    view = task.view(method.pair)
    budget = replace(view.budget, n_samples=round(EARLY * view.budget.n_samples))
    early = method.fit(replace(view, budget=budget), seed=task.fit_seed).to("cpu")
    return named("early_parent", summary(child_recalls(early, task)))


def of_children(rows: list[ChildRecall], task: Task) -> dict[str, float]:
    """Return what becomes of the uppermost parents on each of their children, as ``child_17_recall`` for the feature 17."""
    uppermost = [row for row in rows if task.spec.world.parents[row.parent] < 0]
    return {
        f"child_{row.child}_{name}": float(getattr(row, name))
        for row in uppermost
        for name in ("samples", "probe", *OUTCOMES)
    }


def of_second_start(dictionary: Dictionary, task: Task, method: SDL) -> dict[str, float]:
    """Return how well two starts agree, and the course of the second training."""
    view = task.view(method.pair)
    watched = Watched(view.budget.n_samples, view.budget.n_latents)
    again = method.fit(replace(view, keeper=watched), seed=derive_seed(task.fit_seed, "again")).to("cpu")
    return agreement(dictionary, again, generator(task.seed, "agreement")) | watched.course()


def of_frozen(task: Task, method: SDL) -> dict[str, float]:
    """Return what can be learned beside decoder rows that stay random: only what no such row decides is asked."""
    frozen = fit_frozen(method, task.view(method.pair), task.fit_seed).to("cpu")
    scores = score(frozen, task)
    return named("frozen", {name: scores[name] for name in OF_FROZEN}) | named(
        "frozen_best", detection_by_best(frozen, task)
    )


def of_anchors(task: Task, pair: str) -> dict[str, float]:
    """Return what the anchors themselves score on the other classes: what is like them needs no learning."""
    view = task.view(pair)
    rows = view.anchors
    scores = score(Dictionary(rows[0], None, rows[1], None, TopK(view.budget.k()), pair), task)
    return named("anchors", {name: scores[name] for name in OF_ANCHORS})


def agreement(first: Dictionary, second: Dictionary, rng: torch.Generator) -> dict[str, float]:
    """Return the mean |cosine| of the decoder rows of two starts, matched one-to-one, and what chance gives (``null``).

    Chance is random rows with the second moment of the second dictionary's own: rows in few dimensions agree by themselves.
    """
    drawn = alike(second.W_dec.float(), rng)
    return {"pw_mcc": mcc(first.W_dec, second.W_dec), "pw_mcc_null": mcc(first.W_dec, drawn)}


def alike(rows: Float[Tensor, "latent dim"], rng: torch.Generator) -> Float[Tensor, "latent dim"]:
    """Return as many Gaussian rows with the second moment of given ones."""
    mix = torch.randn(len(rows), len(rows), generator=rng) / len(rows) ** 0.5
    drawn: Tensor = mix @ rows
    return drawn


def named(group: str, numbers: Mapping[str, float]) -> dict[str, float]:
    """Return numbers under the name of what they belong to.

    Examples
    --------
    >>> named("early", {"recall": 0.5})
    {'early_recall': 0.5}
    """
    return {f"{group}_{name}": value for name, value in numbers.items()}
