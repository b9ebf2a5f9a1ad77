"""Which losses are more than noise: the limits against scipy's, families, main and other scores, and the noise that is assumed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from scipy.stats import norm, t

from lrbench.leaderboard.compare import Comparison, compare
from lrbench.leaderboard.compare_report import as_markdown, as_text
from lrbench.leaderboard.compare_source import Side
from lrbench.leaderboard.judge import ALPHA, Change
from lrbench.leaderboard.noise import ASSUMED, NOISY, assumed_difference, assumed_noise
from lrbench.leaderboard.paired import PRIOR, equal_weights, paired
from lrbench.metric_table import METRICS
from lrbench.record import Provenance, Record, Timing

TASKS = ("a/x", "b/y", "c/z")
FAMILIES = [f"{family}/x" for family in "abcdefgh"]


def run(methods: Sequence[str], tasks: Sequence[str] = TASKS, seeds: Sequence[int] = (0, 1)) -> list[Record]:
    return [
        Record(
            task=task, family=task.split("/")[0], suite="quick", seed=seed, task_hash=f"hash {task}", world_hash="w",
            method=method, pair="autoencoder", kind="sdl", source_hash="one", status="ok",
            scores={"headline": 0.8, "f1": 0.7, "fvu": 0.2, "absorption": None},
            provenance=Provenance(lrbench="0", python="3", platform="p", packages={}, commit=None, dirty=None, device="cpu"),
            timing=Timing(seconds=1.0, finished="2025-01-01T00:00:00+00:00"),
        )
        for method in methods
        for task in tasks
        for seed in seeds
    ]  # fmt: skip


def shifted(records: Sequence[Record], metric: str, by: float, family: str | None = None) -> list[Record]:
    """The same run, the metric of method m moved, everywhere or on one family."""
    return [
        r.model_copy(update={"scores": {**r.scores, metric: r.scores[metric] + by}})
        if r.method == "m" and family in (None, r.family)
        else r
        for r in records
    ]


def change(comparison: Comparison, method: str, metric: str, family: str | None = None) -> Change:
    (found,) = [c for c in comparison.changes if (c.method, c.metric, c.family) == (method, metric, family)]
    return found


# the noise


def test_the_mean_is_over_families_of_the_mean_over_tasks_of_the_mean_over_seeds() -> None:
    found = paired({"a": [-0.3, -0.1], "b": [0.1], "c": [0.5]}, dict.fromkeys("abc", 1.0))
    assert found.by_task == {"a": pytest.approx(-0.2), "b": pytest.approx(0.1), "c": pytest.approx(0.5)}
    assert found.effect(equal_weights("abc", {"a": "f", "b": "g", "c": "g"})) == pytest.approx((-0.2 + 0.3) / 2)
    assert found.effect(equal_weights("bc", {"b": "g", "c": "g"})) == pytest.approx(0.3)


def test_the_limit_without_more_noise_than_assumed_is_the_normal_laws() -> None:
    found = paired({"a": [-0.02, -0.01], "b": [0.0, 0.01], "c": [0.0]}, {"a": 0.03, "b": 0.04, "c": 0.05})
    error = ((0.03 / 4) ** 2 / 2 + (0.04 / 4) ** 2 / 2 + (0.05 / 2) ** 2) ** 0.5
    weights = equal_weights("abc", {"a": "f", "b": "f", "c": "g"})
    assert found.limit(0.01, weights) == pytest.approx(norm.isf(0.01) * error)
    assert found.limit(0.01, {"b": 1.0}) == pytest.approx(norm.isf(0.01) * 0.04 / 2**0.5)


def test_seeds_that_disagree_by_more_than_assumed_widen_the_limit() -> None:
    found = paired({"a": [0.1, -0.1, 0.2, -0.2]}, {"a": 0.03})
    freedom = 3 + PRIOR
    noise = ((0.1 + PRIOR * 0.03**2) / freedom) ** 0.5
    assert found.limit(0.01, {"a": 1.0}) == pytest.approx(t.isf(0.01, freedom) * noise / 2)


def test_tasks_that_differ_are_no_noise() -> None:
    found = paired({"a": [-0.30, -0.31], "b": [0.0, 0.001], "c": [0.0, 0.0]}, dict.fromkeys("abc", 0.03))
    assert set(found.noise.values()) == {0.03}
    one_seed = paired({name: [-0.9 * (name in "ab")] for name in "abcdefgh"}, dict.fromkeys("abcdefgh", 0.03))
    assert set(one_seed.noise.values()) == {0.03}


def test_with_one_seed_gains_tell_the_noise() -> None:
    swings = [0.2, -0.2, 0.1, -0.1, 0.25, -0.3, 0.15, -0.05]
    found = paired({str(i): [value] for i, value in enumerate(swings)}, {str(i): 0.03 for i in range(8)})
    assert 0.1 < found.noise["0"] < 0.4


def test_the_seeds_that_are_needed_find_the_loss_in_95_of_100() -> None:
    found = paired({"a": [0.0], "b": [0.0]}, dict.fromkeys("ab", 0.03))
    seeds = found.seeds_for(0.06, 0.001, {"a": 0.5, "b": 0.5})
    chance = [norm.sf(norm.isf(0.001) - 0.06 / (0.03 / (2 * n) ** 0.5)) for n in (seeds - 1, seeds)]
    assert chance[0] < 0.95 <= chance[1]


# main and other scores


def test_the_chance_is_shared_by_four_sorts_of_tests() -> None:
    base = run(["m", "n"], TASKS, [0])
    everything = [r.model_copy(update={"scores": {name: x + 1e-6 for name, x in r.scores.items() if x}}) for r in base]
    comparison = compare(base, everything)
    error = 2**0.5 * 0.02
    for family, wide, count in ((None, 3**-0.5, 2 * 2), ("a", 1.0, 2 * 2 * 3)):
        expected = norm.isf(ALPHA / 4 / count) * error * wide
        assert change(comparison, "m", "headline", family).limit == pytest.approx(expected)
    of_fvu = norm.isf(ALPHA / 4 / 2) * assumed_difference("m", "a", "fvu") * 3**-0.5
    assert change(comparison, "m", "fvu").limit == pytest.approx(of_fvu)
    asked = change(compare(base, everything, ["fvu"]), "m", "fvu")
    assert asked.limit == pytest.approx(norm.isf(ALPHA / 2 / 2) * assumed_difference("m", "a", "fvu") * 3**-0.5)


# families


def test_a_loss_of_015_on_one_family_is_a_regression_that_names_it() -> None:
    base = run(["m", "n"], FAMILIES)
    for metric in ("headline", "f1"):
        comparison = compare(base, shifted(base, metric, -0.15, "c"))
        assert abs(change(comparison, "m", metric).effect) < METRICS[metric].tolerance
        assert comparison.exit_code == 1
        assert [(c.method, c.metric, c.family) for c in comparison.having("worse")] == [("m", metric, "c")]
        assert f"1 of 6 scores got worse: m {metric} on c -0.150" in comparison.why
        for render in (as_text, as_markdown):
            (row,) = [x for x in render(comparison, Side("b", ()), Side("h", ())).splitlines() if f"{metric} (" in x]
            assert row.replace("|", " ").split()[:5] == [
                "m",
                metric,
                "(quick)",
                "c",
                "0.800" if metric[0] == "h" else "0.700",
            ]


def test_families_weigh_equally() -> None:
    base = run(["m"], ["a/1", "a/2", "a/3", "b/1"], range(4))
    head = [r.model_copy(update={"scores": {"headline": 0.8 - 0.1 * (r.family == "b")}}) for r in base]
    found = change(compare(base, head), "m", "headline")
    assert (found.effect, found.head) == (pytest.approx(-0.05), pytest.approx(0.75))
    assert change(compare(base, head), "m", "headline", "a").effect == 0.0


def test_a_family_within_its_noise_asks_for_seeds_only_from_three_tolerances_on() -> None:
    base = run(["m", *(f"m{i}" for i in range(8))], FAMILIES, [0])
    shaken = [r.model_copy(update={"scores": {"headline": 0.8 + 1e-9, "f1": 0.7}}) for r in base]
    for loss, outcome, code in ((0.05, "unclear", 0), (0.07, "cannot tell", 3), (0.15, "worse", 1)):
        comparison = compare(base, shifted(shaken, "headline", -loss, "c"))
        assert (change(comparison, "m", "headline", "c").outcome, comparison.exit_code) == (outcome, code)


def test_other_scores_turn_a_run_red_and_ask_for_no_seeds() -> None:
    base = run(["m"], ["a/x"], [0])
    for loss, outcome, code in ((0.05, "unclear", 0), (0.4, "worse", 1)):
        comparison = compare(base, shifted(base, "fvu", loss))
        assert (change(comparison, "m", "fvu").outcome, comparison.exit_code) == (outcome, code)
    assert compare(base, shifted(base, "fvu", 0.05), ["fvu"]).exit_code == 3


# noise that is assumed


def test_a_score_without_measured_noise_is_as_noisy_as_the_noisiest(monkeypatch: pytest.MonkeyPatch) -> None:
    ratios = [noise / METRICS[name].tolerance for name, noise in ASSUMED.items()]
    assert max(ratios) > 1
    assert assumed_noise("m", "a", "headline") == ASSUMED["headline"] == METRICS["headline"].tolerance
    monkeypatch.delitem(ASSUMED, "headline")
    assert assumed_noise("m", "a", "headline") == pytest.approx(max(ratios) * METRICS["headline"].tolerance)


def test_other_hyper_parameters_have_the_noise_of_their_method() -> None:
    (method, family, metric), value = next(item for item in NOISY.items() if item[0][0].endswith("+anchored"))
    base, _, twin = method.partition("+")
    assert assumed_noise(f"{base}[l0=0.5]+{twin}", family, metric) == value


def test_a_family_whose_own_seeds_disagree_has_the_noise_that_they_show() -> None:
    base = run(["m"], FAMILIES, range(3))
    swing = {0: -0.4, 1: 0.1, 2: 0.0}
    head = [r.model_copy(update={"scores": {"headline": 0.8 + swing[r.seed] * (r.family == "c") - 1e-9}}) for r in base]
    comparison = compare(base, head)
    quiet, loud = (change(comparison, "m", "headline", family) for family in "bc")
    assert loud.effect == pytest.approx(-0.1)
    assert loud.limit > 1.5 * quiet.limit
    assert loud.outcome == "cannot tell"
