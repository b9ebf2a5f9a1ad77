"""Active latents give the numbers and the gradients of the dense reference."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lrbench import activation
from lrbench.engine.latents import Active, Dense, Latents, select_batch_topk, select_topk
from lrbench.seeds import generator

N_SAMPLES, N_LATENTS, D_OUT, K = 13, 29, 7, 3
Select = Callable[[Tensor, int], Active]
CASES = [(select_topk, activation.TopK(K)), (select_batch_topk, activation.BatchTopK(K))]


def draw(*shape: int, stream: str = "z") -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(0, stream)).requires_grad_()


def outcome(latents: Latents, w_dec: Tensor, b_dec: Tensor) -> Tensor:
    """A number that depends on every differentiable answer."""
    whole, part = latents.decode(w_dec, b_dec), latents.prefix(10).decode(w_dec, b_dec)
    return whole.pow(2).sum() + (part - 1).pow(3).sum() + 0.7 * latents.l1()


@pytest.mark.parametrize(("select", "reference"), CASES, ids=["topk", "batchtopk"])
def test_active_latents_equal_the_reference(select: Select, reference: Callable[[Tensor], Tensor]) -> None:
    z = draw(N_SAMPLES, N_LATENTS)
    active, dense = select(z, K), Dense(reference(z))
    torch.testing.assert_close(active.dense(), dense.dense())
    assert torch.equal(active.fired(), dense.fired())
    torch.testing.assert_close(active.prefix(10).dense(), dense.prefix(10).dense())


@pytest.mark.parametrize(("select", "reference"), CASES, ids=["topk", "batchtopk"])
def test_gradients_agree_in_float64(select: Select, reference: Callable[[Tensor], Tensor]) -> None:
    z, w_dec, b_dec = draw(N_SAMPLES, N_LATENTS), draw(N_LATENTS, D_OUT, stream="w"), draw(D_OUT, stream="b")
    fast = torch.autograd.grad(outcome(select(z, K), w_dec, b_dec), (z, w_dec, b_dec))
    slow = torch.autograd.grad(outcome(Dense(reference(z)), w_dec, b_dec), (z, w_dec, b_dec))
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("select", [select_topk, select_batch_topk])
def test_a_k_beyond_the_width_keeps_every_positive_latent(select: Select) -> None:
    z = draw(N_SAMPLES, 4)
    torch.testing.assert_close(select(z, 9).dense(), z.relu())


def test_samples_without_a_winner_decode_to_the_bias() -> None:
    z = torch.full((3, 4), -1.0)
    z[1] = torch.tensor([5.0, 6.0, 7.0, 8.0])
    b_dec = torch.tensor([2.0, 3.0])
    decoded = select_batch_topk(z, 1).decode(torch.ones(4, 2), b_dec)
    assert torch.equal(decoded[0], b_dec)
    assert torch.equal(decoded[1], b_dec + 21.0)
    assert torch.equal(decoded[2], b_dec)
