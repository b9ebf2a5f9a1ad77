"""Matching: against every permutation, against loops, against an MCC of its own and, where it is installed, SAELens'."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from lrbench.errors import LrbenchError
from lrbench.scoring.matching import best_match, match, mcc, similarity

SIMILARITIES = st.tuples(st.integers(0, 5), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]))
)


def best_total(similarities: Tensor) -> float:
    """Return the largest summed similarity over all one-to-one assignments, by trying them all."""
    wide = similarities if similarities.shape[0] >= similarities.shape[1] else similarities.T
    return max(
        float(sum(wide[row, column] for column, row in enumerate(rows)))
        for rows in permutations(range(len(wide)), wide.shape[1])
    )


@given(similarities=SIMILARITIES)
def test_the_match_is_one_to_one_and_the_best_of_all(similarities: np.ndarray) -> None:
    scores = torch.from_numpy(similarities)
    n_latents, n_features = scores.shape
    found = match(scores)
    used = found.latents[found.latents >= 0]
    assert len(used) == len(used.unique()) == min(n_latents, n_features)
    for feature, latent in enumerate(found.latents.tolist()):
        assert found.similarities[feature] == (scores[latent, feature] if latent >= 0 else 0.0)
    assert float(found.similarities.sum()) == pytest.approx(best_total(scores) if n_latents else 0.0, abs=1e-6)


@given(similarities=SIMILARITIES, data=st.data())
def test_only_live_latents_serve(similarities: np.ndarray, data: st.DataObject) -> None:
    scores = torch.from_numpy(similarities)
    live = torch.tensor(
        data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))), dtype=torch.bool
    )
    found, among_live = match(scores, live), match(scores[live])
    assert bool(live[found.latents[found.latents >= 0]].all())
    assert torch.equal(found.similarities, among_live.similarities)
    numbers = live.nonzero().flatten()
    assert found.latents.tolist() == [int(numbers[i]) if i >= 0 else -1 for i in among_live.latents]


def test_partners_are_those_of_the_whole_world() -> None:
    matched = match(torch.tensor([[0.1, 0.9], [0.2, 0.3]]), torch.tensor([True, False]))
    assert matched.partners(torch.tensor([3, 1]), n_features=5).tolist() == [-1, 0, -1, -1, -1]


def test_width_cannot_hide_a_miss() -> None:
    true = torch.eye(6)
    missing_two = true[:4]
    narrow = match(similarity(missing_two, true))
    assert narrow.similarities.tolist() == [1.0] * 4 + [0.0] * 2
    assert narrow.latents.tolist() == [0, 1, 2, 3, -1, -1]
    copies = match(similarity(missing_two.repeat(50, 1), true))  # 200 latents that know four features
    assert copies.similarities.tolist() == [1.0] * 4 + [0.0] * 2
    assert best_match(similarity(missing_two.repeat(50, 1), true)).tolist() == [1.0] * 4 + [0.0] * 2
    merged = torch.nn.functional.normalize(
        true[:1] + true[1:2], dim=1
    )  # one latent for two features serves one of them
    assert match(similarity(merged, true[:2])).similarities.sum() == pytest.approx(0.5**0.5)
    assert best_match(similarity(merged, true[:2])).tolist() == pytest.approx([0.5**0.5] * 2)


def test_similarity_is_the_absolute_cosine() -> None:
    rng = torch.Generator().manual_seed(0)
    learned, true = torch.randn(7, 5, generator=rng), torch.randn(4, 5, generator=rng)
    learned[3] = 0.0
    found = similarity(learned, true)
    for i in range(7):
        for j in range(4):
            length = float(learned[i].norm() * true[j].norm())
            expected = abs(float(learned[i] @ true[j])) / length if length else 0.0
            assert float(found[i, j]) == pytest.approx(expected, abs=1e-6)
    assert torch.equal(similarity(-2 * learned, true), found)
    assert float(similarity(true, true).max()) <= 1.0
    assert torch.equal(best_match(found), found.max(0).values)
    assert torch.equal(best_match(found[:0]), torch.zeros(4))


@pytest.mark.usefixtures("as_users_run_it")
def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(LrbenchError, match="rows have 3 dimensions, the task's features 4"):
        similarity(torch.ones(2, 3), torch.ones(2, 4))
    for bad in (float("nan"), float("inf")):
        with pytest.raises(LrbenchError, match="NaN or infinite"):
            similarity(torch.tensor([[1.0, bad]]), torch.ones(1, 2))


def independent_mcc(first: Tensor, second: Tensor) -> float:
    one, other = (
        rows.double().numpy() / np.linalg.norm(rows.double().numpy(), axis=1, keepdims=True) for rows in (first, second)
    )
    cost = 1.0 - np.abs(one @ other.T)
    rows, columns = linear_sum_assignment(cost)
    return float(np.mean(1.0 - cost[rows, columns]))


PAIRS = [(12, 12, 8), (30, 12, 8), (5, 12, 8), (1, 1, 3), (64, 42, 32)]


@pytest.mark.parametrize(("n_latents", "n_features", "dim"), PAIRS)
def test_mcc_equals_an_independent_one(n_latents: int, n_features: int, dim: int) -> None:
    rng = torch.Generator().manual_seed(n_latents)
    first, second = torch.randn(n_latents, dim, generator=rng), torch.randn(n_features, dim, generator=rng)
    assert mcc(first, second) == pytest.approx(independent_mcc(first, second), abs=1e-6)
    assert mcc(first, second) == pytest.approx(mcc(second, first), abs=1e-6)
    assert mcc(second, -3 * second) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.peers
@pytest.mark.parametrize(("n_latents", "n_features", "dim"), PAIRS)
def test_mcc_equals_that_of_saelens(n_latents: int, n_features: int, dim: int) -> None:
    theirs = pytest.importorskip("sae_lens.synthetic").mean_correlation_coefficient
    rng = torch.Generator().manual_seed(n_latents)
    first, second = torch.randn(n_latents, dim, generator=rng), torch.randn(n_features, dim, generator=rng)
    assert mcc(first, second) == pytest.approx(float(theirs(first, second)), abs=1e-6)


@pytest.mark.parametrize("size", [1e-38, 1e-20, 1e-12, 1e20, 1e38])
def test_the_length_of_a_row_does_not_count(size: float) -> None:
    learned = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, -1.0], [0.3, 2.0]])
    true = torch.tensor([[1.0, 0.0], [1.0, 1.0], [-0.5, 1.0]])
    expected = similarity(learned, true)
    scaled = learned.clone()
    scaled[::2] *= size
    found = similarity(scaled, true)
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.equal(found[1::2], expected[1::2])  # rows of ordinary length keep every digit
    assert torch.allclose(similarity(learned.double() * size**7.0, true), expected, atol=1e-6)  # beyond float32
