"""Rules and terms: what is learned of σ and what is added to the loss, against explicit formulas."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lrbench import activation
from lrbench.dictionary import Dictionary
from lrbench.engine.encoder import Encoder
from lrbench.engine.latents import Dense
from lrbench.engine.mode import use
from lrbench.errors import LrbenchError
from lrbench.rules import BatchTopK, Gated, JumpReLU, Rule, TopK
from lrbench.terms import L0, L1, Anchors, AuxK, GateLoss, Prefixes, Step, squared_error
from lrbench.view import Budget

BATCH, LATENTS, D_IN, D_OUT = 7, 6, 5, 4


def step(rule: Rule | None = None, dead: tuple[int, ...] = ()) -> Step:
    """Return a training step with random numbers everywhere."""
    rng = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng)

    rule = rule or Rule()
    p = {
        "W_enc": normal(LATENTS, D_IN),
        "b_enc": normal(LATENTS),
        "W_dec": normal(LATENTS, D_OUT),
        "b_dec": normal(D_OUT),
    }
    p = {name: tensor.requires_grad_() for name, tensor in (p | rule.start(LATENTS)).items()}
    x, encoder = normal(BATCH, D_IN), Encoder(p["W_enc"], p["b_enc"])
    pre = rule.select(encoder, x, p)
    latents = rule.activate(pre, p)
    is_dead = torch.tensor([i in dead for i in range(LATENTS)])
    anchors = (normal(2, D_IN), normal(2, D_OUT))
    reconstruction = latents.decode(p["W_dec"], p["b_dec"])
    return Step(
        x=x, target=normal(BATCH, D_OUT), reconstruction=reconstruction, pre=pre, latents=latents,
        p=p, encoder=encoder, rule=rule, dead=is_dead, anchors=anchors,
    )  # fmt: skip


def z(s: Step) -> Tensor:
    """Return every pre-activation."""
    return s.x @ s.p["W_enc"].T + s.p["b_enc"]


def activate(rule: Rule, z: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Return a rule's latents from every pre-activation."""
    return rule.activate(Dense(z), p).dense()


def number(value: Tensor) -> float:
    return float(value.detach())


def error(target: Tensor, reconstruction: Tensor) -> float:
    """Return the batch mean of the squared distance, sample by sample."""
    return sum(number((t - r) @ (t - r)) for t, r in zip(target, reconstruction, strict=True)) / len(target)


def test_squared_error_sums_over_dimensions_and_averages_over_samples() -> None:
    s = step()
    assert number(squared_error(s.target, s.reconstruction)) == pytest.approx(
        error(s.target, s.reconstruction), rel=1e-5
    )
    assert number(squared_error(torch.ones(3, 4), torch.zeros(3, 4))) == 4.0


def test_l1_is_the_mean_sum_of_the_latents() -> None:
    s = step()
    expected = 0.3 * sum(max(0.0, value) for row in z(s).tolist() for value in row) / BATCH
    assert number(L1(0.3)(s)) == pytest.approx(expected, rel=1e-5)


def test_l0_is_the_mean_number_of_active_latents_and_moves_thresholds_only() -> None:
    s = step(JumpReLU(threshold=0.3, bandwidth=0.8))
    loss = L0(0.3)(s)
    assert number(loss) == pytest.approx(
        0.3 * sum(value > 0.3 for row in z(s).tolist() for value in row) / BATCH, rel=1e-5
    )
    loss.backward()
    assert s.p["W_enc"].grad is None or not s.p["W_enc"].grad.any()
    inside = [sum(abs(row[i] - 0.3) < 0.4 for row in z(s).tolist()) for i in range(LATENTS)]
    expected = [
        -0.3 * 0.3 * count / (0.8 * BATCH) for count in inside
    ]  # the chain rule through log θ brings the second 0.3
    assert s.p["log_threshold"].grad is not None
    assert s.p["log_threshold"].grad.tolist() == pytest.approx(expected, rel=1e-4)


def test_gate_loss_reconstructs_from_the_gate_through_a_frozen_decoder() -> None:
    s = step(Gated())
    gate = z(s).relu()
    through = gate @ s.p["W_dec"] + s.p["b_dec"]
    loss = GateLoss(0.3)(s)
    expected = 0.3 * number(gate.sum()) / BATCH + error(s.target, through)
    assert number(loss) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert s.p["W_dec"].grad is None
    assert s.p["b_dec"].grad is None
    assert s.p["W_enc"].grad is not None
    assert bool(s.p["W_enc"].grad.any())


@pytest.mark.parametrize("path", ["auto", "reference"])
@pytest.mark.parametrize("pairs", [1000, 6, 1])
@pytest.mark.parametrize("dead", [(), (1,), (1, 3), (0, 1, 3, 5)])
def test_auxk_lets_the_largest_dead_latents_explain_the_residual(dead: tuple[int, ...], pairs: int, path: str) -> None:
    with use(path):
        check_auxk(dead, pairs)


def check_auxk(dead: tuple[int, ...], pairs: int) -> None:
    s = step(TopK(2), dead)
    k = min(len(dead), D_OUT // 2)
    residual, loss = s.target - s.reconstruction, AuxK(0.5, pairs)(s)
    few = {1000: BATCH, 6: 3, 1: 1}[pairs]  # two of them per sample
    explained = torch.zeros(few, D_OUT)
    for row in range(few):
        for i in sorted(dead, key=lambda i: -number(z(s)[row, i]))[:k]:
            explained[row] += max(0.0, number(z(s)[row, i])) * s.p["W_dec"][i]
    assert number(loss) == pytest.approx(0.5 * error(residual[:few], explained) if dead else 0.0, rel=1e-5)
    if dead:
        loss.backward()
        moved = s.p["W_dec"].grad.abs().sum(1) > 0  # type: ignore[union-attr]
        assert set(moved.nonzero().flatten().tolist()) <= set(dead)  # the living are left alone
        assert s.p["b_dec"].grad is None


def test_prefixes_add_the_loss_of_every_nested_dictionary() -> None:
    s = step()
    expected = 0.0
    for m in (2, 3, 1):  # a third, a half, and never less than one latent
        expected += error(s.target, s.latents.dense()[:, :m] @ s.p["W_dec"][:m] + s.p["b_dec"])
    assert number(Prefixes(0.7, shares=(1 / 3, 1 / 2, 1 / 100))(s)) == pytest.approx(0.7 * expected, rel=1e-5)


def test_anchors_pull_the_first_latents_to_the_known_features() -> None:
    s = step()
    expected = sum(
        number(((s.p[name][i] - side[i]) ** 2).sum())
        for name, side in zip(("W_enc", "W_dec"), s.anchors, strict=True)
        for i in range(2)
    )
    loss = Anchors(0.2)(s)
    assert number(loss) == pytest.approx(0.2 * expected, rel=1e-5)
    loss.backward()
    for name, side in zip(("W_enc", "W_dec"), s.anchors, strict=True):
        grad = s.p[name].grad
        assert grad is not None
        assert torch.allclose(grad[:2], 0.4 * (s.p[name][:2] - side))
        assert not grad[2:].any()


def test_jumprelu_gradients_are_those_of_the_expectation() -> None:
    """The straight-through gradients, averaged over z, against a finite difference of E[σ(z)] and of E[1(z > θ)]."""
    z = torch.linspace(-1, 3, 400_001, dtype=torch.float64).unsqueeze(1)  # uniform: an estimate by a box has no bias
    rule, h = JumpReLU(bandwidth=0.2), 1e-3

    def expectation(theta: float, value: bool) -> float:
        kept = z > theta
        return float((z * kept if value else kept.double()).mean())

    for theta in (0.3, 0.7, 1.5):
        for value in (True, False):
            p = {"log_threshold": torch.tensor([math.log(theta)], dtype=torch.float64, requires_grad=True)}
            (activate(rule, z, p).mean() if value else rule.count(Dense(z), p)).backward()
            numeric = (expectation(theta + h, value) - expectation(theta - h, value)) / (2 * h)
            assert float(p["log_threshold"].grad) / theta == pytest.approx(numeric, rel=0.01)  # type: ignore[arg-type]


def test_jumprelu_passes_gradients_to_what_is_active_only() -> None:
    z = torch.tensor([[0.05, 0.29, 0.31, 2.0]], requires_grad=True)
    p = {"log_threshold": torch.full((4,), math.log(0.3), requires_grad=True)}
    rule = JumpReLU(bandwidth=0.1)
    activate(rule, z, p).sum().backward()
    assert z.grad is not None
    assert z.grad.tolist() == [[0.0, 0.0, 1.0, 1.0]]
    assert p["log_threshold"].grad is not None
    assert p["log_threshold"].grad.tolist() == pytest.approx(
        [0.0, -0.9, -0.9, 0.0], rel=1e-4
    )  # -θ/ε, times θ for log θ


@pytest.mark.parametrize("seed", range(3))
def test_a_gated_dictionary_is_the_function_that_was_trained(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    p = {"W_enc": torch.randn(40, 8, generator=rng), "b_enc": torch.randn(40, generator=rng)}
    p |= {"log_scale": torch.randn(40, generator=rng), "b_mag": torch.randn(40, generator=rng)}
    p = {name: tensor.double() for name, tensor in p.items()}
    x = torch.randn(500, 8, generator=rng).double()
    z = x @ p["W_enc"].T + p["b_enc"]
    trained = activate(Gated(), z, p)
    w_enc, b_enc, sigma = Gated().freeze(p, z)
    frozen = Dictionary(w_enc, b_enc, w_enc, None, sigma).encode(x)
    assert torch.allclose(frozen, trained, atol=1e-12)
    gate_closed, magnitude_closed = (z <= 0) & (trained == 0), (z > 0) & (trained == 0)
    assert min(int(gate_closed.sum()), int(magnitude_closed.sum()), int((trained > 0).sum())) > 100  # every case occurs


def test_jumprelu_and_topk_freeze_to_what_they_trained() -> None:
    z = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    p = {"W_enc": torch.ones(6, 3), "b_enc": torch.ones(6), "log_threshold": torch.linspace(-2, 0, 6)}
    for rule in (Rule(), JumpReLU()):
        w_enc, b_enc, sigma = rule.freeze(p, z)
        assert w_enc is p["W_enc"]
        assert b_enc is p["b_enc"]
        assert torch.equal(sigma(z), activate(rule, z, p))
    encoder = Encoder(torch.eye(6), torch.zeros(6))
    selected = TopK(2).activate(TopK(2).select(encoder, z, p), p).dense()
    torch.testing.assert_close(TopK(2).freeze(p, z)[2](z), selected)


def test_batchtopk_freezes_to_the_threshold_that_lets_k_pass() -> None:
    z = torch.randn(1000, 20, generator=torch.Generator().manual_seed(0))
    p = {"W_enc": torch.ones(20, 3), "b_enc": torch.ones(20)}
    for k in (1, 3, 8):
        _, _, sigma = BatchTopK(k).freeze(p, z)
        assert isinstance(sigma, activation.BatchTopK)
        assert float((sigma(z) > 0).sum(1).float().mean()) == pytest.approx(k, abs=0.002)
    _, _, sigma = BatchTopK(15).freeze(p, z)  # more than are positive
    assert isinstance(sigma, activation.BatchTopK)
    assert sigma.threshold == 0.0
    assert torch.equal(sigma(z), z.relu())


@pytest.mark.parametrize("rule", [TopK(), BatchTopK()])
def test_a_rule_that_does_not_know_its_k_says_so(rule: TopK) -> None:
    z = torch.randn(5, LATENTS, generator=torch.Generator().manual_seed(0))
    p = {"W_enc": torch.eye(LATENTS), "b_enc": torch.zeros(LATENTS)}
    message = f"{type(rule).__name__}\\(k=None\\): expected a number of latents; give k, or call bind\\(budget\\)"
    with pytest.raises(LrbenchError, match=message):
        rule.select(Encoder(p["W_enc"], p["b_enc"]), z, p)
    with pytest.raises(LrbenchError, match=message):
        rule.freeze(p, z)


def test_k_comes_from_the_budget_unless_it_is_given() -> None:
    budget = Budget(n_latents=10, n_samples=100, batch_size=10, l0=3)
    assert [TopK().bind(replace(budget, l0=l0)).k for l0 in (0.2, 2.4, 3.0, 3.6, 99.0)] == [1, 2, 3, 4, 10]
    assert [BatchTopK().bind(replace(budget, l0=l0)).k for l0 in (0.2, 2.4, 3, 99.0)] == [0.2, 2.4, 3, 10]
    assert [rule.bind(budget).k for rule in (TopK(k=7), BatchTopK(k=7.5))] == [7, 7.5]
    bound = TopK().bind(budget)
    assert Rule().bind(budget) == Rule()
    assert replace(bound, k=2).bind(budget).k == 2
