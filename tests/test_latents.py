"""Selected latents give the numbers and the gradients of the dense formulas, on every path of the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from lrbench import activation
from lrbench.engine.encoder import Encoder
from lrbench.engine.latents import Active, Dense, Latents
from lrbench.engine.mode import use
from lrbench.engine.ops import rows
from lrbench.engine.selection import Selection
from lrbench.seeds import generator

N_SAMPLES, N_LATENTS, D_IN, D_OUT, K = 13, 29, 11, 7, 3
Select = Callable[[Encoder, Tensor], Latents]
CASES: dict[str, tuple[Select, Callable[[Tensor], Tensor]]] = {
    "topk": (lambda e, x: e.top(x, K), activation.TopK(K)),
    "batchtopk": (lambda e, x: e.batch_top(x, K), activation.BatchTopK(K)),
    "above": (lambda e, x: e.above(x, 0.0), torch.relu),
    "above, switched": (lambda e, x: sparse(e).above(x, 0.0), torch.relu),
}


@pytest.fixture(params=["auto", "reference"])
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    with use(request.param):
        yield request.param


def sparse(encoder: Encoder) -> Encoder:
    encoder.density = 0.0
    return encoder


def draw(*shape: int, stream: str) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(0, stream)).requires_grad_()


def weights() -> dict[str, Tensor]:
    shapes = {"w_enc": (N_LATENTS, D_IN), "b_enc": (N_LATENTS,), "w_dec": (N_LATENTS, D_OUT), "b_dec": (D_OUT,)}
    return {name: draw(*shape, stream=name) for name, shape in shapes.items()}


def x() -> Tensor:
    return draw(N_SAMPLES, D_IN, stream="x").detach()


def activated(select: Select, p: dict[str, Tensor]) -> Latents:
    pre = select(Encoder(p["w_enc"], p["b_enc"]), x())
    return pre.with_values(pre.values.relu())


def last_fired(latents: Latents) -> Tensor:
    steps = torch.arange(N_LATENTS, dtype=torch.float32)
    latents.mark_fired(steps, 99)
    return steps


def outcome(latents: Latents, p: dict[str, Tensor]) -> Tensor:
    """A number that depends on every differentiable answer."""
    whole, part = latents.decode(p["w_dec"], p["b_dec"]), latents.prefix(10).decode(p["w_dec"], p["b_dec"])
    scaled = latents.with_values(latents.values * latents.of_latent(p["b_enc"]))
    return whole.pow(2).sum() + (part - 1).pow(3).sum() + 0.7 * latents.l1() + 0.3 * scaled.values.sum()


@pytest.mark.parametrize("case", CASES)
def test_selected_latents_equal_the_dense_ones(case: str, path: str) -> None:
    select, sigma = CASES[case]
    p = weights()
    fast, dense = activated(select, p), Dense(sigma(x() @ p["w_enc"].T + p["b_enc"]))
    torch.testing.assert_close(fast.dense(), dense.dense(), rtol=1e-12, atol=1e-12)
    assert torch.equal(last_fired(fast), last_fired(dense))
    torch.testing.assert_close(fast.prefix(10).dense(), dense.prefix(10).dense(), rtol=1e-12, atol=1e-12)
    assert fast.n_samples == dense.n_samples == N_SAMPLES
    assert isinstance(fast, Dense) == (case == "above" or (path == "reference" and "above" in case))


@pytest.mark.parametrize("case", CASES)
def test_gradients_agree_in_float64(case: str, path: str) -> None:
    select, sigma = CASES[case]
    p = weights()
    fast = torch.autograd.grad(outcome(activated(select, p), p), list(p.values()))
    dense = Dense(sigma(x() @ p["w_enc"].T + p["b_enc"]))
    slow = torch.autograd.grad(outcome(dense, p), list(p.values()))
    for name, a, b in zip(p, fast, slow, strict=True):
        assert float((a - b).abs().max()) <= 1e-10 * max(1.0, float(b.abs().max())), name


def test_rows_have_the_gradient_of_indexing(path: str) -> None:
    w, places = draw(6, 4, stream="w"), torch.tensor([4, 1, 3])
    fast = torch.autograd.grad(rows(w, places).pow(3).sum(), w)[0]
    torch.testing.assert_close(fast, torch.autograd.grad(w[places].pow(3).sum(), w)[0])


@pytest.mark.parametrize("case", ["topk", "batchtopk"])
def test_a_k_beyond_the_width_keeps_every_positive_latent(case: str, path: str) -> None:
    p = {name: t.detach() for name, t in weights().items()}
    narrow = {"w_enc": p["w_enc"][:2], "b_enc": p["b_enc"][:2]}
    torch.testing.assert_close(
        activated(CASES[case][0], narrow).dense(), (x() @ narrow["w_enc"].T + narrow["b_enc"]).relu()
    )


def test_samples_without_a_winner_decode_to_the_bias(path: str) -> None:
    z = torch.full((3, 4), -1.0)
    z[1] = torch.tensor([5.0, 6.0, 7.0, 8.0])
    b_dec = torch.tensor([2.0, 3.0])
    pre = Encoder(torch.eye(4), torch.zeros(4)).batch_top(z, 1)
    decoded = pre.with_values(pre.values.relu()).decode(torch.ones(4, 2), b_dec)
    assert decoded.tolist() == [[2.0, 3.0], [23.0, 24.0], [2.0, 3.0]]  # three places for 8, 7 and 6


def test_a_selection_knows_its_samples_and_can_be_thinned() -> None:
    chosen = Selection(torch.tensor([3, 1, 2, 0], dtype=torch.int32), torch.tensor([0, 2, 2, 4], dtype=torch.int32), 5)
    assert chosen.samples.tolist() == [0, 0, 2, 2]
    thinned, places = chosen.where(chosen.indices < 3)
    assert places.tolist() == [1, 2, 3]
    assert thinned.samples.tolist() == [0, 2, 2]
    assert (thinned.indices.tolist(), thinned.offsets.tolist(), thinned.n_samples) == ([1, 2, 0], [0, 1, 1, 3], 3)
    matrix = Active(chosen, torch.tensor([1.0, 2.0, 3.0, 4.0])).dense()
    assert matrix.tolist() == [[0, 2, 0, 1, 0], [0, 0, 0, 0, 0], [4, 0, 3, 0, 0]]
