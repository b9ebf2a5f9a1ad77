"""Which methods a table may call different: the stratified paired test, Holm's correction, and the ranges that come of them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from scipy import stats

from lrbench.leaderboard.compile import compile_boards
from lrbench.leaderboard.ranks import methods_ahead
from lrbench.leaderboard.render import render
from lrbench.leaderboard.separation import family_shares, told_apart
from lrbench.leaderboard.stratified import difference, holm
from lrbench.metric_table import METRICS
from lrbench.record import Provenance, Record, Timing

TOLERANCE = METRICS["headline"].tolerance
TASKS = ("a/1", "a/2", "a/3", "b/1", "c/1")
Cells = Mapping[tuple[str, str], Mapping[tuple[int, str], float]]


def cells(values: Mapping[str, list[float]]) -> Cells:
    """One method's scores: task → one per seed."""
    return {
        (task.split("/")[0], task): {(seed, f"world {task} {seed}"): value for seed, value in enumerate(own)}
        for task, own in values.items()
    }


def record(method: str, task: str, seed: int, score: float, world: str = "") -> Record:
    return Record(
        task=task, family=task.split("/")[0], suite="quick", seed=seed, task_hash=task, world_hash=f"{world}{task} {seed}",
        method=method, pair="autoencoder", kind="sdl", source_hash="one", status="ok", scores={"headline": score},
        provenance=Provenance(lrbench="0", python="3", platform="x", packages={}, commit=None, dirty=None, device="cpu"),
        timing=Timing(seconds=1.0, finished="2025-01-01T00:00:00+00:00"),
    )  # fmt: skip


def ranges_of(records: list[Record]) -> dict[str, tuple[float, float]]:
    (board,) = compile_boards(records)
    rows = board.standings
    return {m: (a, b) for m, a, b in zip(rows["method"], rows["rank_low"], rows["rank_high"], strict=True)}


def noisy(scores: Mapping[str, float], sd: float, seeds: int = 4, seed: int = 0) -> list[Record]:
    """Records with the given means and a noise on every cell; a world is easier or harder for all methods alike."""
    rng = np.random.default_rng(seed)
    worlds = {(task, s): rng.normal(0.0, 0.1) for task in TASKS for s in range(seeds)}
    return [
        record(method, task, s, min(1.0, score + worlds[task, s] + rng.normal(0.0, sd)))
        for method, score in scores.items()
        for task in TASKS
        for s in range(seeds)
    ]


def test_one_stratum_is_the_paired_t_test() -> None:
    a, b = [0.5, 0.7, 0.6, 0.9], [0.4, 0.5, 0.6, 0.7]
    found = difference(cells({"a/1": a}), cells({"a/1": b}))
    known = stats.ttest_rel(a, b)
    assert found.p == pytest.approx(known.pvalue)
    assert (found.mean, found.freedom, found.pairs) == pytest.approx((0.125, 3.0, 4))
    span = known.confidence_interval(0.95)
    assert found.half == pytest.approx((span.high - span.low) / 2)


def test_two_families_of_one_task_are_welch_s_test() -> None:
    one, two = [0.5, 0.7, 0.6, 0.9], [0.1, 0.4, 0.2]
    zero = {"a/1": [0.0] * 4, "b/1": [0.0] * 3}
    found = difference(cells({"a/1": one, "b/1": [-value for value in two]}), cells(zero))
    known = stats.ttest_ind(
        one, two, equal_var=False
    )  # the difference of two means, which is twice the mean with a sign turned
    assert found.p == pytest.approx(known.pvalue)
    assert found.freedom == pytest.approx(known.df)


def test_families_weigh_equally_and_tasks_are_no_noise() -> None:
    gains = {"a/1": [0.1, 0.1], "a/2": [0.3, 0.3], "b/1": [0.8, 0.8]}
    found = difference(cells(gains), cells({task: [0.0, 0.0] for task in gains}))
    assert found.mean == pytest.approx((0.2 + 0.8) / 2)
    assert (found.error, found.p) == (0.0, 0.0)  # the seeds agree on every task
    assert difference(cells(gains), cells({task: [0.0, 0.0] for task in gains}), ["a"]).mean == pytest.approx(0.2)


def test_only_the_same_world_is_a_pair_and_one_pair_is_no_test() -> None:
    a = cells({"a/1": [0.5, 0.7]})
    elsewhere = {place: {(seed, "other"): value for (seed, _), value in own.items()} for place, own in a.items()}
    assert difference(a, elsewhere).pairs == 0
    assert math.isnan(difference(a, elsewhere).mean)
    one = difference(cells({"a/1": [0.5]}), cells({"a/1": [0.4]}))
    assert one.mean == pytest.approx(0.1)
    assert math.isnan(one.p)


def test_holm_by_hand() -> None:
    assert holm([0.01, math.nan, 0.04, 0.03, 0.5]) == pytest.approx([0.04, math.nan, 0.09, 0.09, 0.5], nan_ok=True)
    assert holm([]) == []


def test_a_known_order_is_recovered_and_equal_methods_share_a_range() -> None:
    scores = {"first": 0.9, "twin a": 0.7, "twin b": 0.7, "twin c": 0.7, "last": 0.5}
    ranges = ranges_of(noisy(scores, sd=0.01))
    assert ranges == {"first": (1, 1), "twin a": (2, 4), "twin b": (2, 4), "twin c": (2, 4), "last": (5, 5)}


def test_a_clear_difference_within_the_tolerance_is_a_tie() -> None:
    small, large = 0.9 * TOLERANCE, 1.5 * TOLERANCE
    assert ranges_of(noisy({"m": 0.5, "n": 0.5 + small}, sd=1e-4)) == {"m": (1, 2), "n": (1, 2)}
    assert ranges_of(noisy({"m": 0.5, "n": 0.5 + large}, sd=1e-4)) == {"m": (2, 2), "n": (1, 1)}


def test_a_large_difference_that_noise_may_be_is_a_tie() -> None:
    assert ranges_of(noisy({"m": 0.4, "n": 0.5}, sd=0.3, seeds=2)) == {"m": (1, 2), "n": (1, 2)}


def test_a_method_of_fewer_tasks_stands_behind_and_one_of_one_seed_nowhere() -> None:
    records = noisy({"all": 0.3, "few": 0.9, "once": 0.9}, sd=0.01)
    kept = [r for r in records if not (r.method == "few" and r.task == "c/1") and not (r.method == "once" and r.seed)]
    ranges = ranges_of(kept)
    assert (ranges["all"], ranges["few"]) == ((1, 1), (2, 2))
    assert all(math.isnan(end) for end in ranges["once"])


def test_holm_keeps_the_share_of_tables_with_a_false_claim_below_the_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal methods, five tasks whose noise differs: no more than one table in twenty should part any of them, tolerance or not."""
    import pandas as pd

    rng, wrong, tables, methods = np.random.default_rng(0), 0, 120, [f"m{i}" for i in range(6)]
    monkeypatch.setattr("lrbench.leaderboard.ranks.METRICS", {"headline": METRICS["headline"].__class__(**{
        **vars(METRICS["headline"]), "tolerance": 0.0})})  # fmt: skip
    places = [(m, task, s) for m in methods for task in TASKS for s in range(4)]
    frame = pd.DataFrame(places, columns=["method", "task", "seed"])
    frame["family"], frame["world"] = frame["task"].str[0], "one"
    for _ in range(tables):
        spread = {(m, task): math.exp(0.5 * rng.normal()) for m in methods for task in TASKS}
        frame["headline"] = [rng.normal(0.0, spread[m, task]) for m, task, _ in places]
        wrong += bool(methods_ahead(frame, dict.fromkeys(methods, len(TASKS))))
    assert wrong <= stats.binom.ppf(0.999, tables, 0.05)


def test_how_many_pairs_are_told_apart_and_what_each_family_adds() -> None:
    scores = {
        "a": {"m": 0.9, "n": 0.5, "o": 0.5},
        "b": {"m": 0.6, "n": 0.5, "o": 0.5},
        "c": {"m": 0.5, "n": 0.5, "o": 0.5},
    }
    records = [record(m, f"{f}/1", s, own) for f, scored in scores.items() for m, own in scored.items() for s in (0, 1)]
    (board,) = compile_boards(records)
    assert told_apart(board, "autoencoder") == (2, 3)
    assert told_apart(board, "autoencoder", 2) == (1, 1)
    assert family_shares(board, "autoencoder") == pytest.approx({"a": 0.8, "b": 0.2, "c": 0.0})
    page = render([board], [], {"quick": {"where": "w", "recovery": "r"}})
    assert "* Autoencoders told apart: 2 of 3 pairs." in page
    assert "between ranked autoencoders: a 80%, b 20%, c 0%." in page
    (even,) = compile_boards([record(m, "a/1", s, 0.5) for m in "mn" for s in (0, 1)])
    assert family_shares(even, "autoencoder") == {}


def test_anchored_minus_plain_is_tested_by_family() -> None:
    rng = np.random.default_rng(1)
    gains = {"a": 0.0, "b": 0.3, "c": -0.2}
    worlds = {(task, s): rng.uniform(0.2, 0.6) for task in TASKS for s in range(4)}
    plain = [record("m", *cell, score) for cell, score in worlds.items()]
    twin = [
        record("m+anchored", task, s, score + gains[task[0]] + rng.normal(0.0, 0.005))
        for (task, s), score in worlds.items()
    ]
    lone = [record("lone", "a/1", 0, 0.5), record("gone+anchored", "a/1", 0, 0.5)]
    (board,) = compile_boards([*plain, *twin, *lone])
    rows = board.anchored.set_index("family")
    assert set(rows["method"]) == {"m"}
    assert list(rows.index) == ["", "a", "b", "c"]
    assert list(rows["pairs"]) == [20, 12, 4, 4]
    assert rows.loc["", "difference"] == pytest.approx((0.0 + 0.3 - 0.2) / 3, abs=0.01)  # families weigh equally
    assert rows.loc["a", "p"] > 0.05 > max(rows.loc["b", "p"], rows.loc["c", "p"])
    page = render([board], [], {"quick": {"where": "w", "recovery": "r"}}).replace("\N{NO-BREAK SPACE}", " ")
    line = next(line for line in page.partition("### Anchored")[2].splitlines() if line.startswith("| `m`"))
    _, method, verdict, whole, *families = [cell.strip() for cell in line.split("|")]
    assert (method, verdict) == ("`m`", "better")
    assert whole.startswith("**+0.03")
    assert [cell.startswith("**") for cell in families[:3]] == [False, True, True]
    assert families[2].startswith("**-0.")


def test_anchored_pairs_of_other_worlds_and_of_one_seed_are_no_test() -> None:
    other = [record(m, "a/1", s, 0.5, world=m) for m in ("m", "m+anchored") for s in (0, 1)]
    (board,) = compile_boards(other)
    page = render([board], [], {"quick": {"where": "w", "recovery": "r"}})
    assert "too few pairs" in page.partition("### Anchored")[2]
    once = [record(m, "a/1", 0, 0.5) for m in ("m", "m+anchored")]
    (board,) = compile_boards(once)
    assert (
        "too few pairs" in render([board], [], {"quick": {"where": "w", "recovery": "r"}}).partition("### Anchored")[2]
    )
