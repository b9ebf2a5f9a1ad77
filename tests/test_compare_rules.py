"""What makes a comparison red, and what it must say that it cannot tell: collapsed cells, noise, missing cells, kinds."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from lrbench.leaderboard.compare import Comparison, compare
from lrbench.leaderboard.compare_report import as_json, as_markdown, as_text
from lrbench.leaderboard.compare_source import Side
from lrbench.record import Provenance, Record, Timing

TASKS = tuple(f"t/{i}" for i in range(8))
SIDES = Side("b", ()), Side("h", ())


def record(method: str, task: str = "t/0", seed: int = 0, status: str = "ok", **scores: float) -> Record:
    return Record(
        task=task, family="t", suite="quick", seed=seed, task_hash=f"hash {task}", world_hash="w", method=method,
        pair="autoencoder", kind="sdl", source_hash="one", status=status, reason=None if status == "ok" else "no",
        scores=dict(scores),
        provenance=Provenance(lrbench="0", python="3", platform="p", packages={}, commit=None, dirty=None, device="cpu"),
        timing=Timing(seconds=1.0, finished="2025-01-01T00:00:00+00:00"),
    )  # fmt: skip


def noisy(seed: int, methods: int = 5, tasks: int = 8, seeds: int = 3, deviation: float = 0.005) -> list[Record]:
    draw = random.Random(seed).gauss
    return [
        record(f"m{m}", TASKS[t], s, headline=draw(0.9, deviation), f1=draw(0.9, deviation))
        for m in range(methods)
        for t in range(tasks)
        for s in range(seeds)
    ]


def changed(records: list[Record], where: Callable[[Record], bool], **changes: Any) -> list[Record]:
    return [r.model_copy(update=changes) if where(r) else r for r in records]


def zero(records: list[Record], where: Callable[[Record], bool]) -> list[Record]:
    return changed(records, where, scores={"headline": 0.0, "f1": 0.9})


def whole(comparison: Comparison) -> list[str]:
    return [render(comparison, *SIDES) for render in (as_text, as_markdown, as_json)]


# collapsed cells


def test_one_of_three_seeds_that_collapses_on_every_task_is_a_regression() -> None:
    head = zero(noisy(1), lambda r: r.method == "m2" and r.seed == 2)
    comparison = compare(noisy(0), head)
    assert comparison.exit_code == 1
    assert "8 cells collapsed, of m2" in comparison.why
    assert [found.cell for found in comparison.collapsed] == [f"{task}[m2-seed2]" for task in TASKS]
    for text in whole(comparison):
        assert "t/7[m2-seed2]" in text
    assert "**Collapsed**" in as_markdown(comparison, *SIDES)


@pytest.mark.parametrize("seeds", [1, 2, 3])
@pytest.mark.parametrize("tasks", [1, 8])
@pytest.mark.parametrize("methods", [1, 5])
def test_one_cell_that_collapses_is_a_regression(methods: int, tasks: int, seeds: int) -> None:
    base, head = (noisy(i, methods, tasks, seeds) for i in (0, 1))
    for equal in (base, head):
        assert compare(equal, equal).exit_code == 0
        found = compare(base, zero(equal, lambda r: (r.method, r.task, r.seed) == ("m0", "t/0", 0)))
        assert found.exit_code == 1
        assert [cell.cell for cell in found.collapsed] == ["t/0[m0-seed0]"]


def test_a_seed_that_collapses_on_base_too_is_no_news() -> None:
    base = zero(noisy(0), lambda r: (r.method, r.task, r.seed) == ("m0", "t/0", 0))
    head = zero(noisy(1), lambda r: (r.method, r.task, r.seed) == ("m0", "t/0", 1))
    comparison = compare(base, head)
    assert comparison.collapsed == ()
    assert comparison.exit_code == 0


def test_a_score_that_is_better_when_lower_collapses_upwards() -> None:
    base = [record("m", task, s, fvu=0.1) for task in TASKS for s in (0, 1, 2)]
    up, down = ([*base[1:], record("m", "t/0", 0, fvu=value)] for value in (0.9, 0.0))
    assert [(c.base, c.head) for c in compare(base, up, ["fvu"]).collapsed] == [(0.1, 0.9)]
    assert compare(base, down, ["fvu"]).collapsed == ()


# noise


@pytest.mark.parametrize("shape", [(27, 1, 1), (5, 1, 3), (1, 1, 1), (5, 8, 1), (5, 3, 2)])
def test_noise_alone_is_seldom_red(shape: tuple[int, int, int]) -> None:
    codes = [compare(noisy(2 * i, *shape, 0.02), noisy(2 * i + 1, *shape, 0.02)).exit_code for i in range(60)]
    assert codes.count(1) <= 3
    assert set(codes) <= {0, 1, 3}


def test_a_loss_that_may_be_noise_says_how_many_seeds_would_tell() -> None:
    base = noisy(0, 1, 1, 1)
    head = [r.model_copy(update={"scores": {n: x - 0.04 for n, x in r.scores.items() if x is not None}}) for r in base]
    comparison = compare(base, head)
    assert (comparison.verdict, comparison.exit_code) == ("cannot tell", 3)
    seeds = max(change.seeds_needed for change in comparison.changes)
    assert f"run both sides with `--seeds {seeds}`" in comparison.why
    assert "**Beyond the tolerance, and too few seeds to tell it from noise**" in as_markdown(comparison, *SIDES)
    many = [[r.model_copy(update={"seed": s}) for r in side for s in range(seeds)] for side in (base, head)]
    assert compare(*many).exit_code == 1


@pytest.mark.parametrize("shape", [(1, 1, 1), (27, 1, 1), (5, 1, 3), (27, 8, 2)])
@pytest.mark.parametrize(("name", "drop"), [("headline", 0.06), ("f1", 0.09)])
def test_a_drop_on_runs_that_are_equal_otherwise_is_red(shape: tuple[int, int, int], name: str, drop: float) -> None:
    base = noisy(0, *shape)
    head = [
        r.model_copy(update={"scores": {**r.scores, name: r.scores[name] - drop}}) if r.method == "m0" else r
        for r in base
    ]
    assert compare(base, head).exit_code == 1


# the board as a whole

RANKS = {  # family: headline and F1 of the board's first, and of its 18th method, means over three seeds
    "absorption": ((0.975, 0.975), (0.978, 0.851)),
    "correlation": ((0.998, 0.977), (0.929, 0.773)),
    "frequency": ((0.994, 0.972), (0.994, 0.895)),
    "hierarchy": ((0.922, 0.908), (0.856, 0.685)),
    "interference": ((1.000, 0.975), (0.997, 0.833)),
    "noise": ((0.999, 0.977), (0.999, 0.734)),
    "sparsity": ((0.999, 0.961), (0.997, 0.809)),
    "superposition": ((1.000, 0.979), (0.999, 0.832)),
}


def board(rank: int) -> list[Record]:
    return [
        record("m", f"{family}/x", seed, headline=ranks[rank][0], f1=ranks[rank][1]).model_copy(
            update={"family": family}
        )
        for family, ranks in RANKS.items()
        for seed in range(3)
    ]


@pytest.mark.parametrize(
    ("metrics", "says"),
    [((), "2 of 2 scores got worse: m f1 -0.164, m headline on correlation -0.069"),
     (("headline",), "1 of 1 scores got worse: m headline on correlation -0.069")],
)  # fmt: skip
def test_the_first_method_replaced_by_the_18th_is_a_regression(metrics: tuple[str, ...], says: str) -> None:
    comparison = compare(board(0), board(1), metrics)
    (whole_board,) = [c for c in comparison.changes if c.metric == "headline" and c.family is None]
    assert -whole_board.effect == pytest.approx(0.0173, abs=1e-4)  # below the tolerance
    assert comparison.exit_code == 1
    assert comparison.why.startswith(says)
    assert compare(board(1), board(0), metrics).exit_code == 0


# what must not be missing


def test_a_part_of_base_is_no_regression_and_the_first_line_says_how_much() -> None:
    base = noisy(0)
    comparison = compare(base, base[:1])
    assert comparison.exit_code == 0
    for text in whole(comparison)[:2]:
        assert "compared 1 of 120 cells of base" in text
    assert as_text(comparison, *SIDES).splitlines()[0].endswith("compared 1 of 120 cells of base")


@pytest.mark.parametrize(
    ("head", "lacking"),
    [
        (lambda base: base[:1], 119),
        (lambda base: [r for r in base if r.method != "m1"], 24),
        (lambda base: changed(base, lambda r: r.task == "t/3", task_hash="new"), 15),
        (lambda base: changed(base, lambda r: r.method == "m1", scores={"headline": 0.9, "f1": None}), 24),
        (lambda base: changed(base, lambda r: r.method == "m1", status="skipped", reason="no", scores={}), 24),
    ],
)
def test_all_can_be_required(head: Callable[[list[Record]], list[Record]], lacking: int) -> None:
    base = noisy(0)
    comparison = compare(base, head(base), require_all=True)
    assert comparison.exit_code == 1
    assert len(comparison.missing) == lacking
    assert (
        f"--require-all: {lacking} of 120 cells with a value in base lack it: {comparison.missing[0]}, "
        in comparison.why
    )


def test_what_base_never_measured_is_not_required() -> None:
    silent = [record("s", status="skipped"), record("f", status="failed")]
    base = [*noisy(0, 1, 1, 1), *silent]
    assert compare(base, base, require_all=True).exit_code == 0
    assert compare(base, base[:1], require_all=True).exit_code == 0


# the kind of a method


def test_a_head_that_calls_itself_a_reference_does_not_escape() -> None:
    base = noisy(0)
    head = changed(base, lambda r: r.method == "m1", scores={"headline": 0.1, "f1": 0.1}, kind="reference")
    comparison = compare(base, head)
    assert comparison.exit_code == 1
    assert len(comparison.collapsed) == 48
    assert ("changed kind", "m1", "sdl → reference; base's counts") in {
        (n.kind, n.method, n.reason) for n in comparison.notes
    }


def test_a_reference_of_base_stays_one() -> None:
    base = changed(noisy(0), lambda r: r.method == "m1", kind="reference")
    head = changed(base, lambda r: r.method == "m1", scores={"headline": 0.1, "f1": 0.1}, kind="sdl")
    comparison = compare(base, head)
    assert (comparison.exit_code, [c.method for c in comparison.having("moved")]) == (0, ["m1", "m1"])
