"""Methods at another L0: points of a curve and no rows, and a row that says by how much it missed its L0."""

from __future__ import annotations

import math
from typing import Any

import pytest

from lrbench.leaderboard.compile import Board, compile_boards
from lrbench.leaderboard.l0 import curve_points
from lrbench.leaderboard.render import render
from lrbench.pages.markdown import rows_of
from lrbench.record import Provenance, Record, Timing

FIGURES = {"quick": {"where": "w.svg", "recovery": "r.svg", "l0": "l.svg"}}
MEAN = 4.0  # active features per sample


def record(method: str, task: str, seed: int, score: float, l0: float | None = MEAN, **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "task": task, "family": task.split("/")[0], "suite": "quick", "seed": seed, "task_hash": task,
        "world_hash": f"{task} {seed}", "method": method, "pair": "autoencoder",
        "kind": "reference" if method == "truth" else "sdl", "source_hash": "one", "status": "ok",
        "scores": {"headline": score, "l0": l0}, "world": {"mean_l0": MEAN},
        "curves": {"threshold": [0.0, 0.95, 1.0], "recovery_dec": [1.0, 0.9, 0.0], "recovery_enc": [1.0, 0.2, 0.0]},
        "provenance": Provenance(lrbench="0", python="3", platform="x", packages={}, commit=None, dirty=None, device="cpu"),
        "timing": Timing(seconds=1.0, finished="2025-01-01T00:00:00+00:00"),
    }  # fmt: skip
    return Record(**(fields | changes))


def told(method: str, multiple: float, score: float, reached: float, tasks: str = "ab") -> list[Record]:
    """Records of a method that was told a multiple of the mean L0, and reached one."""
    own = {"hyperparameters": {"l0": multiple}}
    return [record(method, f"{name}/x", s, score, reached * MEAN, **own) for name in tasks for s in (0, 1)]


def board_of(records: list[Record]) -> Board:
    (board,) = compile_boards(records)
    return board


def row_of(board: Board, method: str) -> dict[Any, Any]:
    (row,) = board.standings[board.standings["method"] == method].to_dict("records")
    return row


def cells_of(board: Board, method: str) -> dict[str, str]:
    """A method's row of the page, by heading."""
    page = render([board], [], FIGURES).replace("\N{NO-BREAK SPACE}", " ")
    header, *rows = rows_of(page.partition("### Standings")[2])
    return next(dict(zip(header, row, strict=True)) for row in rows if row[1] == f"`{method}`")


def test_what_differs_by_its_l0_only_is_a_point() -> None:
    names = ["a", "a[l0=0.5]", "a[l0=2]", "a+anchored", "a[l0=2]+anchored", "a[k=3]", "a[k=3,l0=0.5]", "a[k=4,l0=0.5]", "b[l0=2]",
             "a[l0=x]", "odd[", "b"]  # fmt: skip
    found = {name: (point.method, point.multiple) for name, point in curve_points(names).items()}
    assert found == {
        "a[l0=0.5]": ("a", 0.5), "a[l0=2]": ("a", 2.0), "a[l0=2]+anchored": ("a+anchored", 2.0),
        "a[k=3,l0=0.5]": ("a[k=3]", 0.5), "b[l0=2]": ("b", 2.0),
    }  # fmt: skip
    assert curve_points(["b[l0=2]"]) == {}  # without the method itself it has no other place than a row


def test_points_are_no_rows_and_count_in_no_sum() -> None:
    plain = [*told("m", 1.0, 0.6, 1.0), *told("n", 1.0, 0.5, 1.0)]
    points = [*told("m[l0=0.5]", 0.5, 0.8, 0.5), *told("m[l0=2]", 2.0, 0.1, 2.0)]
    alone, both = board_of(plain), board_of([*plain, *points])
    assert list(both.standings["method"]) == ["m", "n"]
    assert row_of(both, "m")["rank_high"] == 1
    assert [*both.families["a"].index] == ["m", "n"]
    assert both.curves.equals(alone.curves)
    assert both.standings[["headline", "rank_low", "rank_high"]].equals(
        alone.standings[["headline", "rank_low", "rank_high"]]
    )
    curve = both.l0_curves
    assert list(curve["reached"]) == pytest.approx([0.5, 1.0, 2.0])
    assert list(curve["headline"]) == pytest.approx([0.8, 0.6, 0.1])
    assert [None if math.isnan(multiple) else multiple for multiple in curve["multiple"]] == [0.5, None, 2.0]
    assert alone.l0_curves.empty
    page = render([both], [], FIGURES)
    assert "and 2 points of L0 curves" in page
    assert "![Score against the L0 reached](l.svg)" in page
    assert "### Score over L0" not in render([alone], [], {"quick": {"where": "w", "recovery": "r"}})


def test_the_best_of_the_curve_names_its_point() -> None:
    records = [*told("m", 1.0, 0.6, 1.0), *told("n", 1.0, 0.5, 1.0), *told("o", 1.0, 0.4, 1.0)]
    records += [*told("m[l0=0.5]", 0.5, 0.8, 0.5), *told("n[l0=2]", 2.0, 0.1, 2.0)]
    board = board_of([*records, *told("o[l0=2]", 2.0, 0.9, 2.0, tasks="a")])  # on one task only: not to be compared
    assert cells_of(board, "m")["best over L0 ↑"] == "**0.800 (×0.5)**"
    assert cells_of(board, "n")["best over L0 ↑"] == "0.500"
    assert cells_of(board, "o")["best over L0 ↑"] == "0.400"


def test_a_row_says_by_how_much_it_missed_its_l0() -> None:
    records = [*told("near", 1.0, 0.5, 1.09), *told("far", 1.0, 0.4, 1.35), *told("own", 2.0, 0.3, 2.0)]
    records += [*told("mixed", 1.0, 0.2, 0.7, tasks="a"), *told("mixed", 1.0, 0.2, 1.2, tasks="b")]
    records += [record("old", f"{name}/x", s, 0.1, world={}) for name in "ab" for s in (0, 1)]
    records += [record("truth", f"{name}/x", s, 1.0, 9.0) for name in "ab" for s in (0, 1)]
    board = board_of(records)
    shown = {name: cells_of(board, name)["L0 off by"] for name in ("near", "far", "own", "mixed", "old")}
    assert shown == {"near": "within 10%", "far": "+35%", "own": "within 10%", "mixed": "-30 to +20%", "old": "–"}
    assert math.isnan(row_of(board, "truth")["missed_high"])  # a reference is told nothing


def test_an_l0_of_nothing_is_no_place_on_the_curve(tmp_path: Any) -> None:
    from lrbench.leaderboard.figures import save_figures

    records = [*told("m", 1.0, 0.6, 1.0), *told("m[l0=0.5]", 0.5, 0.0, 0.0), *told("m[l0=2]", 2.0, 0.7, 2.0)]
    files = save_figures(board_of(records), tmp_path / "figures")
    assert (tmp_path / files["l0"]).stat().st_size > 1000
