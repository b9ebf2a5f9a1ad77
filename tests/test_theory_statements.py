"""The paper's statements 3.1 to 3.8 on random worlds, each with a twin that breaks its premise and sees it fail."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lrbench
from lrbench.activation import JumpReLU, ReLU, TopK
from lrbench.structure import Groups, Hierarchy
from lrbench.theory import (
    Isolated,
    absorb,
    activation_pattern,
    approximate_loss,
    exact_loss,
    gradients,
    isolated,
    minimise_encoder,
    realise,
    sampled_loss,
    spurious_minimum,
    true_dictionary,
    true_dictionary_bound,
    worked_example,
    zero_loss_without_recovery,
)
from lrbench.theory.blocks import minimise_decoder
from lrbench.theory.firing import firing_rule
from lrbench.theory.loss import codes

SEEDS = st.integers(0, 10**6)
EPS = 1e-12


def world(seed: int, n: int = 6, dim: int = 5, **law: object) -> lrbench.World:
    return lrbench.World(lrbench.WorldSpec(**{"n_features": n, "dims": (dim, dim), "interference": 1.0, **law}), seed)  # type: ignore[arg-type]


def dictionary(seed: int, n_latents: int, dim: int, activation: object = None) -> lrbench.Dictionary:
    rng = torch.Generator().manual_seed(seed)
    rows = [torch.randn(n_latents, dim, generator=rng, dtype=torch.float64) for _ in range(2)]
    return lrbench.Dictionary(rows[0], None, rows[1], None, activation or ReLU())  # type: ignore[arg-type]


def with_rows(old: lrbench.Dictionary, w_enc: torch.Tensor, w_dec: torch.Tensor) -> lrbench.Dictionary:
    return lrbench.Dictionary(w_enc, None, w_dec, None, old.activation, old.pair)


@settings(max_examples=25)
@given(SEEDS, st.integers(2, 8), st.floats(0.05, 1.0), st.sampled_from([ReLU(), TopK(2)]))
def test_3_1_the_approximation_is_as_close_as_it_says(seed: int, n: int, share: float, sigma: object) -> None:
    truth = world(seed, n, rate=share / n, magnitude_scale=0.0)
    model = dictionary(seed, 7, 5, sigma)
    exact = exact_loss(model, truth)
    assert truth.spec.extreme_sparsity
    bound = n**2 * exact.largest * truth.spec.rate**2
    assert abs(exact.mean - approximate_loss(model, truth)) <= bound * (1 + EPS)


def test_3_1_fails_where_features_fire_together() -> None:
    """1−S ≤ 1/n holds and the bound is not vacuous, but the proof's union bound needs Pr(i and j) ≤ (1−S)²."""
    truth = world(0, 2, rate=0.1, magnitude_scale=0.0, structure=Groups(size=2, cohesion=1.0))
    model = dictionary(0, 4, 5)
    loss = sampled_loss(model, truth, 20_000)
    assert truth.spec.extreme_sparsity
    difference = abs(loss.mean - approximate_loss(model, truth))
    assert difference - 5 * loss.standard_error > 2**2 * loss.largest * truth.spec.rate**2


def test_exact_and_sampled_loss_agree() -> None:
    truth, model = world(1, rate=0.2, magnitude_scale=0.0), dictionary(1, 7, 5)
    exact, sampled = exact_loss(model, truth), sampled_loss(model, truth, 20_000)
    assert abs(exact.mean - sampled.mean) < 5 * sampled.standard_error
    assert sampled.largest <= exact.largest * (1 + 1e-5)


@settings(max_examples=25)
@given(SEEDS, st.sampled_from([ReLU(), TopK(1), TopK(2)]))
def test_3_2_each_block_is_convex_inside_a_pattern(seed: int, sigma: object) -> None:
    seen, model = isolated(world(seed)), dictionary(seed, 7, 5, sigma)
    rng = torch.Generator().manual_seed(seed)
    z, move = seen.inputs @ model.W_enc.T, torch.randn(7, 5, generator=rng, dtype=torch.float64)
    steps = firing_rule(model, seen, z).steps_to_border(z, seen.inputs @ move.T, codes(model, seen) > 0)
    reach = 0.99 * steps.clamp_max(10.0).unsqueeze(1)
    for enc, dec in ((reach * move, 0.0), (0.0, move)):
        path = [with_rows(model, model.W_enc + t * enc, model.W_dec + t * dec) for t in (0.0, 0.5, 1.0)]
        assert [activation_pattern(point, seen) for point in path[1:]] == [activation_pattern(path[0], seen)] * 2
        first, middle, last = (approximate_loss(point, seen) for point in path)
        assert middle <= (first + last) / 2 + EPS * (first + last)


@pytest.mark.parametrize(
    ("first", "last"), [((1.0, 1.0), (4.0, 0.25)), ((-1.0, 2.0), (0.5, 2.0))], ids=["both blocks", "across the border"]
)
def test_3_2_fails(first: tuple[float, float], last: tuple[float, float]) -> None:
    one = torch.ones(1, 1, dtype=torch.float64)
    seen = Isolated(one, one, one[0])

    def loss(w_enc: float, w_dec: float) -> float:
        return approximate_loss(lrbench.Dictionary(w_enc * one, None, w_dec * one, None, ReLU()), seen)

    middle = loss((first[0] + last[0]) / 2, (first[1] + last[1]) / 2)
    assert middle > (loss(*first) + loss(*last)) / 2 + 0.1


@settings(max_examples=25)
@given(SEEDS, st.integers(2, 12), st.integers(0, 3), st.sampled_from(["autoencoder", "transcoder", "crosscoder"]))
def test_3_3_the_true_dictionary_is_bounded(seed: int, n: int, more: int, pair: str) -> None:
    truth = world(seed, n)
    loss = approximate_loss(true_dictionary(truth, n + more, pair), truth)
    assert loss <= true_dictionary_bound(truth, pair) * (1 + EPS) + 1e-28


def test_3_3_fails_with_too_few_latents() -> None:
    eye = torch.eye(4, dtype=torch.float64)
    seen = Isolated(eye, eye, torch.ones(4, dtype=torch.float64))
    full = true_dictionary(seen)
    assert approximate_loss(full, seen) == true_dictionary_bound(seen) == 0.0
    assert approximate_loss(with_rows(full, full.W_enc[:3], full.W_dec[:3]), seen) == 1.0
    with pytest.raises(lrbench.LrbenchError, match=r"n_latents=3: statement 3\.3"):
        true_dictionary(seen, 3)


@settings(max_examples=10)
@given(SEEDS)
def test_3_4_zero_loss_is_exactly_a_perfect_reconstruction(seed: int) -> None:
    truth = world(seed, 40, 32, interference=0.5)
    found = zero_loss_without_recovery(truth, 44, seed)
    assert approximate_loss(found, truth) < 1e-25
    moved = with_rows(found, found.W_enc, found.W_dec + 1e-3 * found.W_dec.roll(1, 0))
    assert approximate_loss(moved, truth) > 1e-10


@settings(max_examples=10)
@given(SEEDS)
def test_3_4_fails_where_every_feature_has_a_latent_of_its_own(seed: int) -> None:
    """One latent per feature leaves nothing undetermined: with any encoder of that pattern, zero loss is the truth on W_D's side."""
    truth, rng = world(seed, 8, 10, interference=0.8), torch.Generator().manual_seed(seed)
    seen, owner = isolated(truth), torch.randperm(8, generator=rng)
    pattern = [{int(feature)} for feature in owner]
    w_enc = realise(pattern, seen.inputs, ReLU()).W_enc
    assert w_enc is not None
    w_enc = w_enc * (0.5 + torch.rand(8, 1, generator=rng, dtype=torch.float64))
    model = with_rows(dictionary(seed, 8, 10), w_enc, w_enc)
    assert activation_pattern(model, seen) == pattern
    decoder = minimise_decoder(codes(model, seen), seen.targets, seen.weights)
    assert decoder.loss < 1e-20
    cosine = torch.nn.functional.cosine_similarity(decoder.W_dec, seen.targets[owner], dim=1)
    assert float(cosine.min()) > 1 - 1e-9


def test_3_5_the_worked_example_is_exact() -> None:
    example, seen = worked_example()
    slope = gradients(example, seen)
    assert approximate_loss(example, seen) == 1.0
    assert not slope.W_enc.any()
    assert not slope.W_dec.any()
    assert activation_pattern(example, seen) == [{0, 1}, set()]


def test_3_5_fails_with_unequal_weights() -> None:
    example, seen = worked_example()
    heavier = Isolated(seen.inputs, seen.targets, torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert gradients(example, heavier).W_dec.abs().max() > 0.1


@settings(max_examples=15)
@given(SEEDS, st.integers(1, 8), st.sampled_from(["autoencoder", "transcoder", "crosscoder"]))
def test_3_6_a_partition_has_a_partial_minimum(seed: int, pairs: int, pair: str) -> None:
    truth = world(seed, 20, 24, interference=0.4)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed)).tolist()
    partition = [order[2 * i : 2 * i + 2] for i in range(pairs)] + [[d] for d in order[2 * pairs :]]
    found = spurious_minimum(truth, partition, 30, pair)
    slope, scale = gradients(found, truth), float(isolated(truth, pair).weights.sum())
    assert activation_pattern(found, truth) == [set(block) for block in partition] + [set()] * (10 + pairs)
    assert max(slope.W_enc.abs().max(), slope.W_dec.abs().max()) < 1e-12 * scale
    assert approximate_loss(found, truth) > 1e-3 * scale


@settings(max_examples=10)
@given(SEEDS)
def test_3_6_as_printed_leaves_a_gradient_in_the_encoder(seed: int) -> None:
    """Any realising W_E with the best decoder: W_D's gradient vanishes, W_E's does not."""
    seen = isolated(world(seed, 8, 10, interference=0.5))
    pattern = [{0, 1}, {2, 3}, *({d} for d in range(4, 8))]
    w_enc = realise(pattern, seen.inputs, ReLU()).W_enc
    assert w_enc is not None
    skewed = w_enc + 0.1 * w_enc.norm(dim=1, keepdim=True) * torch.linalg.pinv(seen.inputs).T[[0, 2, 4, 5, 6, 7]]
    printed = with_rows(dictionary(0, 6, 10), skewed, skewed)
    assert activation_pattern(printed, seen) == pattern
    decoder = minimise_decoder(codes(printed, seen), seen.targets, seen.weights).W_dec
    slope, scale = gradients(with_rows(printed, skewed, decoder), seen), float(seen.weights.sum())
    assert slope.W_dec.abs().max() < 1e-10 * scale
    assert slope.W_enc.abs().max() > 1e-5 * scale


def test_3_6_fails_for_two_orthogonal_features_of_unequal_weight() -> None:
    """Realisable, polysemantic and a partition, yet descent in the two blocks drops the lighter feature."""
    example, seen = worked_example()
    heavier = Isolated(seen.inputs, seen.targets, torch.tensor([1.0, 2.0], dtype=torch.float64))
    with pytest.raises(lrbench.LrbenchError, match=r"block \[0, 1\]: no partial minimum lies inside"):
        spurious_minimum(heavier, [[0, 1]], 2)
    point = example
    for _ in range(40):
        decoder = minimise_decoder(codes(point, heavier), heavier.targets, heavier.weights).W_dec
        point = with_rows(point, minimise_encoder(with_rows(point, point.W_enc, decoder), heavier).W_enc, decoder)
    scores = point.W_enc[0]
    assert float(scores[0] / scores[1]) < 1e-5
    assert approximate_loss(point, heavier) == pytest.approx(1.0, abs=1e-6)


@settings(max_examples=10)
@given(SEEDS, st.integers(2, 4), st.sampled_from([1.0, 0.5]))
def test_3_7_a_parent_is_active_exactly_when_a_sub_concept_is(seed: int, width: int, share: float) -> None:
    """The paper's hierarchy is the world's with p = 1; with p < 1 the definition fails, a parent is active alone."""
    law = Hierarchy(branching=(width,), root_rate=0.2, child_given_parent=share)
    truth = world(seed, 3 * (1 + width), structure=law)
    x = truth.sample(2000).dense(truth.spec.n_features) > 0
    agree = [bool((x[:, parent] == x[:, children].any(1)).all()) for parent, children in truth.spec.children.items()]
    assert all(agree) if share == 1.0 else not any(agree)


def families(seed: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Nine unit concepts in three families, and a row for each that fires for its own three alone at threshold ½."""
    rng = torch.Generator().manual_seed(seed)
    concepts = torch.nn.functional.normalize(torch.randn(9, 12, generator=rng, dtype=torch.float64), dim=1)
    dual = torch.linalg.pinv(concepts)
    wanted = 0.6 + torch.rand(3, 3, generator=rng, dtype=torch.float64)
    return concepts, [dual[:, 3 * parent : 3 * parent + 3] @ wanted[parent] for parent in range(3)]


@settings(max_examples=25)
@given(SEEDS)
def test_3_8_an_absorbed_pattern_is_realisable(seed: int) -> None:
    concepts, rows = families(seed)
    for parent, row in enumerate(rows):
        family = [3 * parent, 3 * parent + 1, 3 * parent + 2]
        step = absorb(row, concepts, family, 0.5)
        assert set((concepts @ step.row > 0.5).nonzero().flatten().tolist()) == set(family) - {step.dropped}
        assert (concepts @ step.added > 0.5).nonzero().flatten().tolist() == [step.dropped]


def test_3_8_as_printed_switches_other_parents_off() -> None:
    """Raising the common threshold drops j*, and with it all of a parent whose row is shorter."""
    concepts, rows = families(0)
    quiet = [rows[0], 0.55 / float((concepts @ rows[1])[3:6].min()) * rows[1]]
    weakest, second = (concepts @ quiet[0])[:3].sort().values[:2]
    raised = float(weakest + second) / 2
    assert raised > float((concepts @ quiet[1])[3:6].min())
    lost = int(((concepts @ quiet[1])[3:6] <= raised).sum())
    assert lost >= 1
    step = absorb(quiet[0], concepts, [0, 1, 2], 0.5)
    assert int((concepts @ step.row > 0.5).sum()) == 2
    assert int((concepts @ quiet[1] > 0.5).sum()) == 3


def test_3_8_fails_where_a_sub_concept_cannot_be_told_from_another() -> None:
    """With two parallel concepts (M = 1) no encoder drops one of the family and keeps the other: the pattern has a refutation."""
    concepts, _ = families(0)
    assert realise([{1, 2}, {0}], concepts, JumpReLU(0.5)).W_enc is not None
    parallel = torch.cat([concepts[1:2], concepts[1:]])
    refuted = realise([{1, 2}, {0}], parallel, JumpReLU(0.5))
    assert refuted.W_enc is None
    assert refuted.multipliers is not None
    assert float(refuted.multipliers[refuted.faces.strict].sum()) > 0.5
    row = torch.linalg.pinv(parallel)[:, :3].sum(1)
    with pytest.raises(lrbench.LrbenchError, match="two sub-concepts with different scores"):
        absorb(row / float((parallel @ row)[:3].min()), parallel, [0, 1, 2], 0.5)


def test_3_8_needs_a_parent_that_fires_for_its_family_alone() -> None:
    concepts, rows = families(0)
    with pytest.raises(lrbench.LrbenchError, match="not for it"):
        absorb(rows[0], concepts, [0, 1, 3], 0.5)
