"""Matching learned directions to true ones: best match (the paper's) and one-to-one (Hungarian)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from lrbench.errors import LrbenchError

SMALL = (
    1024  # members of the smaller side up to which SciPy's dense solver serves: a second or two, and nothing to compile
)
ORDINARY = (1e-9, 1e15)  # largest entry of a row that float32 can normalise as it is


@dataclass(frozen=True)
class Match:
    """A one-to-one assignment of latents to features.

    Parameters
    ----------
    latents
        The latent that each feature got, -1 where it got none.
    similarities
        |cosine| with it, 0 where there is none.
    """

    latents: Int[Tensor, " feature"]
    similarities: Float[Tensor, " feature"]

    def partners(self, scored: Int[Tensor, " feature"], n_features: int) -> Int[Tensor, " all_features"]:
        """Return the latent of every feature of a world of which some were matched, -1 where it got none.

        Parameters
        ----------
        scored
            Which features were matched, in the order of ``latents``.
        n_features
            How many features the world has.
        """
        partner = torch.full((n_features,), -1)
        partner[scored] = self.latents
        return partner


def similarity(
    learned: Float[Tensor, "latent dim"], true: Float[Tensor, "feature dim"]
) -> Float[Tensor, "latent feature"]:
    """Return |cosine| of every learned with every true direction; a zero row is similar to nothing.

    Raises
    ------
    LrbenchError
        When a learned direction is not finite, or the dimensions differ.
    """
    if learned.shape[1] != true.shape[1]:
        raise LrbenchError(
            f"the dictionary's rows have {learned.shape[1]} dimensions, the task's features {true.shape[1]}: "
            "score it on the task and for the pair that it was trained on"
        )
    if not bool(torch.isfinite(learned).all()):
        raise LrbenchError("the dictionary holds NaN or infinite directions: it cannot be scored")
    return (unit_rows(learned) @ unit_rows(true).T).abs_().clamp_max_(1.0)


def unit_rows(rows: Float[Tensor, "row dim"]) -> Float[Tensor, "row dim"]:
    """Return rows of length 1 in float32, however short or long they are; a row of zeros stays one."""
    largest = rows.abs().amax(dim=1, keepdim=True)
    shortest, longest = ORDINARY  # beyond these the squares that the norm sums up may under- or overflow
    odd = (largest > 0) & ((largest < shortest) | (largest > longest))
    if bool(odd.any()):
        rows = torch.where(odd, rows / largest, rows)
    return F.normalize(rows.float(), dim=1)


def match(similarities: Float[Tensor, "latent feature"], live: Tensor | None = None) -> Match:
    """Assign latents to features one-to-one so that the summed similarity is largest (Hungarian algorithm).

    Parameters
    ----------
    similarities
        |cosine| of every latent with every feature.
    live
        Which latents may serve, all by default: a latent that never fires is no partner.
    """
    n_latents, n_features = similarities.shape
    candidates = torch.arange(n_latents) if live is None else live.nonzero().flatten()
    scores = similarities if len(candidates) == n_latents else similarities[candidates]
    rows, columns = _assign(scores)
    latents = torch.full((n_features,), -1)
    found = torch.zeros(n_features)
    latents[columns] = candidates[rows]
    found[columns] = scores[rows, columns]
    return Match(latents, found)


def best_match(similarities: Float[Tensor, "latent feature"]) -> Float[Tensor, " feature"]:
    """Return s_i = max_j S_ji, the similarity of each feature's best latent (the paper's section 3)."""
    return similarities.amax(0) if len(similarities) else torch.zeros(similarities.shape[1])


def mcc(first: Float[Tensor, "a dim"], second: Float[Tensor, "b dim"]) -> float:
    """Return the mean correlation coefficient as SAELens defines it: mean |cosine| over the min(a, b) matched pairs."""
    similarities = similarity(first, second)
    return float(similarities[_assign(similarities)].mean())


def _assign(scores: Float[Tensor, "row column"]) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"]]:
    """Return the rows and the columns of min(rows, columns) pairs with the largest summed score."""
    try:
        from lrbench.scoring.assignment import assign_large  # compiles on first use
    except ImportError:  # no numba: slower, and the same optimum
        assign_large = None  # type: ignore[assignment]
    if min(scores.shape) <= SMALL or assign_large is None:
        rows, columns = linear_sum_assignment(scores.numpy(), maximize=True)
        return torch.from_numpy(rows), torch.from_numpy(columns)
    if len(scores) > scores.shape[1]:
        return assign_large(scores.T), torch.arange(scores.shape[1])
    return torch.arange(len(scores)), assign_large(scores)
