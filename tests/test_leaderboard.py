"""The leaderboard: its sums against sums made by hand, the order of its rows, what it must not hide, and its bytes."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lrbench.cli import main
from lrbench.errors import LrbenchError
from lrbench.leaderboard import write_leaderboard
from lrbench.leaderboard.compile import Board, compile_boards
from lrbench.leaderboard.facts import Gap
from lrbench.leaderboard.means import natural
from lrbench.leaderboard.render import render
from lrbench.leaderboard.standing_tables import verdict
from lrbench.record import Provenance, Record, Timing
from lrbench.store import Store

T1 = 12.706204736  # 97.5% quantile of Student's t with one degree of freedom, from a printed table
FIGURES = {"quick": {"where": "w.svg", "recovery": "r.svg"}}


def record(method: str, task: str, seed: int, headline: float | None = 0.5, **changes: Any) -> Record:
    family = task.split("/")[0]
    scores = {"headline": headline, "l0": 3.0, "fvu": 0.1, "absorption": None} | changes.pop("scores", {})
    status = changes.get("status", "ok")
    finished = changes.pop("finished", "2025-01-01T00:00:00+00:00")
    kind = "reference" if method in ("oracle", "truth", "random") else "sdl"
    fields: dict[str, Any] = {
        "task": task, "family": family, "suite": "quick", "seed": seed, "task_hash": f"hash {task}",
        "world_hash": f"world {task} {seed}", "method": method, "pair": "autoencoder", "kind": kind,
        "source_hash": "one", "status": status, "scores": scores if status == "ok" else {},
        "reason": None if status == "ok" else "ValueError: a | b",
        "curves": {"threshold": [0.0, 0.5, 1.0], "recovery_dec": [1.0, 0.5, 0.0], "recovery_enc": [1.0, 0.2, 0.0]},
        "world": {"n_features": 128, "dim": 96, "extreme_sparsity": seed == 0},
        "provenance": Provenance(lrbench="0.1.0", python="3.11", platform="Linux", packages={"torch": "2.8"},
                                 commit="abc", dirty=False, device="cpu"),
        "timing": Timing(seconds=2.0, finished=finished),
    }  # fmt: skip
    return Record(**(fields | changes))


def board_of(records: list[Record]) -> Board:
    (board,) = compile_boards(records)
    return board


def row_of(board: Board, method: str) -> dict[Any, Any]:
    (row,) = board.standings[board.standings["method"] == method].to_dict("records")
    return row


def squeezed(page: str) -> str:
    """A page without the spaces that set its tables in columns, and with ordinary ones in its cells."""
    return re.sub(r" {2,}", " ", page.replace("\N{NO-BREAK SPACE}", " "))


def page_of(records: list[Record]) -> str:
    return squeezed(render(compile_boards(records), [], FIGURES))


def line_of(page: str, start: str) -> str:
    return next(line for line in page.splitlines() if line.startswith(start))


def two_by_two() -> list[Record]:
    values = {("a/x", 0): 0.5, ("a/x", 1): 0.7, ("b/y", 0): 0.9, ("b/y", 1): 0.5}
    return [record("m", task, seed, value) for (task, seed), value in values.items()]


def test_score_averages_families_inside_each_seed_first() -> None:
    row = row_of(board_of(two_by_two()), "m")
    # seed 0: (0.5 + 0.9) / 2 = 0.7; seed 1: (0.7 + 0.5) / 2 = 0.6
    assert row["headline"] == pytest.approx(0.65)
    assert row["half"] == pytest.approx(T1 * 0.05)
    assert (row["tasks"], row["seeds"], row["seconds"]) == (2, 2, 2.0)


def test_families_weigh_equally() -> None:
    many = [record("m", f"a/{level}", s, 0.2 + 0.1 * level) for level in range(3) for s in (0, 1)]
    board = board_of([*many, *(record("m", "b/y", s, 0.9, scores={"fvu": 0.7}) for s in (0, 1))])
    # family a: (0.2 + 0.3 + 0.4) / 3 = 0.3; with b: (0.3 + 0.9) / 2, where the mean over the four tasks is 0.45
    assert row_of(board, "m")["headline"] == pytest.approx(0.6)
    assert row_of(board, "m")["fvu"] == pytest.approx(0.4)  # 0.1 in a, 0.7 in b
    assert row_of(board, "m")["tasks"] == 4
    # curves as well: with other shares in b
    other = {"threshold": [0.0, 0.5], "recovery_dec": [1.0, 0.9], "recovery_enc": [1.0, 0.9]}
    changed = [*many, *(record("m", "b/y", s, 0.9, curves=other) for s in (0, 1))]
    curves = board_of(changed).curves.set_index("threshold")
    assert curves.loc[0.5, "dec"] == pytest.approx((0.5 + 0.9) / 2)


def test_one_seed_has_no_interval_and_two_have_a_warning() -> None:
    page = page_of([record("m", "a/x", 0, 0.5)])
    assert "0.500 (one seed)" in page
    assert "With one seed there is no interval" in page
    assert "There are no ranks: with one seed no test is possible" in page
    assert "| rank" not in page
    assert "12.7" not in page
    assert "t = 12.7" in page_of(two_by_two())


def test_a_failed_cell_takes_its_task_out_and_shows() -> None:
    records = [*two_by_two()[:3], record("m", "b/y", 1, status="failed"), *(record("n", "a/x", s, 0.1) for s in (0, 1))]
    records += [record("n", "b/y", s, 0.1) for s in (0, 1)]
    board = board_of(records)
    assert row_of(board, "m")["headline"] == pytest.approx(0.6)  # a/x alone, not 0.9 mixed in
    assert board.gaps == (Gap("m", "failed", "ValueError: a | b", (("b/y", 1),)),)
    assert list(board.standings["method"]) == ["n", "m"]  # complete before incomplete, whatever the score
    assert math.isnan(board.families["b"].loc["m", "b/y"])
    page = page_of(records)
    assert "`m` (1/2 tasks)" in page
    assert "| `m` | failed | ValueError: a \\| b | b/y (seed 1) |" in page
    assert "cells 1 failed, 0 skipped, 0 missing" in page


def test_a_missing_cell_is_named_and_a_seed_is_never_dropped() -> None:
    hierarchy = {"absorption": 0.2, "recall_alone": 0.9, "recall_with_child": 0.7}
    board = board_of([*two_by_two(), record("m", "c/z", 0, 0.9, scores=hierarchy)])
    assert board.gaps == (Gap("m", "missing", "no record of this cell", (("c/z", 1),)),)
    assert row_of(board, "m")["headline"] == pytest.approx(0.65)
    (row,) = board.absorption["c"].to_dict("records")
    assert row["tasks"] == 0
    assert math.isnan(row["recall_alone"])


def test_a_method_without_any_score_stands_last_and_unranked() -> None:
    board = board_of([*two_by_two(), *(record("a", "a/x", s, status="skipped") for s in (0, 1))])
    assert list(board.standings["method"]) == ["m", "a"]
    assert math.isnan(row_of(board, "a")["rank_low"])
    assert [gap.status for gap in board.gaps] == ["missing", "skipped"]


def test_rank_order_ties_and_references() -> None:
    scores = {"low": 0.2, "high": 0.8, "tie": 0.8, "oracle": 1.0, "random": 0.0, "below": -0.1}
    board = board_of([record(m, "a/x", s, value) for m, value in scores.items() for s in (0, 1)])
    assert list(board.standings["method"]) == ["oracle", "high", "tie", "low", "random", "below"]
    columns = zip(board.standings["rank_low"], board.standings["rank_high"], strict=True)
    ranks = [None if math.isnan(low) else (low, high) for low, high in columns]
    assert ranks == [None, (1, 2), (1, 2), (3, 3), None, (4, 4)]
    page = squeezed(render([board], [], FIGURES))
    assert line_of(page, "| – |").startswith("| – | *`oracle` (ceiling)* |")
    assert "**1.000" not in page  # a reference is never the best
    assert "**0.800 ± 0.000**" in line_of(page, "| 1–2 | `high`")
    assert line_of(page, "| 4 |").startswith("| 4 | `below` |")


def test_pairings_are_ranked_apart() -> None:
    pairs = {"a": "autoencoder", "b": "autoencoder", "t": "transcoder", "c": "crosscoder"}
    scores = {"a": 0.5, "b": 0.3, "t": 0.9, "c": 0.7}
    records = [record(m, "a/x", s, scores[m], pair=pairs[m]) for m in pairs for s in (0, 1)]
    board = board_of(records)
    assert {m: row_of(board, m)["rank_low"] for m in pairs} == {"a": 1, "b": 2, "t": 1, "c": 1}
    section = page_of(records).partition("### Standings\n")[2].partition("\n### ")[0]
    assert re.findall(r"^#### (\w+)", section, re.M) == ["Autoencoders", "Crosscoders", "Transcoders"]
    assert [line.split(" | ")[1] for line in section.splitlines() if line.startswith("| 1 |")] == ["`a`", "`c`", "`t`"]


def test_the_ranking_of_toy_worlds_says_that_it_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        for method, score in (("m", 0.1), ("n", 0.9)):
            Store(tmp_path).write(record(method, "a/x", seed, score, suite="smoke"))
    assert main(["leaderboard", str(tmp_path)]) == 0
    page = squeezed((tmp_path / "LEADERBOARD.md").read_text(encoding="utf-8"))
    assert "| rank" not in page
    said = "asks whether a method runs. Its worlds are toys: the order of the rows is no ranking."
    assert f"* `smoke` {said}" in page
    assert f"smoke {said}" in capsys.readouterr().out


def test_columns_of_one_value_go_and_tied_zeros_are_not_bold() -> None:
    dead = {"m": {"dead": 0.0, "f1": 0.2}, "n": {"dead": 0.0, "f1": 0.2}, "o": {"dead": 0.5, "f1": 0.2}}
    page = page_of([record(m, "a/x", s, 0.1, scores=own) for m, own in dead.items() for s in (0, 1)])
    heads = line_of(page, "| rank |")
    assert "dead ↓" in heads
    assert "F1" not in heads
    assert "rare" not in heads  # what no record has
    assert "* The same in every row, hence no column: F1 of autoencoders 0.200, " in page
    assert "**0.000**" not in page
    alone = page_of([record(m, "a/x", s, 0.1, scores={"dead": 0.1 * (m == "m")}) for m in "mn" for s in (0, 1)])
    assert "**0.000**" in alone
    bare = page_of([record(m, "a/x", s, 0.0) for m in "mn" for s in (0, 1)])
    assert "**0.000" not in bare.partition("### Score by task")[2]


def test_no_cell_of_numbers_is_broken_into_lines() -> None:
    page = render(compile_boards(two_by_two()), [], FIGURES)
    assert "0.650\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.635" in page
    assert "no\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}yes" in page


def test_absorption_that_does_not_apply_is_a_dash_and_no_zero() -> None:
    hierarchy = {"absorption": 0.4, "recall_alone": 0.9, "recall_with_child": 0.5}
    records = [record("m", "absorption/even", s, 0.5, scores=hierarchy) for s in (0, 1)]
    records += [record("m", "noise/x", s, 0.5) for s in (0, 1)]
    board = board_of(records)
    assert row_of(board, "m")["absorption"] == pytest.approx(0.4)
    assert list(board.absorption) == ["absorption"]
    assert "| `m` | 1 | 0.900 ± 0.000 | 0.500 ± 0.000 | 0.400 ± 0.000 |" in squeezed(render([board], [], FIGURES))
    flat = page_of([r for r in records if r.family == "noise"])
    assert "### Absorption" not in flat
    assert "absorption" not in line_of(flat, "| rank |")
    some = [*records, *(record("n", task, s, 0.4) for task in ("absorption/even", "noise/x") for s in (0, 1))]
    assert line_of(page_of(some), "| 2 | `n`").endswith("| – |")


@pytest.mark.parametrize(
    ("difference", "p", "expected"),
    [(0.2, 0.01, "better"), (-0.2, 0.01, "worse"), (0.1, 0.06, "no clear difference"), (0.0, 1.0, "no clear difference"),
     (0.2, math.nan, "too few pairs"), (0.01, 0.001, "the same within tolerance"),
     (-0.03, 0.001, "worse")],
)  # fmt: skip
def test_verdict(difference: float, p: float, expected: str) -> None:
    assert verdict(difference, p) == expected


def test_only_the_newest_task_and_source_are_used() -> None:
    old = [record("m", "a/x", s, 0.1, task_hash="old", finished="2024-01-01T00:00:00+00:00") for s in (0, 1)]
    new = [record("n", "a/x", s, 0.9) for s in (0, 1)]
    board = board_of(old + new)
    assert list(board.standings["method"]) == ["n"]
    changed = "not comparable: the task has changed since"
    assert board.set_aside == tuple((f"a/x · m · seed {s}", changed) for s in (0, 1))
    assert f"| a/x · m · seed 0 | {changed} |" in squeezed(render([board], [], FIGURES))

    stale = record("n", "a/x", 0, 0.1, source_hash="old", finished="2024-01-01T00:00:00+00:00")
    board = board_of([stale, new[1]])
    assert row_of(board, "n")["headline"] == 0.9
    assert board.set_aside == (("a/x · n · seed 0", "the method's source has changed since"),)


def test_each_suite_has_its_own_heading_and_sums() -> None:
    other = record("m", "a/x", 0, 0.1).model_copy(update={"suite": "smoke"})
    boards = compile_boards([*two_by_two(), other])
    assert [board.suite for board in boards] == ["quick", "smoke"]
    assert [row_of(board, "m")["headline"] for board in boards] == pytest.approx([0.65, 0.1])
    page = render(boards, [], FIGURES | {"smoke": FIGURES["quick"]})
    assert page.index("## Suite `quick`") < page.index("## Suite `smoke`")


def test_worlds_provenance_and_commands() -> None:
    page = page_of(two_by_two())
    assert "In every world n is 128, d is 96, 1 − S ≤ 1/n is no to yes." in page
    assert re.search(r"\| task +\|\n\|:-+\|\n\| `a/x` +\|", page)  # nothing else differs
    larger = [*two_by_two(), record("m", "c/z", 0, world={"n_features": 256, "dim": 96})]
    assert "| task | n | 1 − S ≤ 1/n |" in page_of(larger)
    assert "| `a/x` | 128 | no to yes |" in page_of(larger)
    assert "git checkout abc\n" in page
    assert "lrbench run --suite quick --seeds 2 --out results\n" in page
    first, *rest = two_by_two()
    other = first.provenance.model_copy(update={"packages": {}, "dirty": True})
    mixed = page_of([*rest, first.model_copy(update={"provenance": other})])
    assert "git checkout" not in mixed
    assert "* commit: abc (×3); abc with uncommitted changes (×1)" in mixed
    assert "* torch: 2.8 (×3); absent (×1)" in mixed


def fill(folder: Path, order: int = 1) -> None:
    store = Store(folder)
    methods = [f"method_{i}{twin}" for i in range(3) for twin in ("", "+anchored", "[l0=0.5]")] + ["truth", "random"]
    cells = [(m, t, s) for m in methods for t in ("a/x", "absorption/even") for s in (0, 1)]
    for i, (method, task, seed) in list(enumerate(cells))[::order]:
        store.write(record(method, task, seed, math.sin(i) ** 2, scores={"l0": 3.0 + i % 7}, world={"mean_l0": 3.0}))
    (folder / "foreign.json").write_text("{")


def test_same_records_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "one")
    fill(tmp_path / "elsewhere", order=-1)
    first = write_leaderboard(tmp_path / "one", tmp_path / "out" / "PAGE.md").page
    monkeypatch.chdir(tmp_path)
    second = write_leaderboard(Path("elsewhere")).page
    assert second == Path("elsewhere/LEADERBOARD.md")
    assert first.read_bytes() == second.read_bytes()
    names = sorted(path.name for path in (first.parent / "figures").iterdir())
    assert names == ["quick-l0.svg", "quick-recovery.svg", "quick-where.svg"]
    for name in names:
        drawn = (first.parent / "figures" / name).read_bytes()
        assert drawn == (second.parent / "figures" / name).read_bytes()
        assert b"<dc:date>" not in drawn
        assert f"](figures/{name})" in first.read_text(encoding="utf-8")
    page = first.read_text(encoding="utf-8")
    assert str(tmp_path) not in page
    assert "| `foreign.json` | is not complete JSON: truncated or foreign |" in squeezed(page)
    assert write_leaderboard(tmp_path / "one", first).page.read_text(encoding="utf-8") == page


def test_names_stand_in_natural_order() -> None:
    assert sorted(["10x", "2x", "0.8x", "1.04x"], key=natural) == ["0.8x", "1.04x", "2x", "10x"]


def test_nothing_to_show_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(LrbenchError, match="no results folder"):
        write_leaderboard(tmp_path / "absent")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(LrbenchError, match=r"no usable record .*\(1 unreadable"):
        write_leaderboard(tmp_path)
    assert not (tmp_path / "LEADERBOARD.md").exists()


def test_a_world_under_several_names_is_counted_once_and_the_page_says_so() -> None:
    def standing(*names: str) -> list[Record]:
        hashes = {name: "same" if name in names else f"hash {name}" for name in ("b/2", "b/10", "b/30")}
        scores = {"b/2": 0.2, "b/10": 0.2, "b/30": 0.8}
        return [record("m", name, s, scores[name], task_hash=hashes[name]) for name in hashes for s in (0, 1)]

    apart, once = board_of(standing()), board_of(standing("b/2", "b/10"))
    assert row_of(apart, "m")["headline"] == pytest.approx(0.4)
    assert row_of(once, "m")["headline"] == pytest.approx(0.5)  # (0.2 + 0.8) / 2
    assert (apart.counted_as, once.counted_as) == ((), (("b/10", "b/2"),))  # the first in natural order
    assert once.tasks == ("b/2", "b/30")
    said = "`b/10` is the same world as `b/2` and counts once, there."
    assert said in render([once], [], FIGURES)
    assert "is the same world" not in render([apart], [], FIGURES)
    # a method that was run under the other name only is not short of a task
    other = [r.model_copy(update={"method": "n"}) for r in standing("b/2", "b/10") if r.task != "b/2"]
    board = board_of([*standing("b/2", "b/10"), *other])
    assert row_of(board, "n")["headline"] == pytest.approx(0.5)
    assert board.gaps == ()


def test_what_only_a_study_asked_for_is_on_no_leaderboard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [record("s", "a/x", s, 0.9, study="falsify") for s in (0, 1, 2)]
    plain = page_of(two_by_two())
    for one in [*two_by_two(), *asked]:
        Store(tmp_path / "both").write(one)
    page = squeezed(write_leaderboard(tmp_path / "both").page.read_text(encoding="utf-8"))
    assert "`s`" not in page
    assert page.endswith("\n3 records of studies: on no leaderboard.\n")
    assert "of studies" not in plain
    for one in asked:
        Store(tmp_path / "studies").write(one)
    assert main(["leaderboard", str(tmp_path / "studies")]) == 2
    assert "no usable record" in (error := capsys.readouterr().err)
    assert "(3 records are of studies, which stand on no leaderboard)" in error
    assert error.count("\n") == 1


def test_a_file_that_is_no_record_is_named_in_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [Store(tmp_path).write(one) for one in two_by_two()]
    paths[0].write_text(paths[0].read_text()[:100])
    assert main(["leaderboard", str(tmp_path)]) == 0
    assert capsys.readouterr().err == f"set aside {paths[0]}: is not complete JSON: truncated or foreign\n"
    for i in range(8):
        (tmp_path / f"{i}.json").write_text("{")
    assert main(["leaderboard", str(tmp_path)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == [f"set aside {tmp_path / f'{i}.json'}" for i in range(5)]
    assert lines[-1] == "and 4 more files, see the end of the page"


def test_a_page_that_is_no_markdown_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(tmp_path).write(record("m", "a/x", 0))
    assert main(["leaderboard", str(tmp_path), "--output", str(tmp_path / "page.html")]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'page.html'}: the page is markdown, name a file such as {tmp_path / 'page.md'}\n"
    )
    assert not (tmp_path / "page.html").exists()


def test_neither_torch_nor_pyplot_is_imported(tmp_path: Path) -> None:
    Store(tmp_path).write(record("m", "a/x", 0))
    code = (
        "import sys, pathlib, lrbench.leaderboard as board\n"
        "early = {'pandas', 'matplotlib'} & set(sys.modules)\n"
        f"board.write_leaderboard(pathlib.Path({str(tmp_path)!r}))\n"
        "print(sorted(early | {'torch', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_page_says_on_which_worlds_and_how_isolated() -> None:
    facts = dict(board_of([record("a", "noise/0.3", 0)]).provenance)
    assert (facts["worlds"], facts["engine"], facts["isolation of fit"]) == ("public", "unknown", "unknown")
    own = record("a", "noise/0.3", 0)
    walled = own.provenance.model_copy(update={"engine": "exact", "isolation": "sandbox"})
    facts = dict(board_of([own.model_copy(update={"salt_hash": "ab12", "provenance": walled})]).provenance)
    assert (facts["worlds"], facts["engine"], facts["isolation of fit"]) == ("salted, hash ab12", "exact", "sandbox")
