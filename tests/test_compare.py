"""Comparing two sets of records: what is compared and what is not, what must not be swallowed, and the reports."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import norm

from lrbench.leaderboard.compare import DEFAULT_METRICS, Comparison, compare
from lrbench.leaderboard.compare_report import as_json, as_markdown, as_text
from lrbench.leaderboard.compare_source import Side
from lrbench.leaderboard.judge import ALPHA, Change
from lrbench.leaderboard.noise import assumed_noise
from lrbench.metric_table import METRICS
from lrbench.record import Provenance, Record, Timing

TASKS = ("a/x", "b/y", "c/z")
JITTER = {(task, seed): 0.001 * (i + 2 * seed) for i, task in enumerate(TASKS) for seed in (0, 1)}


def record(method: str = "m", task: str = "a/x", seed: int = 0, status: str = "ok", **changes: Any) -> Record:
    scores = {"headline": 0.8, "f1": 0.7, "fvu": 0.2, "absorption": None} | changes.pop("scores", {})
    fields: dict[str, Any] = {
        "task": task, "family": task.split("/")[0], "suite": "quick", "seed": seed, "task_hash": f"hash {task}",
        "world_hash": "w", "method": method, "pair": "autoencoder", "kind": "sdl", "source_hash": "one",
        "status": status, "reason": None if status == "ok" else "ValueError: a | b",
        "scores": scores if status == "ok" else {},
        "provenance": Provenance(lrbench="0", python="3", platform="p", packages={}, commit=None, dirty=None, device="cpu"),
        "timing": Timing(seconds=1.0, finished="2025-01-01T00:00:00+00:00"),
    }  # fmt: skip
    return Record(**(fields | changes))


def run(
    methods: Sequence[str] = ("m", "n"), tasks: Sequence[str] = TASKS, seeds: Sequence[int] = (0, 1)
) -> list[Record]:
    return [record(method, task, seed) for method in methods for task in tasks for seed in seeds]


def shifted(records: list[Record], metric: str, by: float, method: str = "m", jitter: float = 1.0) -> list[Record]:
    """The same run, one method's metric moved by a bit more or less than `by`."""
    moved = []
    for old in records:
        more = by + (jitter * JITTER[old.task, old.seed] if jitter else 0.0)
        new = old.scores[metric] + more if old.method == method else None
        moved.append(old if new is None else old.model_copy(update={"scores": {**old.scores, metric: new}}))
    return moved


def change(comparison: Comparison, method: str, metric: str, family: str | None = None) -> Change:
    (found,) = [c for c in comparison.changes if (c.method, c.metric, c.family) == (method, metric, family)]
    return found


def notes(comparison: Comparison) -> dict[str, list[tuple[str, str, int]]]:
    found: dict[str, list[tuple[str, str, int]]] = {}
    for note in comparison.notes:
        found.setdefault(note.kind, []).append((note.method, note.reason, len(note.cells)))
    return found


# what is compared


def test_equal_runs() -> None:
    comparison = compare(run(), run())
    assert (comparison.verdict, comparison.exit_code) == ("no regression", 0)
    assert comparison.metrics == DEFAULT_METRICS
    assert (comparison.base_cells, comparison.head_cells, comparison.compared_cells) == (12, 12, 12)
    sizes = {None: (3, 6), "a": (1, 2), "b": (1, 2), "c": (1, 2)}
    assert {(c.method, c.metric, c.family, c.outcome, c.tasks, c.pairs) for c in comparison.changes} == {
        (method, metric, family, "unchanged", *size)
        for method in ("m", "n")
        for metric in ("headline", "f1", "fvu")
        for family, size in sizes.items()
    }
    assert comparison.notes == ()


@pytest.mark.parametrize("metric", [name for name, metric in METRICS.items() if metric.direction != "none"])
def test_direction_and_tolerance_are_the_metrics(metric: str) -> None:
    base = [r.model_copy(update={"scores": {metric: 0.5}}) for r in run(seeds=range(6))]
    tolerance = METRICS[metric].tolerance
    sign = -1 if METRICS[metric].direction == "higher" else 1
    far = 3 * max(
        1.0, assumed_noise("m", "a", metric) / tolerance
    )  # what is assumed of the noise has to be left behind
    for by, outcome, code in ((far, "worse", 1), (0.5, "unchanged", 0), (-0.5, "unchanged", 0), (-far, "better", 0)):
        comparison = compare(base, shifted(base, metric, sign * by * tolerance, jitter=0), [metric])
        assert change(comparison, "m", metric).outcome == outcome
        assert change(comparison, "n", metric).outcome == "unchanged"
        assert comparison.exit_code == code
        assert {c.method for c in comparison.having("worse")} == ({"m"} if code else set())


def test_an_effect_of_just_the_tolerance_is_none() -> None:
    base = run(seeds=range(8))
    assert compare(base, shifted(base, "headline", -0.02, jitter=0)).exit_code == 0
    assert compare(base, shifted(base, "headline", -0.0201, jitter=0)).exit_code == 1


def test_numbers_of_a_change_by_hand() -> None:
    base = run(["m"], ["a/x", "b/y", "c/z"])
    moved = {("a/x", 0): 0.5, ("a/x", 1): 0.6, ("b/y", 0): 0.8, ("b/y", 1): 0.9, ("c/z", 0): 0.7, ("c/z", 1): 0.8}
    head = [r.model_copy(update={"scores": {"headline": moved[r.task, r.seed]}}) for r in base]
    found = change(compare(base, head), "m", "headline")
    assert (found.base, found.head, found.effect) == pytest.approx((0.8, 2.15 / 3, 2.15 / 3 - 0.8))
    assert (found.worst_task, found.worst_effect) == ("a/x", pytest.approx(-0.25))


def test_seeds_that_disagree_are_no_regression() -> None:
    base = run()
    swing = {0: -0.25, 1: 0.2}
    head = [r.model_copy(update={"scores": {"headline": 0.8 + swing[r.seed]}}) if r.method == "m" else r for r in base]
    comparison = compare(base, head, ["headline"])
    found = change(comparison, "m", "headline")
    assert found.effect == pytest.approx(-0.025)
    assert (found.outcome, comparison.exit_code) == ("cannot tell", 3)
    assert comparison.why.startswith("1 of 2 scores lost more than the tolerance, which may be noise")
    assert "too few seeds to tell it from noise" in as_text(comparison, Side("b", ()), Side("h", ()))


def test_where_the_seeds_would_find_a_drop_a_smaller_one_is_green() -> None:
    base = run(["m"], TASKS, range(8))
    swing = (-0.095, 0.045)
    moved = [r.model_copy(update={"scores": {"headline": 0.8 + swing[r.seed % 2]}}) for r in base]
    comparison = compare(base, moved, ["headline"])
    found = change(comparison, "m", "headline")
    assert found.tolerance < -found.effect < found.limit
    assert (found.outcome, comparison.exit_code) == ("unclear", 0)
    assert "no more than seeds differ" in as_text(comparison, Side("b", ()), Side("h", ()))


def test_more_scores_that_moved_ask_for_more_evidence() -> None:
    base = run(["m", "n"], ["a/x"], [0])
    one, two = (shifted(base, "headline", -0.01, jitter=0), shifted(base, "headline", -0.01, "n", jitter=0))
    both = [a if a.method == "m" else b for a, b in zip(one, two, strict=True)]
    error = 2**0.5 * 0.02
    assert change(compare(base, one), "m", "headline").limit == pytest.approx(norm.isf(ALPHA) * error)
    assert change(compare(base, both), "m", "headline").limit == pytest.approx(norm.isf(ALPHA / 2) * error)


def test_one_task_that_stands_out_is_shown_though_the_mean_is_within_the_tolerance() -> None:
    tasks = [f"a/{i}" for i in range(10)]
    base = run(["m"], tasks)
    drops = {"a/3": 0.1, "a/4": 0.001}
    head = [r.model_copy(update={"scores": {"headline": 0.8 - drops.get(r.task, 0.0)}}) for r in base]
    comparison = compare(base, head, ["headline"])
    assert comparison.exit_code == 0
    assert change(comparison, "m", "headline").worst_stands_out
    text = as_text(comparison, Side("b", ()), Side("h", ()))
    assert "One task stands out" in text
    assert "a/3 -0.100" in text
    noisy = [r.model_copy(update={"scores": {"headline": r.scores["headline"] + (0.09, -0.09)[r.seed]}}) for r in head]
    assert not change(compare(base, noisy, ["headline"]), "m", "headline").worst_stands_out
    small = [r.model_copy(update={"scores": {"headline": 0.8 - drops.get(r.task, 0.0) / 3}}) for r in base]
    assert not change(compare(base, small, ["headline"]), "m", "headline").worst_stands_out


@pytest.mark.parametrize("by", [-0.1, 0.1])
def test_a_reference_that_moved_is_shown_and_makes_nothing_red(by: float) -> None:
    base = [*run(["m"]), *(r.model_copy(update={"kind": "reference"}) for r in run(["truth"]))]
    comparison = compare(base, shifted(base, "headline", by, method="truth"))
    assert comparison.exit_code == 0
    assert {(c.method, c.family) for c in comparison.having("moved")} == {("truth", x) for x in (None, "a", "b", "c")}
    assert "A reference moved" in as_text(comparison, Side("b", ()), Side("h", ()))


# what is not


def test_nothing_is_swallowed() -> None:
    base = [
        *run(["m"]),
        record("gone"),
        record("broken", status="failed"),
        record("mended", status="failed"),
        record("quiet", status="skipped"),
        record("shy", status="failed"),
        record("m", "d/w", task_hash="old"),
        record("m", "e/v", task_hash="old"),
        record("half"),
        record("edited"),
        record("tuned", hyperparameters={"lr": 1, "k": 2}),
    ]
    head = [
        *run(["m"]),
        record("fresh"),
        record("stillborn", status="failed"),
        record("broken", status="failed"),
        record("mended"),
        record("quiet", status="skipped"),
        record("shy", status="skipped"),
        record("m", "d/w", task_hash="new"),
        record("m", "e/v", task_hash="new", status="failed"),
        record("half", scores={"f1": None}),
        record("edited", source_hash="two"),
        record("tuned", hyperparameters={"lr": 3, "k": 2}),
    ]
    comparison = compare(base, head)
    assert comparison.exit_code == 0
    assert comparison.compared_cells == 9
    error = "ValueError: a | b"
    assert notes(comparison) == {
        "only in base": [("gone", "", 1)],
        "only in head": [("fresh", "", 1), ("stillborn", f"failed: {error}", 1)],
        "fails on both sides": [("broken", error, 1)],
        "now measured": [("mended", f"before, failed: {error}", 1)],
        "skipped on both sides": [("quiet", error, 1)],
        "skipped, failed before": [("shy", error, 1)],
        "changed world": [
            ("m", "the task d/w asks something else now", 1),
            ("m", f"the task e/v asks something else now; now failed: {error}", 1),
        ],
        "value on one side": [("half", "f1 has a value in base only", 1)],
        "changed source": [("edited", "", 1)],
        "changed hyper-parameters": [("tuned", "lr 1 → 3", 1)],
    }
    sides = Side("b", tuple(base), (("x.json", "is not complete JSON"),)), Side("h", tuple(head))
    for note in comparison.notes:
        for render in (as_text, as_markdown, as_json):
            text = render(comparison, *sides).replace("\\|", "|")
            assert note.kind in text
            assert note.method in text
            assert note.cells[0] in text
            assert note.reason in text
    for render in (as_text, as_markdown, as_json):
        assert "x.json" in render(comparison, *sides)


@pytest.mark.parametrize("before", ["ok", "skipped"])
def test_a_method_that_fails_where_it_did_not_is_a_regression(before: str) -> None:
    base = [*run(), record("m", "d/w", 0, before)]
    comparison = compare(base, [*run(), record("m", "d/w", 0, "failed")])
    assert comparison.exit_code == 1
    assert comparison.why == "1 cell fails that did not, of m; compared 12 of 13 cells of base"
    assert notes(comparison) == {"now fails": [("m", "ValueError: a | b", 1)]}
    page = as_markdown(comparison, Side("b", ()), Side("h", ()))
    assert "**Fails where it did not**" in page
    assert "d/w[m-seed0]" in page


def test_a_score_that_is_gone_is_a_regression() -> None:
    cells = [record("m", task, 0) for task in ("d/w", "e/v")]
    skipped = [record("m", task, 0, "skipped") for task in ("d/w", "e/v")]
    comparison = compare([*run(), *cells], [*run(), *skipped])
    assert (comparison.exit_code, comparison.why) == (
        1,
        "2 cells are skipped that had a score, of m; compared 12 of 14 cells of base",
    )
    assert notes(comparison) == {"now skipped": [("m", "ValueError: a | b", 2)]}
    assert "**Skipped where it had a score**" in as_markdown(comparison, Side("b", ()), Side("h", ()))


def test_a_task_and_a_seed_are_never_mixed_up_with_another() -> None:
    base = [record(task="a/x", task_hash="same"), record(task="b/y", task_hash="same", scores={"headline": 0.1})]
    comparison = compare(base, base[::-1])
    assert {c.effect for c in comparison.changes} == {0.0}
    other = [r.model_copy(update={"suite": "smoke", "scores": {"headline": 0.1}}) for r in run()]
    comparison = compare([*run(), *other], [*run(), *other])
    assert sorted(
        (c.suite, round(c.head, 6)) for c in comparison.changes if c.score[2:] == ("headline",) and c.family is None
    ) == [
        *[("quick", 0.8)] * 2,
        *[("smoke", 0.1)] * 2,
    ]


@pytest.mark.parametrize(
    ("base", "head", "code", "why"),
    [
        ([], run(), 3, "base holds no record"),
        (run(["x"]), run(["y"]), 3, "no method is shared: base holds x; head holds y"),
        (run(seeds=[0]), run(seeds=[1]), 3, "no seed is shared: base holds 0; head holds 1"),
        ([record(suite="smoke")], [record()], 3, "no suite is shared: base holds smoke; head holds quick"),
        ([record(task_hash="old")], [record()], 3, "every task that both sides hold asks something else now"),
        (
            [record(status="failed")],
            [record()],
            3,
            "no cell has a value of any score with a better direction on both sides",
        ),
        (run(), [], 4, "head holds no value of headline, f1 (no record)"),
        ([], [], 4, "head holds no value of headline, f1 (no record)"),
        (
            run(["x"]),
            [record(status="failed")],
            4,
            "head holds no value of headline, f1 (1 failed)",
        ),
        (
            [record(status="failed")],
            [record(status="failed")],
            4,
            "head holds no value of headline, f1 (1 failed)",
        ),
        (
            [record(status="skipped")] * 2,
            [record(status="skipped")],
            4,
            "head holds no value of headline, f1 (1 skipped)",
        ),
        (run(), [record(status="skipped")], 1, "1 cell is skipped that had a score, of m"),
        (run(), [record(status="failed")], 1, "1 cell fails that did not, of m"),
    ],
)
def test_what_cannot_be_compared(base: list[Record], head: list[Record], code: int, why: str) -> None:
    comparison = compare(base, head)
    assert comparison.exit_code == code
    assert comparison.why.startswith(why)
    for render in (as_text, as_markdown, as_json):
        assert why in render(comparison, Side("b", ()), Side("h", ()))


def test_a_metric_that_applies_nowhere_is_nothing_measured() -> None:
    comparison = compare(run(), run(), ["absorption"])
    assert (comparison.exit_code, comparison.why) == (4, "head holds no value of absorption (12 ok)")
    assert {kind for kind in notes(comparison)} == {"no value"}


# reports


def test_reports_say_the_same(tmp_path: Path) -> None:
    base = run()
    head = shifted(shifted(base, "headline", -0.06), "f1", 0.2, method="n")
    comparison = compare(base, head)
    sides = Side("before", tuple(base)), Side("after", tuple(head))
    text = as_text(comparison, *sides)
    assert (
        text.splitlines()[0]
        == "REGRESSION: 1 of 6 scores got worse: m headline -0.058; compared 12 of 12 cells of base"
    )
    assert text.index("Worse") < text.index("Better")
    assert (
        "12 cells compared, of 12 in base (before) and 12 in head (after), on any score with a better direction" in text
    )
    assert "4 of 6 scores within their tolerance" in text
    page = as_markdown(comparison, *sides)
    assert page.startswith(
        "### ❌ lrbench: regression\n\n1 of 6 scores got worse: m headline -0.058; compared 12 of 12 cells of base\n"
    )
    assert "| m | headline (quick) | all tasks, 3 families | 0.800 | 0.742 | -0.058 | 0.02 |" in re.sub(
        r" {2,}", " ", page
    )
    assert page.index("**Worse**") < page.index("<details><summary>Better (1)</summary>")
    data = json.loads(as_json(comparison, *sides))
    assert (data["verdict"], data["exit_code"], data["base"]["name"]) == ("regression", 1, "before")
    worse = [(c["method"], c["family"]) for c in data["changes"] if c["outcome"] == "worse"]
    assert worse == [("m", None), ("m", "a"), ("m", "b"), ("m", "c")]
