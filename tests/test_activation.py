"""Activations select, they never rescale: σ(z)_i ∈ {0, z_i}, with at most as many latents as they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from lrbench.activation import Activation, BatchTopK, JumpReLU, ReLU, TopK, from_state
from lrbench.errors import LrbenchError

EVERY = [
    ReLU(),
    TopK(1),
    TopK(3),
    TopK(100),
    BatchTopK(1),
    BatchTopK(3),
    BatchTopK(2, 0.5),
    JumpReLU(0.0),
    JumpReLU(0.7),
]
PER_LATENT = JumpReLU(torch.tensor([0.0, 1.0, 2.0, 0.5]))
BATCHES = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=7),
    elements=st.one_of(st.sampled_from([0.0, 0.5, 0.7, 1.0, -1.0]), st.floats(-3, 3, width=32)),
)


@pytest.mark.parametrize("activation", EVERY, ids=repr)
@given(z=BATCHES)
def test_it_keeps_or_drops_but_never_changes_a_value(activation: Activation, z: np.ndarray) -> None:
    z = torch.from_numpy(z)
    before = z.clone()
    latents = activation(z)
    assert latents.shape == z.shape
    assert bool(((latents == 0) | (latents == z)).all())
    assert bool((latents >= 0).all())
    assert torch.equal(z, before)


@given(z=BATCHES, k=st.integers(1, 9))
def test_topk_keeps_the_k_largest_of_a_sample(z: np.ndarray, k: int) -> None:
    z = torch.from_numpy(z)
    latents = TopK(k)(z)
    assert int((latents > 0).sum(1).max()) <= k
    for row, kept in zip(z.tolist(), latents.tolist(), strict=True):
        assert sorted(kept, reverse=True)[:k] == [max(value, 0.0) for value in sorted(row, reverse=True)[:k]]


@given(z=BATCHES, k=st.integers(1, 9))
def test_batchtopk_keeps_the_largest_of_a_batch(z: np.ndarray, k: int) -> None:
    z = torch.from_numpy(z)
    latents = BatchTopK(k)(z)
    keep = k * len(z)
    assert int((latents > 0).sum()) <= keep
    expected = [max(value, 0.0) for value in sorted(z.flatten().tolist(), reverse=True)[:keep]]
    assert sorted(latents.flatten().tolist(), reverse=True)[:keep] == expected


def test_batchtopk_shares_latents_out_over_a_batch_until_it_has_a_threshold() -> None:
    z = torch.tensor([[5.0, 4.0, 3.0], [1.0, 0.5, -2.0]])
    assert BatchTopK(1)(z).tolist() == [[5.0, 4.0, 0.0], [0.0, 0.0, 0.0]]
    assert BatchTopK(1)(z[1:]).tolist() == [[1.0, 0.0, 0.0]]
    assert BatchTopK(2)(z).tolist() == [[5.0, 4.0, 3.0], [1.0, 0.0, 0.0]]
    fixed = BatchTopK(1, threshold=0.5)
    assert fixed(z).tolist() == [[5.0, 4.0, 3.0], [1.0, 0.0, 0.0]]
    for row in z:
        assert torch.equal(fixed(row.unsqueeze(0))[0], fixed(z)[z.eq(row).all(1)][0])


@given(z=BATCHES, threshold=st.floats(0, 2, width=32))
def test_a_threshold_makes_a_sample_independent_of_its_batch(z: np.ndarray, threshold: float) -> None:
    z = torch.from_numpy(z)
    for activation in (BatchTopK(1, threshold), JumpReLU(threshold)):
        whole = activation(z)
        assert torch.equal(whole, torch.cat([activation(row.unsqueeze(0)) for row in z]))
        assert torch.equal(whole, z * (z > threshold))


def test_jumprelu_takes_a_threshold_for_every_latent() -> None:
    z = torch.tensor([[0.1, 1.0, 2.1, 0.6], [-0.1, 1.1, 1.9, 0.5]])
    assert PER_LATENT(z).tolist() == [
        [z[0, 0].item(), 0.0, z[0, 2].item(), z[0, 3].item()],
        [0.0, z[1, 1].item(), 0.0, 0.0],
    ]
    assert JumpReLU(1)(torch.tensor([[1, 2]], dtype=torch.float64)).tolist() == [[0.0, 2.0]]


@pytest.mark.parametrize("activation", [*EVERY, PER_LATENT], ids=repr)
def test_it_comes_back_from_its_state(activation: Activation) -> None:
    again = from_state(activation.name, activation.state())
    assert type(again) is type(activation)
    z = torch.tensor([[0.1, 1.0, 2.1, 0.6], [-0.1, 1.1, 1.9, 0.5]])
    assert torch.equal(again(z), activation(z))
    assert repr(again) == repr(activation)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopK(0), "k=0"),
        (lambda: TopK(True), "k=True"),
        (lambda: TopK(1.5), "k=1.5"),  # type: ignore[arg-type]
        (lambda: TopK(float("inf")), "k=inf"),  # type: ignore[arg-type]
        (lambda: TopK(10**5000), "k=a number of 16610 bits: expected a whole number"),
        (lambda: BatchTopK(-2), "k=-2"),
        (lambda: BatchTopK(2, "x"), "threshold: expected one number or None, got str"),  # type: ignore[arg-type]
        (lambda: BatchTopK(2, torch.ones(4)), "expected one number or None, got torch.float32 of shape"),  # type: ignore[arg-type]
        (lambda: JumpReLU("x"), "threshold: expected numbers >= 0, got str"),  # type: ignore[arg-type]
        (lambda: JumpReLU(10**400), "threshold: expected numbers >= 0, got int"),
        (lambda: JumpReLU(torch.ones(3) * 1j), "expected numbers >= 0, got torch.complex64"),
        (lambda: JumpReLU(torch.ones(3).to(torch.float8_e4m3fn)), "expected numbers >= 0, got torch.float8_e4m3fn"),
        (lambda: JumpReLU(torch.ones(3).to_sparse()), "expected numbers >= 0, got a tensor of layout torch.sparse_coo"),
        (lambda: JumpReLU(torch.ones(3, device="meta")), "expected numbers >= 0, got a tensor without numbers"),
        (lambda: JumpReLU(torch.full((50, 50), float("nan"))), "threshold=nan"),
        (lambda: JumpReLU(-0.1), "threshold=-0.1"),
        (lambda: JumpReLU(float("nan")), "threshold=nan"),
        (lambda: JumpReLU(torch.tensor([0.1, -0.1])), "thresholds >= 0"),
        (lambda: from_state("gelu", {}), "unknown activation 'gelu'"),
        (lambda: from_state("topk", {}), "'topk' needs 'k'"),
        (
            lambda: from_state("jumprelu", {"k": torch.tensor(1)}),
            r"'jumprelu' needs 'threshold' in its state; found \['k'\]",
        ),
    ],
)
def test_what_is_no_activation_is_refused_in_one_line(make: Any, message: str) -> None:
    with pytest.raises(LrbenchError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
