"""Forests, copulas and magnitudes by feature: the sampler against a slow dense one, rates against the law, and the directions' steps."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

import lrbench
from lrbench.activation import ReLU
from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError
from lrbench.law.directions import orthogonalise
from lrbench.law.forest import Forest, Magnitudes, active_rates, normal, winners
from lrbench.law.hits import above
from lrbench.law.sampler import FeatureLaw, Sampler, families, random_loadings
from lrbench.structure import Copula, Given, WorldSpec
from lrbench.theory import exact_loss, isolated
from lrbench.world import World

N = 60_000
SPEC = WorldSpec(
    24,
    (16,),
    interference=1.0,
    structure=Forest(2, (2, 3)),
    zipf=0.5,
    rate_range=(0.05, 0.5),
    copula=Copula(3, 0.4),
    magnitudes=Magnitudes(1.5, 1.0, 0.5, 0.3),
    offset=0.5,
)


def dense(law: FeatureLaw, n_samples: int, rng: torch.Generator) -> torch.Tensor:
    """Draw all features of all samples, then put out what its parent does not allow and what is no winner: the published way."""
    n = len(law.drawn)
    own = (1.0 - law.loadings.double().pow(2).sum(1)).sqrt()
    common = torch.randn(n_samples, law.loadings.shape[1], generator=rng, dtype=torch.float64)
    latent = common @ law.loadings.double().T + own * torch.randn(n_samples, n, generator=rng, dtype=torch.float64)
    x = law.magnitudes(torch.arange(n).expand(n_samples, n), rng).double()
    x[latent <= -torch.special.ndtri(law.drawn.double())] = 0.0
    todo = [feature for feature in range(n) if law.parents[feature] < 0]
    while todo:
        parent = todo.pop(0)
        children = [child for child in range(n) if law.parents[child] == parent]
        todo += children
        for child in children:
            factor = x[:, parent] / law.means[parent] if law.scaled[parent] else (x[:, parent] > 0).double()
            x[:, child] *= factor
        if law.exclusive[parent] and children:
            chance = torch.rand(n_samples, len(children), generator=rng) * (x[:, children] > 0)
            wins = chance.argmax(1, keepdim=True) == torch.arange(len(children))
            x[:, children] = torch.where(wins, x[:, children], 0.0)
    return x


def law_of(spec: WorldSpec) -> FeatureLaw:
    law = World(spec, seed=0).law
    assert law is not None
    return law


@pytest.mark.parametrize("change", [{}, {"structure": Forest(2, (2, 3), scaled=False)}, {"copula": None}], ids=str)
def test_the_sampler_draws_as_the_dense_reference_does(change: dict[str, object]) -> None:
    world = World(replace(SPEC, **change), seed=0)  # type: ignore[arg-type]
    ours = world.sample(N).dense(24).double()
    slow = dense(law_of(world.spec), N, torch.Generator().manual_seed(1))
    for one, other in ((ours > 0, slow > 0), (ours, slow), (ours**2, slow**2)):
        one, other = one.double(), other.double()
        means, both = (one.mean(0), other.mean(0)), torch.stack([one, other])
        errors = both.var(1).sum(0).div(N).sqrt()
        assert float(((means[0] - means[1]) / errors).abs().max()) < 4.5
        first, second = (matrix.T @ matrix / N for matrix in (one, other))
        squares = (one**2).T @ (one**2) / N + (other**2).T @ (other**2) / N
        deviation = (first - second) / (squares / N).sqrt().clamp_min(1e-9)
        assert float(deviation.abs().max()) < 5.0


def test_the_sampler_tells_a_wrong_law_from_the_right_one() -> None:
    """What the test above would see if children were not scaled, or features not correlated."""
    ours = World(SPEC, seed=0).sample(N).dense(24).double()
    law = law_of(SPEC)
    for wrong in (replace(law, scaled=~law.scaled), replace(law, loadings=0 * law.loadings)):
        slow = dense(wrong, N, torch.Generator().manual_seed(1))
        first, second = (matrix.T @ matrix / N for matrix in (ours, slow))
        squares = (ours**2).T @ (ours**2) / N + (slow**2).T @ (slow**2) / N
        assert float(((first - second) / (squares / N).sqrt().clamp_min(1e-9)).abs().max()) > 10.0


def test_features_without_a_parent_keep_their_rates_and_correlate_as_the_copula_says() -> None:
    spec = WorldSpec(6, (4,), rate=0.2, interference=1.0, copula=Copula(2, 0.5), magnitude_min=1.0, magnitude_scale=0.0)
    loadings = law_of(spec).loadings.double()
    active = (World(spec, seed=0).sample(N).dense(6) > 0).double()
    assert float((active.mean(0) - 0.2).abs().max()) < 4.5 * (0.16 / N) ** 0.5
    rho = loadings @ loadings.T
    level = float(torch.special.ndtri(torch.tensor(0.8, dtype=torch.float64)))
    for i, j in product(range(6), range(6)):
        if i < j:
            assert float((active[:, i] * active[:, j]).mean()) == pytest.approx(
                orthant(level, float(rho[i, j])), abs=4.5 * (0.2 / N) ** 0.5
            )


def orthant(level: float, rho: float) -> float:
    """Return the probability that two normal numbers with this correlation both exceed a level, by quadrature over the first."""
    steps = [level + (8.0 - level) * (k + 0.5) / 4000 for k in range(4000)]
    inner = (
        math.exp(-x * x / 2) / math.sqrt(2 * math.pi) * normal((rho * x - level) / math.sqrt(1 - rho * rho))
        for x in steps
    )
    return math.fsum(inner) * (8.0 - level) / 4000


def test_a_features_loadings_leave_some_variance_of_its_own() -> None:
    rows = random_loadings(50, 4, 2.0, torch.Generator().manual_seed(0))
    squares = rows.pow(2).sum(1)
    assert float(squares.max()) == pytest.approx(0.99, abs=1e-5)
    assert float(squares.min()) > 0.3


def test_winners_and_rates_are_those_of_all_cases() -> None:
    chances = [0.9, 0.3, 0.5]
    expected = [0.0] * 3
    for fires in product((0, 1), repeat=3):
        weight = math.prod(p if f else 1 - p for f, p in zip(fires, chances, strict=True))
        for place in range(3):
            expected[place] += weight * fires[place] / max(1, sum(fires))
    assert winners(chances) == pytest.approx(expected)
    rates = active_rates(
        [0.5, 0.8, 0.4, 0.5], [1.0, 0.5, 1.0, 1.0], [-1, 0, 0, 1], {0: [1, 2], 1: [3]}, [False, True, True, True]
    )
    assert rates == pytest.approx([0.5, 0.5 * 0.4, 0.5 * 0.4, 0.5 * 0.4 * 0.5])


def test_compensation_brings_rates_near_the_base_rates_where_siblings_are_rare() -> None:
    plain = replace(SPEC, magnitudes=None, copula=None)
    assert plain.parents[:8] == [-1, -1, 0, 0, 1, 1, 2, 2]
    assert plain.parents[17:19] == [5, -1]
    assert plain.base_rates[0] == 0.5
    assert plain.base_rates[-1] == 0.05
    base, parent = plain.base_rates, 0
    others = base[3] / base[parent]
    assert plain.drawn_rates[2] == min(1.0, base[2] / base[parent] * (1 + others))
    steep = replace(plain, n_features=6, structure=Forest(2, (2,)), zipf=2.0, rate_range=(0.005, 0.4))
    assert steep.rates == pytest.approx(steep.base_rates, rel=0.05)  # where siblings are rare beside their parent
    assert steep.rates != pytest.approx(steep.base_rates, rel=0.01)


def test_the_published_world_has_its_published_figures() -> None:
    spec = lrbench.load_task("synth16k/v2", "synth").spec
    world, rates = spec.world, spec.world.rates
    assert (spec.n_latents, spec.batch_size, spec.n_samples, spec.n_distinct) == (4096, 1024, 10_240_000, "fresh")
    assert max(world.drawn_rates) == pytest.approx(0.915, abs=5e-4)
    assert world.mean_l0 == pytest.approx(34.38, rel=0.005)
    assert sum(rates[:4096]) == pytest.approx(25.07, rel=0.005)
    levels = [sum(rates[a:b]) for a, b in ((0, 128), (128, 640), (640, 2688), (2688, 10_880), (10_880, 16_384))]
    assert levels == pytest.approx([8.18, 7.30, 7.29, 7.10, 4.51], rel=0.005)
    assert round(spec.told_l0 * world.mean_l0) == 25
    assert world.hash() != lrbench.load_task("synth16k/v1", "synth").spec.world.hash()


def test_a_forest_draws_its_magnitudes_above_zero_only() -> None:
    law = Magnitudes(1.0, 1.0, 1.0, 0.0)
    assert law.positive(3) == pytest.approx([normal(1.0)] * 3)
    spread = Magnitudes(2.0, 2.0, 0.5, 0.5)
    sds = (0.5 + 0.5 * torch.randn(200_000, generator=torch.Generator().manual_seed(0))).abs().double()
    assert spread.positive(1)[0] == pytest.approx(float(torch.special.ndtr(2.0 / sds).mean()), abs=2e-4)
    values = World(replace(SPEC, magnitudes=law), seed=0).sample(2000).values
    assert float(values.min()) > 0.0


def test_every_certain_or_impossible_feature_is_drawn_so() -> None:
    law = law_of(replace(SPEC, structure=Forest(1, (1,)), copula=None))
    sure = replace(law, drawn=torch.tensor([1.0, 0.0] * 12, dtype=torch.float64), parents=torch.full((24,), -1))
    keys, values = Sampler(replace(sure, magnitudes=lambda some, rng: torch.ones(some.shape))).sample(
        50, torch.Generator().manual_seed(0)
    )
    assert keys.tolist() == [24 * row + feature for row in range(50) for feature in range(0, 24, 2)]
    assert bool((values == 1.0).all())


def test_the_compiled_loop_finds_the_places_that_numpy_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    z, first = rng.normal(-2, 1, 5000).astype(np.float32), rng.integers(0, 256, 5000).astype(np.uint8)
    z[:3] = [np.inf, -np.inf, 0.0]
    quantiles = np.sort(rng.normal(0, 1, 256)).astype(np.float32)
    quantiles[0] = -np.inf
    found = above(z, first, quantiles, np.empty(5000, dtype=np.int32)).tolist()
    assert found == [place for place in range(5000) if z[place] > quantiles[first[place]]]
    features = World(SPEC, seed=0).sample(300)
    monkeypatch.setattr("lrbench.law.hits._loops", lambda: None)
    assert above(z, first, quantiles, np.empty(5000, dtype=np.int32)).tolist() == found
    again = World(SPEC, seed=0).sample(300)
    assert torch.equal(features.indices, again.indices)
    assert torch.equal(features.values, again.values)


def test_families_are_listed_by_parent() -> None:
    assert families(torch.tensor([-1, 0, 3, -1, 0])).tolist() == [[1, 4], [-1, -1], [-1, -1], [2, -1], [-1, -1]]
    assert families(torch.tensor([-1, -1])).shape == (2, 0)


def test_the_offset_is_in_every_representation_and_no_part_of_a_direction() -> None:
    world, plain = World(SPEC, seed=0), World(replace(SPEC, offset=0.0), seed=0)
    features = world.sample(50)
    assert float(world.offsets[0].norm()) == pytest.approx(0.5, abs=1e-6)
    torch.testing.assert_close(world.represent(features) - world.offsets[0], plain.represent(features))
    torch.testing.assert_close(world.isolated() - world.offsets[0], plain.isolated())
    assert torch.equal(world.directions[0], plain.directions[0])
    means = torch.tensor(SPEC.mean_magnitudes)
    torch.testing.assert_close(plain.isolated().norm(dim=1), means)
    active = torch.eye(24, dtype=torch.bool)
    torch.testing.assert_close(world.together(active), world.isolated())


def test_orthogonalised_directions_follow_the_loss_over_all_pairs() -> None:
    rows = torch.nn.functional.normalize(torch.randn(20, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    slow = rows.clone().requires_grad_()
    adam = torch.optim.Adam([slow], lr=3e-4)
    for _ in range(30):
        adam.zero_grad()
        gram = slow @ slow.T
        off = gram[~torch.eye(20, dtype=torch.bool)]
        (off.pow(2).sum() + 20 * (gram.diagonal() - 1).pow(2).sum()).backward()
        adam.step()
    expected = torch.nn.functional.normalize(slow.detach(), dim=1)
    found = orthogonalise(rows, 30)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert float((found - rows).abs().max()) > 1e-3
    world = World(replace(SPEC, orthogonal_steps=5), seed=0)
    torch.testing.assert_close(world.directions[0], orthogonalise(World(SPEC, seed=0).directions[0], 5))


def test_a_given_structure_needs_its_model() -> None:
    with pytest.raises(LrbenchError, match="comes with its model"):
        World(WorldSpec(2, (2,), structure=Given((-1, -1), (0.1, 0.1), (1.0, 1.0), "x")))


def test_theory_refuses_what_its_loss_does_not_cover() -> None:
    plain = WorldSpec(4, (4,), interference=1.0, magnitude_scale=0.0)
    for change, message in (
        ({"structure": Forest(1, (2,))}, "forest features:"),
        ({"copula": Copula(2, 0.3)}, "independent features with copula:"),
        ({"magnitudes": Magnitudes()}, "independent features with magnitudes:"),
        ({"offset": 0.5}, "offset=0.5"),
    ):
        world = World(replace(plain, **change))  # type: ignore[arg-type]
        with pytest.raises(LrbenchError, match=message):
            isolated(world)
        with pytest.raises(LrbenchError, match=message):
            exact_loss(Dictionary(world.directions[0], None, world.directions[0], None, ReLU()), world)


@pytest.mark.parametrize("change", [{"structure": Forest(1, (2,))}, {"magnitudes": Magnitudes()}], ids=str)
def test_there_is_no_second_moment_of_magnitudes_that_differ(change: dict[str, object]) -> None:
    plain = WorldSpec(4, (4,), interference=1.0)
    assert plain.mean_squared_magnitude == 1.25  # 0.5² + 2 · 0.5 · 0.5 + 2 · 0.5²
    with pytest.raises(LrbenchError, match="one law of magnitudes"):
        _ = replace(plain, **change).mean_squared_magnitude  # type: ignore[arg-type]
