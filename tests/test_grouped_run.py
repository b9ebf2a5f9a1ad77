"""`--group N`: the same records from one program for several cells, and a failure that costs no other cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lrbench.cli import main
from lrbench.errors import LrbenchError
from lrbench.longrun.report import Progress
from lrbench.running.cell import Cell
from lrbench.running.grouped import each_of, is_foreign, jobs_of, run_job
from lrbench.running.pool import Failed
from lrbench.running.progress import RunProgress
from lrbench.running.runner import Silent, Summary, plan, run
from lrbench.store import Store
from lrbench.terms import L1

TASK = "superposition/1.30x"


class Apart(Silent):
    """Writes down which programs failed, and what was said to have started."""

    def __init__(self) -> None:
        self.failed: list[tuple[list[str], str]] = []
        self.began: list[str] = []
        self.told_of: list[tuple[str, Progress | str]] = []

    def started(self, cell: Cell) -> None:
        self.began.append(cell.method)

    def told(self, cell: Cell, what: Progress | str) -> None:
        self.told_of.append((cell.method, what))

    def apart(self, cells: Sequence[Cell], reason: str) -> None:
        self.failed.append(([cell.method for cell in cells], reason))


def groups(summary: Summary) -> dict[str, int]:
    return {record.method: record.provenance.group for record in summary.records}


def test_which_cells_are_one_job(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text('"""Mine."""\nfrom lrbench.sdl import SDL\n\nMETHOD = SDL()\n')
    methods = ["topk_sae", "pca", str(mine), "transcoder", "relu_sae", "relu_sae[lr=0.01]"]
    cells = plan("smoke", [TASK, "noise/0.3"], methods, seeds=2)
    jobs = jobs_of(cells, 4)
    assert sorted(cell.id for job in jobs for cell in job) == sorted(cell.id for cell in cells)
    of_task = [[f"{cell.method}{cell.seed}" for cell in job] for job in jobs if job[0].task == TASK]
    together = [job for job in of_task if len(job) > 1]
    assert together == [
        ["relu_sae0", "topk_sae0", "relu_sae[lr=0.01]0", "relu_sae1"],
        ["transcoder0", "transcoder1"],
        ["topk_sae1", "relu_sae[lr=0.01]1"],
    ]
    assert sorted(job[0] for job in of_task if len(job) == 1) == ["mine0", "mine1", "pca0", "pca1"]
    assert all(len({cell.task for cell in job}) == 1 for job in jobs)
    assert jobs_of(cells, 1) == [(cell,) for cell in cells]
    foreign = [replace(cell, task_source="mine.py::noise/0.3") for cell in cells[:1] * 2]
    assert [is_foreign(job) for job in jobs_of(foreign, 4)] == [True, True]


def test_a_group_gives_the_records_of_its_cells(tmp_path: Path) -> None:
    methods = ["topk_sae", "topk_sae+anchored", "gated_sae", "topk_sae+autoanchor", "pca"]
    alone = run("smoke", [TASK], methods, seeds=1, out=tmp_path / "alone", workers=1)
    together = run("smoke", [TASK], methods, seeds=1, out=tmp_path / "group", workers=1, group=4)
    assert [record.status for record in together.records] == ["ok"] * 5
    assert groups(alone) == dict.fromkeys(methods, 1)
    assert groups(together) == dict(zip(methods, (3, 3, 3, 1, 1), strict=False)) | {"topk_sae+autoanchor": 1}
    for ours, theirs in zip(together.records, alone.records, strict=True):
        same = {"scores", "curves", "parents"}
        assert {k: v for k, v in ours.content().items() if k not in same} == {
            k: v for k, v in theirs.content().items() if k not in same
        }
        assert ours.scores["matched_dec"] == pytest.approx(theirs.scores["matched_dec"], abs=1e-3)
        assert ours.scores["fvu"] == pytest.approx(theirs.scores["fvu"], abs=1e-3)
    timings = [record.timing for record in together.records if record.provenance.group == 3]
    assert len({timing.train_seconds for timing in timings}) == 1
    assert all(timing.seconds > (timing.train_seconds or 0) > 0 for timing in timings)
    again = run("smoke", [TASK], methods, seeds=1, out=tmp_path / "group", workers=1)
    assert (again.done, again.ran) == (5, 0)


def test_what_cells_of_a_group_leave_on_the_disk(tmp_path: Path) -> None:
    """Two of an odd shape train alone, and speak for themselves; a cell of a program has no log, so an old one goes."""
    methods = ["topk_sae", "relu_sae", "relu_sae[batch_size=32]", "gated_sae[batch_size=16]"]
    odd = methods[2:]
    for cell in plan("smoke", [TASK], methods, seeds=1):
        store = Store(tmp_path)
        store.write_beside(store.log("smoke", cell.key), b"old")
        store.write_beside(store.checkpoint("smoke", cell.key), b"no checkpoint")
    journal = Apart()
    summary = run("smoke", [TASK], methods, seeds=1, out=tmp_path, workers=1, group=4, reporter=journal)
    assert groups(summary) == dict(zip(methods, (2, 2, 1, 1), strict=True))
    notes = [(method, what.partition(": ")[2]) for method, what in journal.told_of if isinstance(what, str)]
    assert sorted(notes) == [
        (method, "is no checkpoint, or not all of one; its training begins anew") for method in sorted(odd)
    ]
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".json"}


def test_cells_that_run_again_are_not_shown_meanwhile() -> None:
    cells = plan("smoke", [TASK], ["topk_sae", "relu_sae"], seeds=1)
    shown = RunProgress()
    for cell in cells:
        shown.started(cell)
        shown.told(cell, Progress(samples=64, total=9600, loss=1.0, l0=2.0))
    assert len(shown._trainings) == len(shown._running) == 2
    shown.apart(cells, "why")
    assert not shown._trainings
    assert not shown._running


def test_a_program_that_fails_costs_nothing_and_names_the_guilty(tmp_path: Path) -> None:
    """The two with a batch that is too large are a program of their own, which ends the job of all four."""
    methods = ["topk_sae", "relu_sae", "topk_sae[batch_size=5000]", "relu_sae[batch_size=5000]"]
    journal = Apart()
    summary = run("smoke", [TASK], methods, seeds=1, out=tmp_path, workers=2, group=4, reporter=journal)
    ((members, reason),) = journal.failed
    assert sorted(members) == sorted(methods)
    assert reason == "LrbenchError: batch_size=5000: expected 1 to 4096, the number of distinct samples"
    assert {record.method: record.reason for record in summary.records} == {
        "topk_sae": None, "relu_sae": None, "topk_sae[batch_size=5000]": reason, "relu_sae[batch_size=5000]": reason,
    }  # fmt: skip
    assert groups(summary) == dict.fromkeys(methods, 1)
    assert (summary.ran, summary.failed) == (4, 2)
    assert sorted(journal.began) == sorted(methods * 2)


def test_a_member_that_cannot_be_scored_fails_alone(tmp_path: Path) -> None:
    methods = ["relu_sae", "relu_sae[lr=1e+30]"]
    summary = run("smoke", [TASK], methods, seeds=1, out=tmp_path, workers=1, group=2)
    assert groups(summary) == dict.fromkeys(methods, 2)
    good, bad = sorted(summary.records, key=lambda record: record.method)
    assert (good.status, bad.status) == ("ok", "failed")
    assert bad.reason == "LrbenchError: the weights hold NaN or infinity"


def test_a_cell_that_does_not_load_leaves_the_others_a_group() -> None:
    first, second, third = plan("smoke", [TASK], ["topk_sae", "relu_sae", "gated_sae"], seeds=1)
    records = run_job((first, replace(second, source_hash="old"), replace(third, source_hash="old")))
    assert [(record.status, record.provenance.group) for record in records] == [("ok", 1), ("failed", 1), ("failed", 1)]
    assert all("has changed since the run was planned" in str(record.reason) for record in records[1:])


def test_what_one_members_term_raises_ends_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: L1, *_: object) -> None:
        raise ValueError("no such norm")

    monkeypatch.setattr(L1, "__call__", broken)
    monkeypatch.setattr(L1, "backward", broken)  # what it is asked alone
    cells = tuple(plan("smoke", [TASK], ["topk_sae", "relu_sae"], seeds=1))
    with pytest.raises(ValueError, match="no such norm"):
        run_job(cells)
    with pytest.raises(ValueError, match="too many values"):
        next(each_of(Failed(cells, "it died", None, 1.0, None)))
    assert [record.reason for cell in cells for record in run_job((cell,))] == ["ValueError: no such norm", None]


@pytest.mark.parametrize("group", [0, -1, 1001])
def test_a_bad_number_is_one_line(group: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = f"group={group}: expected 1 to 1000, 1 to train every cell alone"
    with pytest.raises(LrbenchError, match=message):
        run("smoke", [TASK], ["pca"], out=tmp_path, group=group)
    assert main(["run", "--suite", "smoke", "--method", "pca", "--group", str(group), "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
