"""Twins: what can be added to any SDL method. `lrbench.load_method("X+NAME")` makes them, `lrbench.catalogue.source.TWINS` lists them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize
from typing_extensions import Self

from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError
from lrbench.sdl import SDL, start_parameters
from lrbench.seeds import derive_seed, generator
from lrbench.terms import Anchors
from lrbench.view import TrainView

RESAMPLE = 4  # how often dead latents start anew in a run
CHUNK = 1024  # rows of a similarity matrix held at a time


def anchored(method: SDL) -> SDL:
    """Return the feature-anchored twin: the same method with the paper's anchor loss on the view's known features."""
    return replace(method, terms=(*method.terms, Anchors()))


def resampling(method: SDL) -> SDL:
    """Return the twin whose dead latents are pointed at badly reconstructed inputs, several times in a run."""
    return replace(method, resample=RESAMPLE)


@dataclass(frozen=True)
class AutoAnchored(SDL):
    """Feature anchoring without supervision: the directions on which short runs with different seeds agree are the anchors.

    The view's own anchors are never read. All runs together spend the plain method's budget. Where the view has a start only the
    last run begins there: two runs from one point would agree on it.

    Parameters
    ----------
    anchor_weight
        λ_anchor of the last run, as in `lrbench.terms.Anchors`.
    agreement
        Cosine of two decoder rows from which on they are one direction.
    scouting
        Share of the budget that the two first runs spend together.

    Raises
    ------
    LrbenchError
        For a ``scouting`` that is no share, and, when it is fitted, for a budget of fewer than three steps.

    Examples
    --------
    >>> import lrbench
    >>> method = lrbench.load_method("topk_sae+autoanchor", scouting=0.25)
    >>> type(method).__name__, method.scouting
    ('AutoAnchored', 0.25)
    """

    anchor_weight: float = 0.1
    agreement: float = 0.95
    scouting: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.scouting < 1:
            raise LrbenchError(f"scouting={self.scouting}: expected a share of the budget between 0 and 1")

    def hyperparameters(self) -> dict[str, Any]:
        """Return those of the method and the twin's own."""
        return super().hyperparameters() | {name: getattr(self, name) for name in self._own()}

    def with_hyperparameters(self, **changes: Any) -> Self:
        """Return a copy with other hyper-parameters, named as in `hyperparameters`."""
        own = {name: changes.pop(name) for name in self._own() if name in changes}
        return replace(super().with_hyperparameters(**changes), **own)

    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        """Train two dictionaries for a while, then the one that is returned, anchored to what they share."""
        view = view.paired(self.pair)
        plain = SDL(**{f.name: getattr(self, f.name) for f in fields(SDL)})
        size = plain.batch_size or view.budget.batch_size
        steps = view.budget.n_samples // size
        if steps < 3:
            raise LrbenchError(
                f"+autoanchor: {steps} steps in the budget, expected at least 3; take a smaller batch size"
            )
        scout = min(max(1, int(steps * self.scouting / 2)), (steps - 1) // 2)
        free = replace(view, start=None)
        first, second = (
            self._scout(_spend(free, scout * size, derive_seed(view.seed, "scout", i)), derive_seed(seed, "scout", i))
            for i in range(2)
        )
        found = agreed(first, second, view, self.agreement)
        last = replace(_spend(view, (steps - 2 * scout) * size, view.seed), anchor_sites=found)
        return replace(plain, terms=(*plain.terms, Anchors(self.anchor_weight))).fit(last, seed)

    def _scout(self, view: TrainView, seed: int) -> Rows:
        """Train for a while; no more samples are looked at than those of the batches."""
        rng, rule = generator(seed, "init"), self.rule.bind(self.aim(view.budget))
        p = start_parameters(view, rule, rng)
        dead = self._train(view, rule, p, rng)
        return Rows(*(p[name].detach()[~dead] for name in ("W_enc", "W_dec")))

    @staticmethod
    def _own() -> tuple[str, ...]:
        shared = {f.name for f in fields(SDL)}
        return tuple(f.name for f in fields(AutoAnchored) if f.name not in shared)


def autoanchored(method: SDL) -> AutoAnchored:
    """Return the twin that finds its anchors itself."""
    return AutoAnchored(**{f.name: getattr(method, f.name) for f in fields(SDL)})


MAKERS: dict[str, Callable[[SDL], SDL]] = {"anchored": anchored, "resample": resampling, "autoanchor": autoanchored}


def _spend(view: TrainView, n_samples: int, order: int) -> TrainView:
    return replace(view, budget=replace(view.budget, n_samples=n_samples), seed=order)


@dataclass(frozen=True)
class Rows:
    """The living latents of a run."""

    W_enc: Float[Tensor, "latent d_in"]
    W_dec: Float[Tensor, "latent d_out"]


def agreed(first: Rows, second: Rows, view: TrainView, agreement: float) -> tuple[Tensor, ...]:
    """Return the directions that two runs share, as anchors for every site that the view's pairing reads or writes.

    Two living latents share one when each is the other's nearest by decoder row, with a cosine of at least ``agreement``. The
    anchor is their mean; on the encoder's side of a transcoder, where decoder rows say nothing, that of their encoder rows. Of
    anchors nearer to each other than ``agreement`` the best one stays: two latents of one feature must not both be held in place.
    There are at most half as many as the dictionary has latents, which leaves room to find more.
    """
    ours, theirs, cosine = mutual_nearest(first.W_dec, second.W_dec)
    keep = (cosine >= agreement).nonzero().flatten()
    keep = keep[cosine[keep].argsort(descending=True, stable=True)][: view.budget.n_latents // 2]
    target = _mean_rows(first.W_dec[ours[keep]], second.W_dec[theirs[keep]])
    distinct = _distinct(target, agreement)
    keep, target = keep[distinct], target[distinct]
    if view.pair == "transcoder":
        return _mean_rows(first.W_enc[ours[keep]], second.W_enc[theirs[keep]]), target
    return torch.split(target, list(view.widths), dim=1) if view.pair == "crosscoder" else (target,)


def mutual_nearest(
    first: Float[Tensor, "latent dim"], second: Float[Tensor, "other dim"]
) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"], Float[Tensor, " pair"]]:
    """Return the pairs of rows each of which is the other's nearest, and the cosine of every pair."""
    first, second = normalize(first, dim=1), normalize(second, dim=1)
    if not len(first) or not len(second):
        nobody = torch.empty(0, dtype=torch.int64, device=first.device)
        return nobody, nobody, first.new_empty(0)
    cosine, there = _nearest(first, second)
    _, back = _nearest(second, first)
    here = torch.arange(len(first), device=first.device)
    mutual = back[there] == here
    return here[mutual], there[mutual], cosine[mutual]


def _nearest(rows: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    best = [(chunk @ others.T).max(dim=1) for chunk in torch.split(rows, CHUNK)]
    return torch.cat([b.values for b in best]), torch.cat([b.indices for b in best])


def _mean_rows(first: Float[Tensor, "row dim"], second: Float[Tensor, "row dim"]) -> Float[Tensor, "row dim"]:
    return normalize(normalize(first, dim=1) + normalize(second, dim=1), dim=1)


def _distinct(rows: Float[Tensor, "row dim"], agreement: float) -> Int[Tensor, " kept"]:
    """Return the rows that are not near an earlier one that stays."""
    stays: list[int] = []
    near = ((rows @ rows.T) >= agreement).cpu()
    for row in range(len(rows)):
        if not near[row, stays].any():
            stays.append(row)
    return torch.tensor(stays, dtype=torch.int64, device=rows.device)
