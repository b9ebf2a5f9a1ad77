"""The block minimisers against generic solvers, and the certificate of dictionaries from everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

import lrbench
from lrbench.activation import Activation, BatchTopK, JumpReLU, ReLU, TopK
from lrbench.cli import main
from lrbench.structure import Groups, Hierarchy
from lrbench.theory import (
    Certificate,
    absorbed_pattern,
    activation_pattern,
    approximate_loss,
    border_distance,
    certify,
    encoder,
    exact_loss,
    gradients,
    isolated,
    minimise_decoder,
    minimise_encoder,
    spurious_minimum,
    true_dictionary,
    worked_example,
    zero_loss_without_recovery,
)
from lrbench.theory.certificate import classify
from lrbench.theory.firing import Thresholds, TopOf
from lrbench.theory.loss import codes, targets_without_bias
from lrbench.theory.pattern import mask_of
from lrbench.theory.report import _statements

SIGMAS: list[Activation] = [ReLU(), JumpReLU(torch.tensor(0.2, dtype=torch.float64)), TopK(1), TopK(2)]


def world(n: int = 5, dim: int = 4, seed: int = 0, **law: object) -> lrbench.World:
    return lrbench.World(lrbench.WorldSpec(**{"n_features": n, "dims": (dim,), "interference": 1.0, **law}), seed)  # type: ignore[arg-type]


def dictionary(seed: int, n_latents: int, dim: int, sigma: Activation, bias: float = 0.1) -> lrbench.Dictionary:
    rng = torch.Generator().manual_seed(seed)
    w_enc, w_dec = (torch.randn(n_latents, dim, generator=rng, dtype=torch.float64) for _ in range(2))
    b_enc, b_dec = (bias * torch.randn(size, generator=rng, dtype=torch.float64) for size in (n_latents, dim))
    return lrbench.Dictionary(w_enc, b_enc, w_dec, b_dec, sigma)


def with_encoder(old: lrbench.Dictionary, w_enc: torch.Tensor) -> lrbench.Dictionary:
    return lrbench.Dictionary(w_enc, old.b_enc, old.W_dec, old.b_dec, old.activation, old.pair)


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.sampled_from(SIGMAS))
def test_the_encoder_block_agrees_with_a_generic_solver(seed: int, sigma: Activation) -> None:
    seen, model = isolated(world(seed=seed)), dictionary(seed, 4, 4, sigma)
    fires = codes(model, seen) > 0
    found = minimise_encoder(model, seen)
    scale = float(seen.weights @ seen.targets.pow(2).sum(1))
    if not fires.any():
        return
    assert found.exact
    assert found.stationarity is not None
    assert found.stationarity < 1e-9
    assert 0 <= found.gap < 1e-9 * scale
    threshold = 0.2 / seen.magnitude if isinstance(sigma, JumpReLU) else 0.0
    alone = Thresholds(torch.full((4,), threshold, dtype=torch.float64))
    faces = (TopOf(sigma.k) if isinstance(sigma, TopK) else alone).faces(fires)
    shift = torch.cat([model.b_enc / seen.magnitude, torch.zeros(1, dtype=torch.float64)])
    matrix = faces.matrix(seen.inputs, 4).toarray()
    bound = (faces.bound - shift[faces.upper] + shift[faces.lower]).numpy()

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w_enc = torch.from_numpy(flat).view(4, 4)
        z = (seen.inputs @ w_enc.T + shift[:-1]) * fires
        left = targets_without_bias(model, seen) - z @ model.W_dec
        slope = ((-2.0 * seen.weights.unsqueeze(1) * left @ model.W_dec.T) * fires).T @ seen.inputs
        return float(seen.weights @ left.pow(2).sum(1)) / scale, slope.flatten().numpy() / scale

    constraint = {"type": "ineq", "fun": lambda flat: matrix @ flat - bound, "jac": lambda flat: matrix}
    start = model.W_enc.flatten().numpy()
    options = {"ftol": 1e-14, "maxiter": 2000}
    generic = minimize(loss, start, jac=True, method="SLSQP", constraints=[constraint], options=options)
    assert found.lower / scale <= generic.fun + 1e-6
    assert found.loss / scale == pytest.approx(generic.fun, abs=1e-6)


@pytest.mark.parametrize("law", [Hierarchy((3,), root_rate=0.05), Groups(4, 1.0)], ids=lambda law: law.kind)
@pytest.mark.parametrize("pair", ["autoencoder", "crosscoder"])
def test_features_that_never_fire_alone_do_not_lead_the_solver_astray(law: Hierarchy | Groups, pair: str) -> None:
    truth = lrbench.World(lrbench.WorldSpec(13, (12, 12), rate=0.1, interference=0.9, structure=law), seed=0)
    seen = isolated(truth, pair)
    assert 8 <= (seen.weights == 0).sum() < 13
    for seed in range(12):
        model = dictionary(seed, 9, seen.inputs.shape[1], ReLU(), bias=0.3)
        model = lrbench.Dictionary(model.W_enc, model.b_enc, model.W_dec, None, ReLU(), pair)
        found, start = minimise_encoder(model, truth), approximate_loss(model, truth)
        assert found.exact
        assert 0 <= found.lower <= found.loss <= start
        assert found.gap <= 1e-8 * start
        assert approximate_loss(with_encoder(model, found.W_enc), truth) == pytest.approx(found.loss, rel=1e-3)


def test_a_solution_that_is_none_becomes_a_bracket(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, model = world(), dictionary(0, 4, 4, ReLU())
    assert minimise_encoder(model, truth).exact
    monkeypatch.setattr(encoder, "SOLVED", -1.0)
    found = minimise_encoder(model, truth)
    assert not found.exact
    assert 0 <= found.lower <= found.loss <= approximate_loss(model, truth)


def test_a_bent_world_is_seen_as_it_is() -> None:
    truth = world(12, 10, bend=0.8, interference=0.5)
    c, lone = truth.spec.mean_magnitude, truth.isolated().double()
    model = dictionary(0, 9, 10, ReLU())
    error = (lone - model.decode(model.encode(lone))).pow(2).sum(1) / c**2
    assert lone.norm(dim=1).sub(c).abs().max() > 0.05 * c
    assert approximate_loss(model, truth) == pytest.approx(float(isolated(truth).weights @ error))
    finite = world(6, 5, rate=0.2, magnitude_scale=0.0, bend=0.8)
    with pytest.raises(lrbench.LrbenchError, match=r"bend=0\.8; expected at most"):
        exact_loss(dictionary(0, 7, 5, ReLU()), finite)


def test_3_1_names_the_premise_that_fails_and_is_not_called_broken() -> None:
    quiet, noisy = (
        lrbench.World(lrbench.WorldSpec(20, (16,), rate=0.0025, interference=1.0, noise=noise)) for noise in (0.0, 0.5)
    )
    plain = true_dictionary(quiet)
    biased = lrbench.Dictionary(plain.W_enc, None, plain.W_dec, torch.full((16,), 0.075).double(), ReLU())
    verdicts = []
    for model, truth in ((plain, quiet), (plain, noisy), (biased, quiet)):
        found = certify(model, truth)
        rows = {row[0][:3]: row for row in _statements(found)}
        verdicts.append((found.bound.holds, rows["3.1"][1]))
    assert verdicts == [(True, "holds"), (False, "premise fails"), (False, "premise fails")]
    assert certify(biased, noisy).bound.unmet == ("the world has noise", "the dictionary has biases or thresholds")


@pytest.mark.parametrize("sigma", [*SIGMAS, BatchTopK(2), BatchTopK(2, 0.3)], ids=str)
def test_the_bracket_holds_the_exact_minimum_and_keeps_the_pattern(sigma: Activation) -> None:
    truth = world(10, 8)
    for seed in range(5):
        model = dictionary(seed, 12, 8, sigma)
        exact, bracket = minimise_encoder(model, truth), minimise_encoder(model, truth, max_variables=0)
        start = approximate_loss(model, truth)
        assert not bracket.exact
        assert bracket.lower <= exact.loss + 1e-9 * start
        assert exact.lower <= bracket.loss <= start
        moved = with_encoder(model, bracket.W_enc)
        assert activation_pattern(moved, truth) == activation_pattern(model, truth)
        assert approximate_loss(moved, truth) == pytest.approx(bracket.loss, rel=1e-9)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12))
def test_the_decoder_block_is_least_squares(seed: int, n: int, n_latents: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    z = torch.randn(n, n_latents, generator=rng, dtype=torch.float64).relu()
    targets, weights = torch.randn(n, 3, generator=rng, dtype=torch.float64), torch.rand(n, generator=rng).double()
    found = minimise_decoder(z, targets, weights)
    root = weights.sqrt().unsqueeze(1).numpy()
    solved = np.linalg.lstsq(root * z.numpy(), root * targets.numpy(), rcond=None)[0]
    assert found.loss == pytest.approx(
        float((weights.numpy() @ (targets.numpy() - z.numpy() @ solved) ** 2).sum()), abs=1e-9
    )
    assert found.gradient < 1e-8


def test_gradients_are_those_of_the_loss() -> None:
    truth = world(6, 5)
    for sigma in SIGMAS:
        model = dictionary(1, 7, 5, sigma)
        slope, size = gradients(model, truth), 1e-6
        for block, side in ((0, slope.W_enc), (1, slope.W_dec)):
            rows = [model.W_enc, model.W_dec]
            step = torch.zeros_like(rows[block])
            step[side.abs().sum(1).argmax()] = size
            ends = []
            for sign in (1.0, -1.0):
                moved = [w + sign * step * (number == block) for number, w in enumerate(rows)]
                ends.append(
                    approximate_loss(lrbench.Dictionary(moved[0], model.b_enc, moved[1], model.b_dec, sigma), truth)
                )
            assert (ends[0] - ends[1]) / 2 == pytest.approx(float((side * step).sum()), rel=1e-4, abs=1e-13)


def test_the_border_is_where_it_says() -> None:
    truth = world(6, 5)
    for sigma in SIGMAS:
        model = dictionary(2, 7, 5, sigma)
        distance, pattern = border_distance(model, truth), activation_pattern(model, truth)
        rng = torch.Generator().manual_seed(0)
        for _ in range(50):
            move = torch.randn(7, 5, generator=rng, dtype=torch.float64)
            inside = with_encoder(model, model.W_enc + 0.999 * distance * move / move.norm())
            assert activation_pattern(inside, truth) == pattern
        faces = [
            (row, step * truth_row / truth_row.norm() ** 2)
            for truth_row in isolated(truth).inputs
            for row in range(7)
            for step in (1.001 * distance * truth_row.norm(), -1.001 * distance * truth_row.norm())
        ]
        crossed = []
        for row, step in faces:
            moved = model.W_enc.clone()
            if isinstance(sigma, TopK):  # a face between two latents: both move
                for other in set(range(7)) - {row}:
                    pair = model.W_enc.clone()
                    pair[row], pair[other] = pair[row] + step / 2**0.5, pair[other] - step / 2**0.5
                    crossed.append(activation_pattern(with_encoder(model, pair), truth) != pattern)
            moved[row] += step
            crossed.append(activation_pattern(with_encoder(model, moved), truth) != pattern)
        assert any(crossed), sigma  # the nearest face lies where it says
    assert border_distance(*worked_example()) == pytest.approx(0.5**0.5)


def checked(model: lrbench.Dictionary, truth: lrbench.World) -> Certificate:
    certificate = certify(model, truth, n_samples=512)
    content = json.loads(json.dumps(certificate.to_dict(), allow_nan=False))
    assert content["classes"] == certificate.counts
    assert content["latents"] == list(certificate.classes)
    assert sum(certificate.counts.values()) == model.n_latents == len(certificate.classes)
    assert certificate.curvature.convex
    return certificate


def test_certificates_of_the_constructions() -> None:
    truth = lrbench.World(lrbench.WorldSpec(24, (20,), interference=0.4), seed=0)
    partition = [[0, 1], [2, 3], *([d] for d in range(4, 24))]
    spurious = checked(spurious_minimum(truth, partition, 30), truth)
    assert spurious.counts == {"dead": 8, "absorbed": 0, "split": 0, "monosemantic": 20, "polysemantic": 2}
    assert spurious.partial_minimum() is True
    assert not spurious.zero_loss
    assert spurious.border > 0.01
    zero = checked(zero_loss_without_recovery(truth, 30), truth)
    assert zero.zero_loss
    assert zero.counts["polysemantic"] == 24
    ceiling = checked(true_dictionary(truth), truth)
    assert ceiling.partial_minimum() is False
    assert ceiling.approximate_loss <= ceiling.true_bound
    assert ceiling.decoder_gap > 0.01 * ceiling.scale


def test_certificate_of_an_absorbed_dictionary() -> None:
    law = Hierarchy(branching=(3,), root_rate=0.05, fraction=0.5)
    truth = lrbench.World(lrbench.WorldSpec(32, (32,), interference=0.4, structure=law), seed=0)
    certificate = checked(absorbed_pattern(truth), truth)
    assert certificate.counts["absorbed"] == len(truth.spec.children) == 4
    assert certificate.unseen == 12
    assert certificate.bound.unmet == ("features are not independent", "the dictionary has biases or thresholds")


def test_classes() -> None:
    pattern = [set(), {0}, {1}, {1}, {0, 2}]
    spec = lrbench.WorldSpec(3, (3,))
    expected = ("dead", "monosemantic", "split", "split", "polysemantic")
    assert classify(mask_of(pattern, 3), None, spec) == expected
    tree = lrbench.WorldSpec(3, (3,), structure=Hierarchy((2,)))  # 0 is the parent of 1 and 2
    situations = mask_of([{0, 1, 2}, {0, 2}, {1}, {2}], 3)
    assert classify(situations, situations, tree) == ("polysemantic", "absorbed", "monosemantic", "monosemantic")
    nobody_else = mask_of([{0, 1, 2}, {0, 2}, {2}], 3)
    assert classify(nobody_else, nobody_else, tree) == ("polysemantic", "polysemantic", "monosemantic")


def test_the_bound_says_when_it_says_nothing() -> None:
    model = dictionary(0, 8, 4, ReLU())
    rare, common = (certify(model, world(rate=rate), 512).bound for rate in (0.1, 0.3))
    assert (rare.condition, rare.vacuous) == (True, False)
    assert (common.condition, common.vacuous) == (False, True)
    assert rare.limit == 0.2


def test_a_dictionary_of_another_world_is_refused() -> None:
    with pytest.raises(lrbench.LrbenchError, match="certify it on the task"):
        certify(dictionary(0, 8, 4, ReLU()), world(6, 5))


def test_a_dictionary_that_the_bench_did_not_train(tmp_path: Path) -> None:
    from sklearn.decomposition import MiniBatchDictionaryLearning

    task = lrbench.load_task("superposition/1.30x", "smoke")
    inputs = task.view().sites[0][:200].numpy()
    fitted = MiniBatchDictionaryLearning(16, max_iter=2, random_state=0).fit(inputs)
    rows = torch.from_numpy(fitted.components_)
    lrbench.Dictionary(rows, None, rows, None, TopK(2)).save(tmp_path / "foreign.safetensors")
    assert checked(lrbench.Dictionary.load(tmp_path / "foreign.safetensors"), task.world).n_latents == 16


def test_certify_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task, path = lrbench.load_task("absorption/even", "smoke", 1), tmp_path / "absorbed.safetensors"
    absorbed_pattern(task.world).save(path)
    command = ["certify", str(path), "--task", "absorption/even", "--suite", "smoke", "--seed", "1"]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"]["absorbed"] == len(task.world.spec.children)
    assert main(command) == 0
    assert "absorbed latents" in " ".join(capsys.readouterr().out.split())
    assert main(["certify", str(tmp_path / "none"), "--task", "absorption/even"]) == 2
    assert "cannot be read as a dictionary" in capsys.readouterr().err
