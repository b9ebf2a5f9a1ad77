"""The assignment for large problems: as good as SciPy's dense one on everything that is small enough to check."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import normalize

import lrbench.scoring.matching
from lrbench.scoring import assignment
from lrbench.scoring.assignment import PATIENCE, assign_large
from lrbench.scoring.matching import match, mcc, similarity

TIED = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])
FREE = st.floats(0, 1, width=32)
COLLAPSED = ["nearly the same", "as good as the same", "few", "few and uneven", "in a plane", "all dead"]
SCORES = st.tuples(st.integers(1, 8), st.integers(0, 4), st.sampled_from([TIED, FREE])).flatmap(
    lambda drawn: arrays(np.float32, (drawn[0], drawn[0] + drawn[1]), elements=drawn[2])
)


def best_total(scores: Tensor) -> float:
    """Return the summed score of SciPy's assignment."""
    return float(scores.double().numpy()[linear_sum_assignment(scores.double().numpy(), maximize=True)].sum())


def total(scores: Tensor, columns: Tensor) -> float:
    assert len(columns.unique()) == len(columns) == len(scores)
    return float(scores.double()[torch.arange(len(scores)), columns].sum())


@given(scores=SCORES, kept=st.integers(1, 12), strided=st.booleans(), patience=st.sampled_from([0, 1, PATIENCE]))
def test_small_ones_with_and_without_ties(scores: np.ndarray, kept: int, strided: bool, patience: int) -> None:
    given_scores = torch.from_numpy(scores).T.contiguous().T if strided else torch.from_numpy(scores)
    found = assign_large(given_scores, kept, patience)
    assert total(given_scores, found) == pytest.approx(best_total(given_scores), abs=1e-9)


def directions(kind: str, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return n learned and n true directions in 32 dimensions: learned well, badly, not at all, or collapsed in some way."""
    true = torch.randn(n, 32, generator=rng)
    noise = torch.randn(n, 32, generator=rng)
    order = torch.randperm(n, generator=rng)
    learned = {
        "well": true[order] + 0.2 * noise,
        "badly": true[order] + 2.0 * noise,
        "not at all": noise,
        "half dead": torch.cat([true[order[: n // 2]], torch.zeros(n - n // 2, 32)]),
        "in copies": true[torch.randint(n // 4, (n,), generator=rng)],
        "all the same": true[:1].repeat(n, 1),
        "nearly the same": true[:1] + 1e-3 * noise,
        "as good as the same": true[:1] + 1e-7 * noise,
        "few": true[torch.randint(4, (n,), generator=rng)] + 1e-4 * noise,
        "few and uneven": true[torch.multinomial(torch.tensor([0.9, 0.06, 0.04]), n, True, generator=rng)],
        "in a plane": noise[:, :2] @ true[:2],
        "all dead": 0 * noise,
    }
    return normalize(learned[kind], dim=1), true


@pytest.mark.parametrize("kind", [*COLLAPSED, "well", "badly", "not at all", "half dead", "in copies", "all the same"])
@pytest.mark.parametrize("kept", [4, 64])
@pytest.mark.parametrize("patience", [0, PATIENCE])
def test_dictionaries_of_every_quality(kind: str, kept: int, patience: int) -> None:
    learned, true = directions(kind, 300, torch.Generator().manual_seed(kept))
    for scores in (similarity(learned, true), similarity(learned[:200], true), similarity(learned, true[:120]).T):
        before = scores.clone()
        assert total(scores, assign_large(scores, kept, patience)) == pytest.approx(best_total(scores), abs=1e-9)
        assert torch.equal(scores, before)


@pytest.mark.parametrize("kind", ["well", "badly", "nearly the same", "few"])
def test_with_and_without_an_auction_the_assignment_is_the_same(kind: str) -> None:
    learned, true = directions(kind, 200, torch.Generator().manual_seed(0))
    scores = similarity(learned, true).double()  # no ties: the optimum is unique
    assert torch.equal(assign_large(scores, patience=0), assign_large(scores, patience=10**6))


def test_an_auction_is_held_for_a_collapsed_dictionary_only(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    crowded = assignment._assign_crowded
    monkeypatch.setattr(assignment, "_assign_crowded", lambda scores, kept: held.append(1) or crowded(scores, kept))
    for kind, times in (("well", 0), ("not at all", 0), ("nearly the same", 1)):
        held.clear()
        assign_large(similarity(*directions(kind, 600, torch.Generator().manual_seed(0))), 16)
        assert len(held) == times


@pytest.mark.parametrize(("n_latents", "n_features"), [(300, 300), (300, 120), (120, 300)])
def test_matching_uses_it_when_both_sides_are_large(
    n_latents: int, n_features: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned, true = directions("badly", 300, torch.Generator().manual_seed(0))
    learned, true = learned[:n_latents], true[:n_features]
    scores, live = similarity(learned, true), torch.arange(n_latents) % 3 > 0
    expected = match(scores), match(scores, live), mcc(learned, true)
    asked = []
    monkeypatch.setattr(lrbench.scoring.matching, "SMALL", 100)
    monkeypatch.setattr(
        "lrbench.scoring.assignment.assign_large", lambda scores: asked.append(scores.shape) or assign_large(scores)
    )
    found = match(scores), match(scores, live), mcc(learned, true)
    assert len(asked) == (2 if n_latents == 120 else 3)  # 80 live latents are few
    for one, other in zip(found[:2], expected[:2], strict=True):
        assert torch.equal(one.latents, other.latents)  # no ties here: the optimum is unique
        assert torch.equal(one.similarities, other.similarities)
    assert found[2] == expected[2]
