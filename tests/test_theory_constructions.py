"""Constructions at the size of the issue, realisability with proofs, and the weights of every kind of world."""

from __future__ import annotations

import pytest
import torch

import lrbench
from lrbench.activation import JumpReLU, ReLU, TopK
from lrbench.scoring.matching import similarity
from lrbench.structure import Hierarchy
from lrbench.theory import (
    absorbed_pattern,
    activation_pattern,
    approximate_loss,
    dropped_leaves,
    gradients,
    hierarchical_pattern,
    isolated,
    realise,
    situation_pattern,
    situations,
    spurious_minimum,
    zero_loss_without_recovery,
)
from lrbench.theory.loss import alone_probabilities, codes
from lrbench.theory.pattern import Realisation

PAIRS = ("autoencoder", "transcoder", "crosscoder")
PARTITION = [[2 * i, 2 * i + 1] for i in range(12)] + [[d] for d in range(24, 40)]


@pytest.fixture(scope="module")
def crowded() -> lrbench.World:
    return lrbench.World(lrbench.WorldSpec(40, (32, 32), interference=0.3), seed=0)


@pytest.mark.parametrize("pair", PAIRS)
def test_a_spurious_minimum_has_no_gradient_and_a_loss(crowded: lrbench.World, pair: str) -> None:
    found = spurious_minimum(crowded, PARTITION, 64, pair)
    slope = gradients(found, crowded)
    assert max(float(slope.W_enc.abs().max()), float(slope.W_dec.abs().max())) < 1e-10
    assert approximate_loss(found, crowded) > 0.05
    assert activation_pattern(found, crowded) == [set(block) for block in PARTITION] + [set()] * 36


@pytest.mark.parametrize("size", [1e-4, 1e-2])
def test_no_step_of_one_block_lowers_a_spurious_minimum(crowded: lrbench.World, size: float) -> None:
    """10,000 random steps per block and size, those of W_E that stay in its region; Σ M_d is about 0.34."""
    found, seen = spurious_minimum(crowded, PARTITION, 64), isolated(crowded)
    latents = codes(found, seen)
    winners, level = latents.argmax(1), approximate_loss(found, crowded)
    rng = torch.Generator().manual_seed(0)
    lowest, inside = torch.inf, 0
    for _ in range(100):
        moves = size * torch.randn(100, 64, 32, generator=rng, dtype=torch.float64)
        left = seen.targets - latents @ (found.W_dec + moves)
        lowest = min(lowest, float((seen.weights @ left.pow(2).sum(2).T).min()))
        z = seen.inputs @ (found.W_enc + moves).transpose(1, 2)
        kept = ((z.argmax(2) == winners) & (z.amax(2) > 0)).all(1)
        inside += int(kept.sum())
        left = seen.targets - z[kept].amax(2, keepdim=True) * found.W_dec[winners]
        lowest = min(lowest, float((seen.weights @ left.pow(2).sum(2).T).min()))
    assert inside > 9_000
    assert lowest >= level


@pytest.mark.parametrize(
    ("partition", "message"),
    [
        ([[0, 1]], "each of 0 to 39 once"),
        ([[d] for d in range(40)], "every block is single"),
        ([list(range(40))], r"no partial minimum lies inside|dependent"),
    ],
)
def test_a_partition_that_cannot_be_is_named(crowded: lrbench.World, partition: list[list[int]], message: str) -> None:
    with pytest.raises(lrbench.LrbenchError, match=message):
        spurious_minimum(crowded, partition)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize(("n", "dim", "interference"), [(32, 32, 0.3), (40, 32, 0.3), (125, 96, 0.1)])
def test_zero_loss_without_recovery(n: int, dim: int, interference: float, pair: str) -> None:
    truth = lrbench.World(lrbench.WorldSpec(n, (dim, dim), interference=interference), seed=1)
    found, seen = zero_loss_without_recovery(truth, n + 1, 0, pair), isolated(truth, pair)
    assert approximate_loss(found, truth) < 1e-12
    assert float(similarity(found.W_enc, seen.inputs).max()) <= 0.9
    assert float(similarity(found.W_dec, seen.targets).max()) <= 0.9


def test_zero_loss_says_what_it_needs(crowded: lrbench.World) -> None:
    with pytest.raises(lrbench.LrbenchError, match="at least n=40"):
        zero_loss_without_recovery(crowded, 39)


def proves(found: Realisation, inputs: torch.Tensor, n_latents: int) -> bool:
    """Farkas: y ≥ 0, yᵀG = 0, yᵀbound ≥ 0 and weight on a strict face."""
    y, faces = found.multipliers, found.faces
    assert y is not None
    combined = torch.from_numpy(faces.matrix(inputs, n_latents).T @ y.numpy())
    balanced = float(combined.abs().max()) < 1e-9 and float(y @ faces.bound) > -1e-9
    return balanced and bool((y >= 0).all()) and float(y[faces.strict].sum()) > 0.5


@pytest.mark.parametrize("sigma", [ReLU(), JumpReLU(0.5), TopK(1)], ids=lambda sigma: sigma.name)
def test_a_pattern_gets_an_encoder_or_a_proof(sigma: ReLU | JumpReLU | TopK) -> None:
    rng = torch.Generator().manual_seed(0)
    verdicts = set()
    for _ in range(20):
        inputs = torch.nn.functional.normalize(torch.randn(6, 3, generator=rng, dtype=torch.float64), dim=1)
        owner = torch.randint(3, (6,), generator=rng)
        pattern = [set((owner == latent).nonzero().flatten().tolist()) for latent in range(3)]
        found = realise(pattern, inputs, sigma)
        verdicts.add(found.W_enc is None)
        if found.W_enc is None:
            joint = isinstance(sigma, TopK)
            assert proves(found, inputs, 3 if joint else 1)
        else:
            fires = sigma(inputs @ found.W_enc.T) > 1e-9
            assert [set(column.nonzero().flatten().tolist()) for column in fires.T] == pattern
    assert verdicts == {True, False}


def test_a_pattern_on_the_border_says_so_and_foreign_features_are_refused() -> None:
    eye = torch.eye(3, dtype=torch.float64)
    inputs = torch.stack([eye[0], eye[1], -eye[1], eye[2], -eye[2], 0.6 * eye[0] + 0.8 * eye[1]])
    found = realise([{0, 5}], inputs, ReLU())  # 1 and 2 are opposite: both silent means both at 0
    assert found.W_enc is not None
    assert not found.inside
    assert (inputs @ found.W_enc[0])[1:5].abs().max() < 1e-9
    with pytest.raises(lrbench.LrbenchError, match=r"latent 0: \[9\], expected features of 0 to 2"):
        realise([{9}], eye, ReLU())
    assert realise([{0}], eye, ReLU()).inside


def test_alone_probabilities_are_those_of_the_samples(worlds: dict[str, lrbench.World]) -> None:
    n_samples = 40_000
    with pytest.raises(lrbench.LrbenchError, match="forest features"):
        alone_probabilities(worlds["forest"].spec)
    for name, world in worlds.items():
        if name == "forest":
            continue
        features = world.sample(n_samples, "alone")
        counts = torch.bincount(features.rows, minlength=n_samples)
        alone = torch.bincount(features.indices[counts[features.rows] == 1], minlength=world.spec.n_features)
        expected = torch.tensor(alone_probabilities(world.spec), dtype=torch.float64)
        spread = (n_samples * expected * (1 - expected)).sqrt()
        assert ((alone - n_samples * expected).abs() <= 5 * spread).all(), name
        assert expected.sum() > 0


def test_weights_are_the_second_moments_of_lone_features(worlds: dict[str, lrbench.World]) -> None:
    features = worlds["independent"].sample(100_000, "alone")
    counts = torch.bincount(features.rows, minlength=100_000)
    moment = float(features.values[counts[features.rows] == 1].double().pow(2).sum()) / 100_000
    assert float(isolated(worlds["independent"]).weights.sum()) == pytest.approx(moment, rel=0.03)


def test_the_second_moment_is_that_of_the_samples_everywhere() -> None:
    law = Hierarchy(branching=(3,), root_rate=0.2)
    spec = lrbench.WorldSpec(12, (12,), magnitude_min=0.3, magnitude_scale=0.7, structure=law)
    world = lrbench.World(spec, seed=0)
    drawn = float(world.sample(100_000, "moment").values.double().pow(2).mean())
    assert spec.mean_squared_magnitude == pytest.approx(drawn, rel=0.02)
    rates, alone = (torch.tensor(p, dtype=torch.float64) for p in (spec.rates, alone_probabilities(spec)))
    assert torch.equal(situations(world).weights, rates * spec.mean_squared_magnitude)
    assert torch.equal(isolated(world).weights, alone * spec.mean_squared_magnitude)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("branching", [(3,), (2, 2)])
def test_absorbed_pattern_drops_one_leaf_of_every_parent(branching: tuple[int, ...], pair: str) -> None:
    law = Hierarchy(branching=branching, root_rate=0.05)
    truth = lrbench.World(lrbench.WorldSpec(28, (32, 32), interference=0.4, structure=law), seed=0)
    before, after = (situation_pattern(make(truth, pair), truth) for make in (hierarchical_pattern, absorbed_pattern))
    dropped = dropped_leaves(truth, pair)
    assert set(dropped) == set(truth.spec.children)
    for latent, (old, new) in enumerate(zip(before, after, strict=True)):
        assert old - new == ({dropped[latent]} if latent in dropped else set())
        assert new <= old
    assert all(after[leaf] == {leaf} for leaf in dropped.values())


def test_absorption_needs_a_hierarchy(crowded: lrbench.World) -> None:
    with pytest.raises(lrbench.LrbenchError, match="use structure=Hierarchy"):
        absorbed_pattern(crowded)


def test_the_benchmark_measures_the_constructed_absorption() -> None:
    task = lrbench.load_task("absorption/even", "smoke")
    before, after = (lrbench.score(make(task.world), task) for make in (hierarchical_pattern, absorbed_pattern))
    assert before["absorption"] < 0.05
    assert after["absorption"] > 0.1
