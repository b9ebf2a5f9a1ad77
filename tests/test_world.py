"""Worlds: their directions, the law of their features against what it says of itself, and what their hash stands for."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lrbench.errors import LrbenchError
from lrbench.law.directions import max_interference
from lrbench.law.events import Events
from lrbench.structure import Groups, Hierarchy, WorldSpec
from lrbench.world import World

N_SAMPLES = 60_000
LAWS = (
    "independent",
    "zipf",
    "log-uniform",
    "groups",
    "uneven groups",
    "exclusive",
    "overlapping",
    "deep",
    "deep overlapping",
    "forest",
)
TREES = ("exclusive", "overlapping", "deep", "deep overlapping", "forest")


@pytest.fixture(scope="module")
def active(worlds: dict[str, World]) -> dict[str, torch.Tensor]:
    """Return, for every law, which features many samples show, as 0 and 1 in double precision."""
    return {name: (world.sample(N_SAMPLES).dense(world.spec.n_features) > 0).double() for name, world in worlds.items()}


def test_directions_are_unit_rows_within_the_interference_and_differ_between_sites(worlds: dict[str, World]) -> None:
    world = worlds["independent"]
    assert [tuple(site.shape) for site in world.directions] == [(24, 16), (24, 12)]
    for site, reached in zip(world.directions, world.interference, strict=True):
        assert torch.allclose(site.norm(dim=1), torch.ones(24), atol=1e-6)
        slow = max(float(site[i] @ site[j]) for i, j in combinations(range(24), 2))
        assert reached == pytest.approx(slow, abs=1e-6)
        assert slow <= 0.4 + 1e-6
    same_width = World(replace(world.spec, dims=(16, 16)), seed=0).directions
    assert (same_width[0] - same_width[1]).abs().amax() > 0.1


def test_interference_is_signed(worlds: dict[str, World]) -> None:
    assert max_interference(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == -1.0
    assert max_interference(torch.tensor([[1.0, 0.0]])) == -1.0
    assert max_interference(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, -1.0]])) == pytest.approx(0.6)


def test_interference_is_the_same_block_by_block(worlds: dict[str, World], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [max_interference(site) for site in worlds["independent"].directions]
    monkeypatch.setattr("lrbench.law.directions.GRAM_ROWS", 7)  # 24 rows: the last block is smaller
    assert [max_interference(site) for site in worlds["independent"].directions] == pytest.approx(whole, abs=1e-6)


def test_no_gram_matrix_where_every_interference_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = World(WorldSpec(24, (16,), interference=0.999)).directions[0]
    monkeypatch.setattr("lrbench.law.directions.max_interference", None)
    assert torch.equal(World(WorldSpec(24, (16,), interference=1.0)).directions[0], expected)


def test_an_interference_out_of_reach_says_how_far_it_came() -> None:
    with pytest.raises(
        LrbenchError, match=r"M=0\.01 was not reached with n=24 .* came down to 0\.\d+; ask for"
    ) as caught:
        World(WorldSpec(24, (4,), interference=0.01))
    reached = float(str(caught.value).split("came down to ")[1].split(";")[0])
    assert 0.3 < reached < 1.0  # 24 directions in 4 dimensions cannot come much closer to orthogonal


@pytest.mark.parametrize("zipf", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("n_features", [1, 2, 300])
def test_a_hit_is_found_where_a_binary_search_finds_it(n_features: int, zipf: float) -> None:
    rates = torch.tensor(WorldSpec(n_features, (2,), rate=0.01, zipf=zipf).rates, dtype=torch.float64)
    rates[1:-1:5] = 0.0  # as children have it, which are not drawn here
    ends = (-torch.log1p(-rates)).cumsum(0).numpy()
    random = np.random.default_rng(0).uniform(0, ends[-1], 5000)
    hazards = np.concatenate([[0.0], ends, np.nextafter(ends, 0), np.nextafter(ends[:-1], 1), random])
    found = Events(rates)._hit(hazards)
    assert found.tolist() == np.searchsorted(ends, hazards, side="right").tolist()


@pytest.mark.parametrize("law", LAWS)
def test_features_are_active_at_their_rates(
    law: str, specs: dict[str, WorldSpec], active: dict[str, torch.Tensor]
) -> None:
    rates = torch.tensor(specs[law].rates, dtype=torch.float64)
    deviation = (active[law].mean(0) - rates) / (rates * (1 - rates) / N_SAMPLES).sqrt()
    assert deviation.abs().max() < 4.5, f"{deviation.abs().max():.1f} standard deviations from spec.rates"
    assert active[law].sum(1).mean() == pytest.approx(specs[law].mean_l0, rel=0.03)


def test_rates_follow_from_the_law(specs: dict[str, WorldSpec]) -> None:
    zipf = specs["zipf"].rates
    assert zipf[0] / zipf[9] == pytest.approx(10.0)
    assert sum(zipf) == pytest.approx(24 * 0.05)
    assert max(WorldSpec(100, (4,), rate=0.3, zipf=1.0).rates) == 0.5  # capped
    spread = specs["log-uniform"].rates
    assert spread[0] / spread[16] == pytest.approx(10.0)  # 16 of 24 features are one of 1.5 decades
    assert sum(spread) == pytest.approx(24 * 0.05)
    assert max(WorldSpec(100, (4,), rate=0.3, decades=3.0).rates) == 0.5  # capped
    exclusive = specs["exclusive"]  # five trees of four features, six features on their own
    assert exclusive.parents == [-1, 0, 0, 0, -1, 4, 4, 4, -1, 8, 8, 8, -1, 12, 12, 12, -1, 16, 16, 16] + [-1] * 6
    assert exclusive.rates == pytest.approx([0.2, *[0.2 * 0.6 / 3] * 3] * 5 + [0.1] * 6)
    assert specs["overlapping"].rates == pytest.approx([0.2, *[0.2 * 0.3] * 3] * 6 + [0.01] * 2)
    deep = specs["deep"]  # three trees of 1 + 2 + 4 + 4 features
    assert deep.parents[:10] == [-1, 0, 0, 1, 1, 2, 2, 3, 4, 5]
    assert deep.rates[7] == pytest.approx(0.3 * (0.7 / 2) * (0.7 / 2) * 0.7)


@pytest.mark.parametrize("law", TREES)
def test_a_parent_is_active_whenever_a_child_is(
    law: str, specs: dict[str, WorldSpec], active: dict[str, torch.Tensor]
) -> None:
    for child, parent in enumerate(specs[law].parents):
        if parent >= 0:
            assert active[law][:, child].sum() > 0
            assert not bool((active[law][:, child] > active[law][:, parent]).any())


@pytest.mark.parametrize("law", TREES)
def test_siblings_exclude_each_other_where_they_should(
    law: str, specs: dict[str, WorldSpec], active: dict[str, torch.Tensor]
) -> None:
    for children in specs[law].children.values():
        together = active[law][:, children].sum(1)
        if "overlapping" not in law:
            assert together.max() == 1
        else:
            assert together.max() > 1
    if "overlapping" in law:  # each child on its own, given the parent
        given = specs[law].structure.child_given_parent  # type: ignore[union-attr]
        parent, first, second = 0, *specs[law].children[0][:2]
        share = (active[law][:, first] * active[law][:, second]).sum() / active[law][:, parent].sum()
        assert share == pytest.approx(given**2, abs=0.02)


def test_groups_are_correlated_within_and_not_across(
    specs: dict[str, WorldSpec], active: dict[str, torch.Tensor]
) -> None:
    correlation = torch.corrcoef(active["groups"].T)
    rate, cohesion = 0.05, 0.6
    inside = (cohesion - rate) / (1 - rate)  # P(both) = rate * cohesion
    for i, j in combinations(range(26), 2):
        expected = inside if i // 4 == j // 4 else 0.0
        assert float(correlation[i, j]) == pytest.approx(expected, abs=0.05 if expected else 0.02), (i, j)


def test_members_of_a_group_with_other_rates_meet_within_it(
    specs: dict[str, WorldSpec], active: dict[str, torch.Tensor]
) -> None:
    rates, together = specs["uneven groups"].rates, active["uneven groups"].T @ active["uneven groups"] / N_SAMPLES
    for i, j in combinations(range(26), 2):
        group = max(rates[i - i % 4 :][:4]) / 0.6
        both = rates[i] * rates[j] / (group if i // 4 == j // 4 else 1.0)
        assert float(together[i, j]) == pytest.approx(both, abs=4.5 * (both / N_SAMPLES) ** 0.5), (i, j)


@pytest.mark.parametrize("law", ["independent", "zipf", "log-uniform"])
def test_independent_features_meet_by_chance_only(
    law: str, specs: dict[str, WorldSpec], active: dict[str, torch.Tensor]
) -> None:
    rates = torch.tensor(specs[law].rates, dtype=torch.float64)
    chance = rates.outer(rates)
    deviation = (active[law].T @ active[law] / N_SAMPLES - chance) / (chance * (1 - chance) / N_SAMPLES).sqrt()
    off_diagonal = deviation[~torch.eye(24, dtype=torch.bool)]
    assert off_diagonal.abs().max() < 4.5
    assert off_diagonal.std() == pytest.approx(1.0, abs=0.2)


def test_samples_are_independent_of_their_place_in_the_batch(active: dict[str, torch.Tensor]) -> None:
    totals = active["independent"].sum(1)
    blocks = totals.view(20, -1).mean(1)
    assert (blocks - totals.mean()).abs().max() < 4.5 * (24 * 0.1 * 0.9 / (N_SAMPLES / 20)) ** 0.5
    assert torch.corrcoef(torch.stack([totals[1:], totals[:-1]]))[0, 1].abs() < 0.02


def test_magnitudes_are_c_min_plus_exponential() -> None:
    world = World(WorldSpec(24, (24,), rate=0.1, magnitude_min=0.7, magnitude_scale=0.3), seed=3)
    values = world.sample(N_SAMPLES).values.double()
    assert values.min() >= 0.7
    assert values.min() < 0.71
    error = 0.3 / len(values) ** 0.5
    assert abs(values.mean() - 1.0) < 4.5 * error
    assert values.std() == pytest.approx(0.3, rel=0.03)
    assert (values > 1.0).double().mean() == pytest.approx(0.3679, abs=0.01)  # 1/e
    constant = World(WorldSpec(24, (24,), magnitude_min=2.0, magnitude_scale=0.0)).sample(100).values
    assert set(constant.tolist()) == {2.0}
    assert torch.allclose(world.isolated(), 1.0 * world.directions[0])


def test_log_normal_magnitudes() -> None:
    spec = WorldSpec(24, (24,), rate=0.1, lognormal=0.25)
    values = World(spec, seed=3).sample(N_SAMPLES).values.double()
    logs, error = values.log(), 0.25 / len(values) ** 0.5
    assert abs(logs.mean()) < 4.5 * error
    assert logs.std() == pytest.approx(0.25, rel=0.02)
    assert values.mean() == pytest.approx(spec.mean_magnitude, rel=0.01)
    assert values.pow(2).mean() == pytest.approx(spec.mean_squared_magnitude, rel=0.02)
    assert float(World(spec).isolated().norm(dim=1).mean()) == pytest.approx(spec.mean_magnitude, abs=1e-6)


@pytest.mark.parametrize("law", LAWS)
def test_represent_is_x_times_the_directions(law: str, worlds: dict[str, World]) -> None:
    world = worlds[law]
    features = world.sample(300)
    for site, directions in enumerate(world.directions):
        slow = torch.zeros(300, directions.shape[1])
        for row, index, value in zip(features.rows, features.indices, features.values, strict=True):
            slow[row] += value * directions[index]
        assert torch.allclose(world.represent(features, site), slow, atol=1e-5)
        assert torch.allclose(
            world.represent(features, site), features.dense(world.spec.n_features) @ directions, atol=1e-5
        )


def test_a_sample_is_sorted_without_duplicates_and_may_be_empty(worlds: dict[str, World]) -> None:
    features = worlds["deep"].sample(500)
    keys = features.rows * 30 + features.indices
    assert bool((keys[1:] > keys[:-1]).all())
    assert len(features) == 500
    rare = World(WorldSpec(4, (4,), rate=1e-6)).sample(7)
    assert len(rare) == 7
    assert len(rare.indices) == 0
    assert torch.equal(rare.represent(torch.ones(4, 3)), torch.zeros(7, 3))


def test_streams_are_endless_reproducible_and_differ(worlds: dict[str, World], specs: dict[str, WorldSpec]) -> None:
    def first(world: World, stream: str = "data") -> list[Any]:
        return [
            (f.indices.tolist(), f.values.tolist(), f.offsets.tolist())
            for f, _ in zip(world.stream(50, stream), range(5), strict=False)
        ]

    here, again = first(worlds["independent"]), first(World(specs["independent"], seed=0))
    assert here == again
    assert len({str(batch) for batch in here}) == 5
    assert first(worlds["independent"], "evaluation") != here
    assert first(World(specs["independent"], seed=1)) != here
    assert worlds["independent"].sample(50, "data", 3).indices.tolist() == here[3][0]
    with pytest.raises(LrbenchError, match="n_samples=0"):
        worlds["independent"].sample(0)


def test_noise_has_its_length_and_is_fresh_at_every_site_and_place(specs: dict[str, WorldSpec]) -> None:
    world = World(replace(specs["independent"], dims=(64, 64), noise=0.3), seed=0)
    features = world.sample(2000)
    clean = [features.represent(directions) for directions in world.directions]
    noise = {
        (site, index): world.represent(features, site, "data", index) - clean[site]
        for site in (0, 1)
        for index in (0, 1)
    }
    for one in noise.values():
        assert one.norm(dim=1).mean() == pytest.approx(0.3, rel=0.02)
        assert one.pow(2).sum(1).mean() == pytest.approx(0.09, rel=0.02)
    for one, other in combinations(noise.values(), 2):
        assert torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1].abs() < 0.02
    assert torch.equal(world.represent(features, 0), world.represent(features, 0))
    other_stream = world.represent(features, 0, "evaluation") - clean[0]
    assert torch.corrcoef(torch.stack([noise[0, 0].flatten(), other_stream.flatten()]))[0, 1].abs() < 0.02


class LargestTensor(TorchDispatchMode):
    """Remembers the largest tensor that any operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else (out,):
            self.numel = max(self.numel, one.numel() if isinstance(one, torch.Tensor) else 0)
        return out


@pytest.mark.parametrize(
    "structure",
    [None, Groups(4, 0.5), Hierarchy((3,), 0.01, 0.5), Hierarchy((3, 2), 0.01, 0.5, exclusive=False)],
    ids=str,
)
def test_sampling_never_makes_a_batch_by_features_matrix(structure: Groups | Hierarchy | None) -> None:
    law = {} if structure is None else {"structure": structure}
    world = World.__new__(World)  # without directions: only the sampling is looked at
    world.spec, world.seed = WorldSpec(4000, (8,), rate=0.002, **law), 0
    with LargestTensor() as largest:
        features = world.sample(2000)
        features.represent(torch.ones(4000, 8))
    assert len(features.indices) > 5000
    assert largest.numel < 10 * max(len(features.indices), 4000 * 8)  # the matrix would have 8,000,000 elements
    with LargestTensor() as largest:
        features.dense(4000)
    assert largest.numel == 2000 * 4000  # what the measure would have seen
