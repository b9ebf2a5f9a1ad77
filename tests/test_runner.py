from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from lrbench.errors import LrbenchError
from lrbench.longrun.report import Progress
from lrbench.record import Record
from lrbench.running.cell import Cell, run_cell
from lrbench.running.device import resolve_device
from lrbench.running.runner import Summary, plan, run
from lrbench.store import Problem, Store

TASKS = ["noise/0.3", "sparsity/0.05"]

METHOD = '''
"""A method for tests."""
import os, time
from dataclasses import dataclass
import torch
import lrbench
from lrbench.activation import ReLU

@dataclass(frozen=True)
class Mine(lrbench.Method):
    scale: float = 1.0

    def fit(self, view, seed=0):
        w = torch.randn(view.budget.n_latents, view.d_in, generator=torch.Generator().manual_seed(seed))
        w, wide = self.scale * w, torch.zeros(view.budget.n_latents + 1, view.d_in)
        {body}
        return lrbench.Dictionary(w, None, w, None, ReLU())

METHOD = Mine()
'''


def method_file(folder: Path, name: str, body: str = "pass") -> str:
    path = folder / f"{name}.py"
    path.write_text(METHOD.format(body=body))
    return str(path)


def contents(summary: Summary) -> list[dict[str, object]]:
    return [record.content() for record in summary.records]


class Journal:
    """A reporter that writes down what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def planned(self, todo: Sequence[Cell], done: int, problems: Sequence[Problem]) -> None:
        self.lines.append(f"planned {len(todo)}, {done} done, {len(problems)} problems")

    def started(self, cell: Cell) -> None:
        self.lines.append(f"started {cell.id}")

    def told(self, cell: Cell, what: Progress | str) -> None:
        self.lines.append(f"{cell.id} {what if isinstance(what, str) else what.samples}")

    def recorded(self, record: Record) -> None:
        self.lines.append(f"{record.status} {record.id}")

    def apart(self, cells: Sequence[Cell], reason: str) -> None:
        self.lines.append(f"apart {len(cells)}: {reason}")


def only_record(body: str, tmp_path: Path) -> Record:
    (cell,) = plan("smoke", ["noise/0.3"], [method_file(tmp_path, "mine", body)])
    return run_cell(cell)


def test_plan_orders_cells_task_by_task(tmp_path: Path) -> None:
    cells = plan("smoke", TASKS, ["pca", method_file(tmp_path, "mine")], seeds=2)
    assert [cell.id for cell in cells][:5] == [
        "noise/0.3[pca-seed0]",
        "noise/0.3[mine-seed0]",
        "noise/0.3[pca-seed1]",
        "noise/0.3[mine-seed1]",
        "sparsity/0.05[pca-seed0]",
    ]
    assert len({cell.world_hash for cell in cells}) == 4
    assert len({cell.task_hash for cell in cells}) == 2
    assert len({cell.source_hash for cell in cells}) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"suite": "quik"}, "unknown suite 'quik': did you mean quick"),
        ({"tasks": ["nose/0.3"]}, "unknown task 'nose/0.3': did you mean noise"),
        ({"methods": ["topk_sea"]}, "unknown method 'topk_sea': did you mean topk_sae"),
        ({"seeds": 0}, "seeds=0: expected 1 to 1000"),
        ({"workers": 0}, "workers=0: expected a number above 0"),
        ({"timeout": -1.0}, "timeout=-1: expected a number above 0"),
        ({"timeout": float("nan")}, "timeout=nan: expected"),
        ({"memory_gb": 0.0}, "memory=0: expected a number above 0"),
        ({"device": "tpu"}, "unknown device 'tpu': expected auto, cpu or cuda"),
    ],
)
def test_bad_input_is_one_clear_error(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(LrbenchError, match=message) as caught:
        run(**{"suite": "smoke", "out": tmp_path} | changes)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"
    with pytest.raises(LrbenchError, match="no CUDA device on this machine"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == resolve_device("cuda") == "cuda"


def test_a_cell_becomes_a_whole_record(tmp_path: Path) -> None:
    record = only_record("time.sleep(0.2)", tmp_path)
    assert (record.status, record.reason, record.traceback) == ("ok", None, None)
    assert record.hyperparameters == {"scale": 1.0}
    assert record.scores["matched_dec"] is not None
    assert record.scores["absorption"] is None
    assert len(record.curves["threshold"]) == len(record.curves["recovery_dec"]) == 21
    assert record.world["interference_reached"] <= record.world["interference"]  # type: ignore[operator]
    assert record.provenance.device == "cpu"
    assert record.provenance.packages["torch"] == torch.__version__
    assert record.timing.train_seconds is not None
    assert 0.2 <= record.timing.train_seconds <= record.timing.seconds
    assert record.timing.finished.endswith("+00:00")


def test_parents_are_recorded_in_a_hierarchy(tmp_path: Path) -> None:
    (cell,) = plan("smoke", ["absorption/even"], [method_file(tmp_path, "mine")])
    record = run_cell(cell)
    assert record.status == "ok", record.traceback
    assert record.scores["absorption"] is not None
    assert len(record.parents) > 0
    assert len({parent.parent for parent in record.parents}) == len(record.parents)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise ValueError('odd')", "ValueError: odd"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("return None", "fit returned NoneType, expected lrbench.Dictionary"),
        ("w[0, 0] = float('nan')", "the weights hold NaN or infinity"),
        ("return lrbench.Dictionary(w[:, 1:], None, w, None, ReLU())", "(d_in, d_out) is (31, 32), expected (32, 32)"),
        ("w = w.double()", "W_enc is torch.float64, the data torch.float32: call .float() on it"),
        ("return lrbench.Dictionary(w, w[:, 0].half(), w, None, ReLU())", "weights of torch.float16, torch.float32"),
        ("view.sites[0][3, 4] = 5", "fit wrote into its view: head() shows the data itself, clone before writing"),
        ("return lrbench.Dictionary(w, None, w, None, ReLU(), 'transcoder')", "declares 'autoencoder'"),
        ("return lrbench.Dictionary(wide, None, wide, None, ReLU())", "latents, the budget allows"),
        (
            "pass\n\n    def hyperparameters(self): return {'when': time}\n    def unused(self):",
            "when=<module 'time' (built-in)> cannot be recorded",
        ),
        ("import no_such_package", "No module named 'no_such_package'"),
    ],
)
def test_a_bad_method_becomes_a_failed_record(tmp_path: Path, body: str, reason: str) -> None:
    record = only_record(body, tmp_path)
    assert record.status == "failed"
    assert record.reason is not None
    assert reason in record.reason
    assert record.traceback is not None
    assert record.scores == {}
    assert record.timing.seconds > 0


def test_a_method_that_does_not_apply_is_skipped(tmp_path: Path) -> None:
    record = only_record("raise lrbench.NotApplicable('needs\\n two sites')", tmp_path)
    assert (record.status, record.reason, record.traceback) == ("skipped", "needs two sites", None)


def test_a_record_does_not_depend_on_the_process_it_came_from(tmp_path: Path) -> None:
    body = "w = w + torch.rand(1)"  # a method that uses the global generator
    first = only_record(body, tmp_path)
    torch.manual_seed(99)
    random.seed(99)
    torch.set_default_dtype(torch.float64)
    try:
        again = only_record(body, tmp_path)
    finally:
        torch.set_default_dtype(torch.float32)
    assert first.status == "ok"
    assert again.content() == first.content()


def test_run_stores_skips_what_is_done_and_reruns_failures_and_changed_methods(tmp_path: Path) -> None:
    good, bad = method_file(tmp_path, "good"), method_file(tmp_path, "bad", "os._exit(3)")
    store, journal = Store(tmp_path / "out"), Journal()

    def go() -> Summary:
        return run("smoke", TASKS[:1], [good, bad], out=store.folder, workers=1, reporter=journal)

    first = go()
    assert (first.done, first.ran, first.failed, first.skipped) == (0, 2, 1, 0)
    assert [(record.method, record.status) for record in first.records] == [("good", "ok"), ("bad", "failed")]
    assert first.records[1].reason == "its worker process exited with code 3"
    assert first.records[0].timing.peak_memory_mb is not None
    assert sorted(first.records, key=lambda record: record.key) == store.read()[0]

    stored = store.path("smoke", first.records[0].key).read_bytes()
    journal.lines.clear()
    second = go()
    assert (second.done, second.ran, second.failed) == (1, 1, 1)
    assert journal.lines == [
        "planned 1, 1 done, 0 problems",
        "started noise/0.3[bad-seed0]",
        "failed noise/0.3[bad-seed0]",
    ]
    assert store.path("smoke", first.records[0].key).read_bytes() == stored

    method_file(tmp_path, "good", "w = 2 * w")
    method_file(tmp_path, "bad")
    third = go()
    assert (third.done, third.ran, third.failed) == (0, 2, 0)
    assert third.records[0].source_hash != first.records[0].source_hash


def test_one_worker_and_two_give_equal_records(tmp_path: Path) -> None:
    methods = ["truth", "topk_sae", "pca", method_file(tmp_path, "mine")]
    runs = [run("smoke", TASKS, methods, out=tmp_path / str(n), workers=n) for n in (1, 2)]
    assert [record.status for record in runs[0].records] == ["ok"] * 8
    assert contents(runs[0]) == contents(runs[1])
    assert [json.dumps(record.content()) for record in Store(tmp_path / "1").read()[0]] == [
        json.dumps(record.content()) for record in Store(tmp_path / "2").read()[0]
    ]


def test_a_file_that_changes_during_a_run_fails_instead_of_counting_under_the_old_hash(tmp_path: Path) -> None:
    later = tmp_path / "later.py"
    first = method_file(tmp_path, "first", f"open({str(later)!r}, 'a').write('# edited')")
    method_file(tmp_path, "later")
    summary = run("smoke", TASKS[:1], [first, str(later)], out=tmp_path / "out", workers=1)
    assert [record.status for record in summary.records] == ["ok", "failed"]
    assert summary.records[1].reason == (
        "LrbenchError: later, or code it rests on, has changed since the run was planned: run again"
    )
    again = run("smoke", TASKS[:1], [str(later)], out=tmp_path / "out", workers=1)
    assert [record.status for record in again.records] == ["ok"]


def test_a_method_that_was_edited_within_the_second_runs_as_it_is_now(tmp_path: Path) -> None:
    records = [only_record(f"w = {factor} * w; w[0] = {factor}", tmp_path) for factor in (1, 2)]
    assert records[0].source_hash != records[1].source_hash
    assert records[0].scores != records[1].scores
    assert not (tmp_path / "__pycache__").exists()


def test_limits_cost_one_cell(tmp_path: Path) -> None:
    slow = method_file(tmp_path, "slow", "time.sleep(60)")
    fat = method_file(tmp_path, "fat", "kept = torch.ones(350_000_000); time.sleep(60)")
    good = method_file(tmp_path, "good")
    timed = run("smoke", TASKS[:1], [slow, good], out=tmp_path / "t", workers=1, timeout=3.0)
    weighed = run("smoke", TASKS[:1], [fat, good], out=tmp_path / "m", workers=1, memory_gb=1.2)
    assert [(record.status, record.reason) for record in (*timed.records, *weighed.records)] == [
        ("failed", "timed out after 3 s"),
        ("ok", None),
        ("failed", "used more memory than the limit of 1.2 GB"),
        ("ok", None),
    ]


def test_a_damaged_record_is_named_and_runs_again(tmp_path: Path) -> None:
    out, journal = Store(tmp_path / "out"), Journal()
    damaged = out.path("smoke", ("noise/0.3", "mine", 0))
    damaged.parent.mkdir(parents=True)
    damaged.write_text('{"schema_version": 1, "task"')
    method = method_file(tmp_path, "mine")
    summary = run("smoke", TASKS[:1], [method], out=out.folder, workers=1, reporter=journal)
    assert journal.lines[0] == "planned 1, 0 done, 1 problems"
    assert [record.status for record in summary.records] == ["ok"]
    assert len(list(damaged.parent.glob("*.set-aside1"))) == 1


def test_a_failure_does_not_replace_what_another_run_finished_meanwhile(tmp_path: Path) -> None:
    out = Store(tmp_path / "out")
    method = method_file(tmp_path, "mine", "raise ValueError('late')")
    (cell,) = plan("smoke", TASKS[:1], [method])

    class OtherRun(Journal):
        def started(self, started: Cell) -> None:
            failed = run_cell(cell)
            out.write(failed.model_copy(update={"status": "ok", "reason": None, "traceback": None}))

    summary = run("smoke", TASKS[:1], [method], out=out.folder, workers=1, reporter=OtherRun())
    assert [record.status for record in summary.records] == ["ok"]
    assert [record.status for record in out.read()[0]] == ["ok"]


def test_no_torch_is_needed_to_plan() -> None:
    import subprocess
    import sys

    code = "import sys; from lrbench.running.runner import plan; print(len(plan('smoke'))); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 0


def test_a_run_can_store_certificates_and_runs_records_without_one_again(tmp_path: Path) -> None:
    asked = {"suite": "smoke", "tasks": ["superposition/1.30x"], "methods": ["topk_sae"], "out": tmp_path, "workers": 1}
    (plain,) = run(**asked).records  # type: ignore[arg-type]
    assert plain.certificate is None
    summary = run(**asked, certify=True)  # type: ignore[arg-type]
    (certified,) = summary.records
    assert (summary.done, summary.ran) == (0, 1)
    assert certified.certificate is not None
    assert certified.scores == plain.scores
    json.dumps(certified.certificate, allow_nan=False)
    assert run(**asked, certify=True).done == run(**asked).done == 1  # type: ignore[arg-type]
