"""What the study of real activations sees of one dictionary, inside a worker, beside its scores."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from lrbench.activation import TopK
from lrbench.controls.frozen import fit_frozen
from lrbench.dictionary import Dictionary
from lrbench.real.world import RealWorld
from lrbench.scoring.causes import child_recalls, summary
from lrbench.scoring.matching import mcc
from lrbench.scoring.metrics import score
from lrbench.sdl import SDL
from lrbench.seeds import derive_seed, generator
from lrbench.study import Trained
from lrbench.task import Task

EARLY = 0.1  # share of the budget that the undertrained control has
OF_FROZEN = ("found", "mip_dec", "mip_enc", "f1", "fvu")
OF_ANCHORS = ("headline", "found", "matched_dec", "mip_dec", "mip_enc", "recovery_dec", "f1", "fvu", "l0", "dead")
CONTROLLED = 0  # the seed whose plain methods are trained again, with another start and with a frozen decoder


def measure(trained: Trained) -> dict[str, float]:
    """Return what parents lose on their children and why, and the controls: early training, a frozen decoder, a second start."""
    dictionary, task, method = trained.dictionary.to("cpu"), trained.task, trained.method
    numbers = summary(child_recalls(dictionary, task))
    if isinstance(task.world, RealWorld):
        numbers["reliability"] = min(task.world.reliability)
    if not isinstance(method, SDL):
        return numbers | of_anchors(task, method.pair)
    view = task.view(method.pair)
    budget = replace(view.budget, n_samples=round(EARLY * view.budget.n_samples))
    early = method.fit(replace(view, budget=budget), seed=task.fit_seed)
    numbers |= {f"early_{name}": value for name, value in summary(child_recalls(early, task)).items()}
    if trained.seed == CONTROLLED and not any(term.name == "anchor" for term in method.terms):
        again = method.fit(task.view(method.pair), seed=derive_seed(task.fit_seed, "again"))
        numbers |= agreement(dictionary, again, generator(task.seed, "agreement"))
        frozen = score(fit_frozen(method, task.view(method.pair), task.fit_seed), task)
        numbers |= {f"frozen_{name}": frozen[name] for name in OF_FROZEN}
    return numbers


def of_anchors(task: Task, pair: str) -> dict[str, float]:
    """Return what the anchors themselves score on the other classes: what is like them needs no learning."""
    view = task.view(pair)
    rows = view.anchors
    scores = score(Dictionary(rows[0], None, rows[1], None, TopK(view.budget.k()), pair), task)
    return {f"anchors_{name}": scores[name] for name in OF_ANCHORS}


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
