"""SAELens' synthetic models: the published world against theirs, theirs as tasks of ours, ours as theirs, and their metrics."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import lrbench
from lrbench.activation import ReLU, TopK
from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError, Unavailable
from lrbench.scoring.sae_lens_metrics import sae_lens_metrics
from lrbench.structure import Copula, Forest, Groups, Magnitudes, WorldSpec
from lrbench.world import World

SAMPLES, CHUNK = 60_000, 1000
SMALL = WorldSpec(
    30,
    (16,),
    interference=1.0,
    structure=Forest(2, (2, 2)),
    zipf=0.5,
    rate_range=(0.05, 0.5),
    copula=Copula(3, 0.4),
    magnitudes=Magnitudes(1.5, 1.0, 0.5, 0.3),
    offset=0.5,
)


@pytest.fixture(scope="module")
def synthetic() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages that it imports
        pytest.importorskip("sae_lens")
        return pytest.importorskip("sae_lens.synthetic")


def published(synthetic: Any) -> Any:
    """Return SAELens' own model of the published configuration, but for its directions, which no feature depends on."""
    from sae_lens.synthetic import firing_magnitudes, firing_probabilities, synthetic_model

    config = synthetic_model.SyntheticModelConfig(
        num_features=16_384,
        hidden_dim=768,
        firing_probability=firing_probabilities.ZipfianFiringProbabilityConfig(
            exponent=0.5, max_prob=0.4, min_prob=5e-4
        ),
        hierarchy=synthetic.HierarchyConfig(
            total_root_nodes=128,
            branching_factor=4,
            max_depth=3,
            mutually_exclusive_portion=1.0,
            compensate_probabilities=True,
            scale_children_by_parent=True,
        ),
        orthogonalization=None,
        correlation=synthetic_model.LowRankCorrelationConfig(rank=25, correlation_scale=0.1),
        std_firing_magnitudes=firing_magnitudes.FoldedNormalMagnitudeConfig(mean=0.5, std=0.5),
        mean_firing_magnitudes=firing_magnitudes.LinearMagnitudeConfig(start=5.0, end=4.0),
        bias=0.5,
        seed=42,
    )
    return synthetic.SyntheticModel(config, device="cpu")


class Moments:
    """Sums over samples: activity, magnitudes and their squares by feature, activity of pairs, and the L0 of all and of the first 4,096."""

    def __init__(self, pairs: tuple[torch.Tensor, torch.Tensor]) -> None:
        self._pairs = pairs
        self.active, self.values, self.squares, self.together = (torch.zeros(()) for _ in range(4))
        self.l0 = torch.zeros(0, 2)

    def add(self, x: torch.Tensor) -> None:
        on = (x > 0).double()
        self.active = self.active + on.sum(0)
        self.values = self.values + x.double().sum(0)
        self.squares = self.squares + x.double().pow(2).sum(0)
        self.together = self.together + (on[:, self._pairs[0]] * on[:, self._pairs[1]]).sum(0)
        self.l0 = torch.cat([self.l0, torch.stack([on.sum(1), on[:, :4096].sum(1)], 1)])


def deviation(first: torch.Tensor, second: torch.Tensor, n: int) -> float:
    """Return the largest difference of counts of n samples each, in standard deviations, where some were expected."""
    pooled = (first + second) / (2 * n)
    often = pooled * n > 20
    return float(((first - second) / (2 * n * pooled * (1 - pooled)).sqrt())[often].abs().max())


@pytest.mark.peers
def test_the_published_world_is_sampled_as_sae_lens_samples_it(synthetic: Any) -> None:
    """60,000 samples of each, of the very same law: their σ and copula are taken over."""
    theirs = published(synthetic)
    task = lrbench.task_from_sae_lens(theirs, "synth")
    ours = task.world
    law, spec = ours.law, lrbench.load_task("synth16k/v2", "synth").spec.world
    assert law is not None
    torch.testing.assert_close(law.drawn.float(), torch.tensor(spec.drawn_rates), rtol=2e-4, atol=0)
    assert law.parents.tolist() == spec.parents
    torch.testing.assert_close(law.means, torch.tensor(spec.mean_magnitudes))
    assert float(law.magnitudes.spreads.mean()) == pytest.approx(  # type: ignore[attr-defined]
        float(World(replace(spec, orthogonal_steps=0), 0).law.magnitudes.spreads.mean()),  # type: ignore[union-attr]
        abs=0.015,
    )
    rng = torch.Generator().manual_seed(0)
    frequent = torch.randint(600, (2, 20_000), generator=rng)
    child = (law.parents >= 0).nonzero().flatten()
    pairs = (torch.cat([frequent[0], child]), torch.cat([frequent[1], law.parents[child]]))
    found = [Moments(pairs) for _ in range(2)]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for index in range(SAMPLES // CHUNK):
            found[0].add(ours.sample(CHUNK, "data", index).dense(16_384))
            found[1].add(theirs.activation_generator.sample(CHUNK))
    one, other = found
    assert deviation(one.active, other.active, SAMPLES) < 4.9  # of 16,384
    assert deviation(one.together, other.together, SAMPLES) < 5.0  # of 30,880: siblings' parents, and pairs of any two
    often = torch.minimum(one.active, other.active) > 300  # where a mean magnitude has an error that is known
    means = [moments.values / moments.active for moments in found]
    errors = [(moments.squares / moments.active - mean**2) / moments.active for moments, mean in zip(found, means, strict=True)]  # fmt: skip
    assert float(((means[0] - means[1]) / (errors[0] + errors[1]).sqrt())[often].abs().max()) < 5.0
    assert int(often.sum()) > 500
    error = (one.l0.var(0) + other.l0.var(0)).div(SAMPLES).sqrt()
    assert bool(((one.l0.mean(0) - other.l0.mean(0)).abs() < 4.0 * error).all())
    for moments in found:  # the check figures of the published world, whose copula was another draw
        levels = [float(moments.active[a:b].sum()) / SAMPLES for a, b in ((0, 128), (128, 640), (640, 2688), (2688, 10_880), (10_880, 16_384))]  # fmt: skip
        assert levels == pytest.approx([8.18, 7.30, 7.29, 7.10, 4.51], rel=0.01)
        assert moments.l0.mean(0).tolist() == pytest.approx([34.38, 25.07], rel=0.01)


@pytest.mark.peers
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"structure": Forest(2, (2, 2), scaled=False)},
        {"copula": None, "magnitudes": None, "magnitude_scale": 0.0},
        {"structure": WorldSpec(1, (1,)).structure, "zipf": 0.0, "rate_range": None, "rate": 0.2},
    ],
    ids=["v2", "v1", "plain", "independent"],
)
def test_a_world_goes_there_and_back(synthetic: Any, change: dict[str, Any]) -> None:
    world = World(replace(SMALL, **change), seed=3)
    model = world.to_sae_lens()
    back = lrbench.task_from_sae_lens(model, "smoke").world
    torch.testing.assert_close(back.directions[0], world.directions[0])
    torch.testing.assert_close(back.offsets[0], world.offsets[0])
    assert back.spec.parents == world.spec.parents
    assert back.law is not None
    torch.testing.assert_close(back.law.drawn, torch.tensor(world.spec.drawn_rates).double())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs, x = model.sample_with_features(20_000)
    torch.testing.assert_close(theirs, x @ world.directions[0] + world.offsets[0], atol=1e-4, rtol=1e-4)
    ours = world.sample(20_000).dense(30)
    rates = torch.stack([(x > 0).double().mean(0), (ours > 0).double().mean(0)])
    error = (rates * (1 - rates) / 20_000).sum(0).sqrt()
    assert float(((rates[0] - rates[1]) / error).abs().max()) < 4.5
    assert model.cfg.to_dict() == type(model.cfg).from_dict(model.cfg.to_dict()).to_dict()


@pytest.mark.peers
def test_a_model_of_sae_lens_is_a_task(synthetic: Any) -> None:
    root = synthetic.HierarchyNode(
        feature_index=4,
        children=[synthetic.HierarchyNode(feature_index=1), synthetic.HierarchyNode(feature_index=2)],
    )
    config = synthetic.SyntheticModelConfig(12, 8, seed=1, bias=0.3)
    plain = synthetic.SyntheticModel(config)
    trees = synthetic.Hierarchy(roots=[root], modifier=synthetic.hierarchy_modifier([root]))
    model = synthetic.SyntheticModel(config, hierarchy=trees)
    task, flat = (lrbench.task_from_sae_lens(one, "smoke", seed=2) for one in (model, plain))
    assert [task.spec.world.parents[feature] for feature in (1, 2, 4)] == [4, 4, -1]
    assert len({task.hash, flat.hash}) == 2
    assert task.hash == lrbench.task_from_sae_lens(model, "smoke").hash
    active = task.world.sample(40_000).dense(12) > 0
    assert bool((active[:, 4] | ~active[:, 1]).all())
    assert bool((active[:, 1] & active[:, 2]).any())  # they do not exclude each other
    scores = lrbench.score(lrbench.load_method("truth").fit(task.view()), task)
    assert scores["mcc"] > 0.99
    moved = task.with_seed(5)
    assert torch.equal(moved.world.directions[0], task.world.directions[0])
    assert not torch.equal(moved.anchors, task.anchors) or moved.fit_seed != task.fit_seed


@pytest.mark.peers
def test_what_cannot_be_taken_over_is_refused(synthetic: Any) -> None:
    config = synthetic.SyntheticModelConfig(6, 4, seed=1)
    model = synthetic.SyntheticModel(config)
    model.activation_generator.modify_activations = lambda x: x
    with pytest.raises(LrbenchError, match="more than its hierarchy"):
        lrbench.task_from_sae_lens(model, "smoke")
    for change, message in (
        ({"structure": Groups(2, 0.5), "zipf": 0.0, "rate_range": None, "copula": None, "magnitudes": None, "magnitude_scale": 0.0}, "forest"),
        ({"noise": 0.1}, "no noise"),
        ({"dims": (8, 8)}, "one site"),
        ({"magnitudes": None}, "magnitude_scale=0"),
        ({"structure": Forest(2, (2, 3))}, "same number of children"),
    ):  # fmt: skip
        with pytest.raises(LrbenchError, match=message):
            World(replace(SMALL, **change), seed=0).to_sae_lens()


def test_anything_else_is_no_model() -> None:
    with pytest.raises(LrbenchError, match="int: expected a sae_lens"):
        lrbench.task_from_sae_lens(3)


def test_without_sae_lens_a_world_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "sae_lens"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sae_lens", None)
    with pytest.raises(Unavailable, match=r"pip install 'linear-representation-bench\[peers\]'"):
        World(SMALL, seed=0).to_sae_lens()


def dictionaries(task: lrbench.Task) -> Iterator[Dictionary]:
    """Return a good dictionary, a bad one, and one whose latents share features, some of them dead."""
    true, rng = task.truth("autoencoder")[1], torch.Generator().manual_seed(0)
    noisy = true + 0.3 * torch.randn(true.shape, generator=rng) / true.shape[1] ** 0.5
    yield Dictionary(noisy, None, noisy, task.world.offsets[0], TopK(3))
    random = torch.randn(20, true.shape[1], generator=rng)
    yield Dictionary(random, -0.5 * torch.ones(20), random / 3, None, ReLU())
    copies = true[torch.randint(5, (40,), generator=rng)]
    copies = copies + 0.1 * torch.randn(copies.shape, generator=rng)
    yield Dictionary(copies, torch.cat([torch.zeros(35), -100 * torch.ones(5)]), copies, None, ReLU())


class Replayed:
    """Gives held-out features as a generator of SAELens would."""

    def __init__(self, x: torch.Tensor) -> None:
        self._x, self._next = x, 0

    def sample(self, n: int) -> torch.Tensor:
        self._next += n
        return self._x[self._next - n : self._next]


@pytest.fixture(scope="module")
def small_task() -> lrbench.Task:
    task = lrbench.load_task("superposition/1.30x", "smoke")
    return replace(task, spec=replace(task.spec, world=SMALL))


@pytest.mark.peers
@pytest.mark.parametrize("which", [0, 1, 2])
def test_their_metrics_are_theirs(synthetic: Any, small_task: lrbench.Task, which: int) -> None:
    dictionary = list(dictionaries(small_task))[which]
    world, x = small_task.world, small_task.evaluation().dense(30)
    sae = SimpleNamespace(eval=lambda: None, W_dec=dictionary.W_dec, encode=dictionary.encode, decode=dictionary.decode)

    class Features:
        feature_vectors = world.directions[0]

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.feature_vectors + world.offsets[0]

    theirs = synthetic.eval_sae_on_synthetic_data(sae, Features(), Replayed(x), len(x), 500)
    expected = {
        "f1": theirs.classification.f1_score,
        "precision": theirs.classification.precision,
        "recall": theirs.classification.recall,
        "accuracy": theirs.classification.accuracy,
        "mcc": theirs.mcc,
        "uniqueness": theirs.uniqueness,
        "explained_variance": theirs.explained_variance,
        "shrinkage": theirs.shrinkage,
        "l0": theirs.sae_l0,
        "true_l0": theirs.true_l0,
        "dead": theirs.dead_latents,
    }
    found = sae_lens_metrics(dictionary, small_task)
    assert found == pytest.approx(expected, abs=1e-5)
    assert 0.0 < found["f1"] < 1.0


def test_their_metrics_on_a_dictionary_whose_values_are_known(small_task: lrbench.Task) -> None:
    """Two latents in the direction of feature 0: one always on, one never."""
    true = small_task.truth("autoencoder")[1][:1].repeat(2, 1)
    found = sae_lens_metrics(Dictionary(torch.zeros(2, 16), torch.tensor([1.0, -1.0]), true, None, ReLU()), small_task)
    rate = float((small_task.evaluation().indices == 0).sum()) / len(small_task.evaluation())
    assert found["f1"] == pytest.approx(rate / (1 + rate))  # the mean of 2 p / (1 + p) and 0
    assert found["precision"] == pytest.approx(rate / 2)
    assert (found["recall"], found["uniqueness"], found["dead"], found["l0"]) == (0.5, 0.5, 1.0, 1.0)
    assert found["accuracy"] == pytest.approx(0.5)
    with pytest.raises(LrbenchError, match="transcoder"):
        sae_lens_metrics(replace_pair(small_task), small_task)


def replace_pair(task: lrbench.Task) -> Dictionary:
    return Dictionary(torch.zeros(2, 16), None, torch.zeros(2, 16), None, ReLU(), "transcoder")
