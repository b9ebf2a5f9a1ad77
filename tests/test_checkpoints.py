"""Cells that are killed while they train, on both sides of the boundary; files in the place of a checkpoint; logs; limits."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import psutil
import pytest

from lrbench.boundary import wire
from lrbench.boundary.messages import Noted, Reported, Saved, deliver, parsed
from lrbench.errors import LrbenchError
from lrbench.longrun.report import Progress, Report
from lrbench.running.cell import Cell, run_cell
from lrbench.running.progress import _Training
from lrbench.running.runner import Silent, plan, run
from lrbench.running.training_files import MOST_NOTES, MOST_ROWS, Keep, TrainingFiles
from lrbench.store import Store

TASK = "noise/0.3"
KEY = (TASK, "slow", 0)
SLOW = '''
"""A method of a user's that takes a while: every step waits."""
import time
from collections.abc import Callable
from dataclasses import dataclass
import lrbench
from lrbench.sdl import SDL
from lrbench.terms import Term
from lrbench.rules import TopK

@dataclass(frozen=True)
class Wait(Term):
    seconds: float = 0.01
    name = "wait"

    def __call__(self, step):
        time.sleep(self.seconds)
        return 0.0 * step.p["b_dec"].sum()

METHOD = SDL(rule=TopK(), terms=(Wait(),), resample=2)
'''


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """Return a file of a method whose training takes two seconds."""
    path = tmp_path / "slow.py"
    path.write_text(SLOW)
    return path


LONG = """
from dataclasses import replace
from lrbench.task import family

@family(levels={"0.3": 0.3})
def long(length, scale):
    return replace(scale.task(noise=length), n_samples=20 * scale.n_samples)
"""


STREAM = """
from lrbench.task import family

@family(levels={"0.3": 0.3})
def stream(noise, scale):
    return scale.task(noise=noise, n_distinct="fresh")
"""


class Listening(Silent):
    """A reporter that keeps what cells tell."""

    def __init__(self) -> None:
        self.heard: list[Progress | str] = []

    def told(self, cell: Cell, what: Progress | str) -> None:
        self.heard.append(what)


def cell_of(
    method: Path, out: Path, isolation: str, log: bool = True, every: float = 0.2, task: str | Path = TASK
) -> Cell:
    (cell,) = plan("smoke", [str(task)], [str(method)])
    return replace(cell, isolation=isolation, keep=Keep(str(out), every, log))


def test_a_run_that_was_killed_five_times_ends_with_the_same_bits(tmp_path: Path) -> None:
    """Two cells at once: a method of the catalogue beside its world, and a user's on the other side of the boundary."""
    rng, out, calm = random.Random(1), tmp_path / "killed", tmp_path / "calm"
    mine, long = tmp_path / "mine.py", tmp_path / "long.py"
    mine.write_text(SLOW.replace("terms=(Wait(),)", "terms=()"))
    long.write_text(LONG)
    line = [sys.executable, "-m", "lrbench.cli", "run", "--suite", "smoke", "--task", str(long), "--method", str(mine)]
    line += ["--method", "relu_sae", "--device", "cpu", "--checkpoint-every", "0.2", "--log", "--out"]
    subprocess.run([*line, str(calm)], check=True, capture_output=True)
    expected, places = Store(calm).read()[0], list[Path]()
    for record in expected:
        places.append(Store(out).checkpoint("smoke", record.key))
    seen: set[bytes] = set()
    for _ in range(5):
        victim = subprocess.Popen([*line, str(out)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
        while victim.poll() is None and not headings(places) - seen:
            time.sleep(0.01)  # every start comes further
        time.sleep(rng.uniform(0, 0.3))
        assert victim.poll() is None, "it ended before it could be killed"
        family = psutil.Process(victim.pid).children(recursive=True)
        os.killpg(victim.pid, signal.SIGKILL)
        victim.wait()
        assert not psutil.wait_procs(family, timeout=20)[1]
        assert headings(places) - seen
        seen |= headings(places)
    done = subprocess.run([*line, str(out)], check=True, capture_output=True, text=True)
    assert "goes on from a checkpoint" in done.stderr
    records, problems = Store(out).read()
    assert problems == []
    assert [record.content() for record in records] == [record.content() for record in expected]
    half_written = set(out.rglob(".*.tmp"))  # a later run removes what a kill left
    files = sorted(path.name for path in out.rglob("*") if path.is_file() and path not in half_written)
    assert files == ["mine.seed0.json", "mine.seed0.log.csv", "relu_sae.seed0.json", "relu_sae.seed0.log.csv"]
    for record in records:
        logs = [pd.read_csv(Store(folder).log("smoke", record.key)) for folder in (out, calm)]
        pd.testing.assert_frame_equal(*logs)
        assert len(logs[0]) == logs[0]["samples"].nunique() == 300


def headings(places: list[Path]) -> set[bytes]:
    """Return the first lines of those checkpoints that there are."""
    return {path.read_bytes().partition(b"\n")[0] for path in places if path.exists()}


def interrupted(cell: Cell, monkeypatch: pytest.MonkeyPatch, after: float = 0.0) -> None:
    """Train until the first checkpoint is written after so many seconds, as if the process were killed there."""
    write, moment = Store.write_beside, time.monotonic() + after

    def once(store: Store, path: Path, content: bytes) -> None:
        write(store, path, content)
        if path.suffix == ".checkpoint" and time.monotonic() >= moment:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_beside", once)
        with pytest.raises(KeyboardInterrupt):
            run_cell(cell)


Calm = dict[str, tuple[str, dict[str, object]]]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """Return two tasks, and what the record of the slow method holds where nobody disturbs it: samples held, and drawn."""
    folder = tmp_path_factory.mktemp("calm")
    (folder / "slow.py").write_text(SLOW)
    (folder / "stream.py").write_text(STREAM)
    tasks = {"held": TASK, "drawn": str(folder / "stream.py")}
    cells = {name: cell_of(folder / "slow.py", folder, "none", task=task) for name, task in tasks.items()}
    return {name: (tasks[name], run_cell(replace(cell, keep=None)).content()) for name, cell in cells.items()}


@pytest.mark.parametrize(("samples", "every"), [("held", 0.2), ("drawn", 0.01)])
@pytest.mark.parametrize("isolation", ["none", "process", "sandbox"])
def test_every_side_of_the_boundary_goes_on(
    isolation: str,
    samples: str,
    every: float,
    slow: Path,
    tmp_path: Path,
    calm: Calm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if isolation == "sandbox" and subprocess.run(["which", "bwrap"], capture_output=True).returncode:
        pytest.skip("bubblewrap is not installed")
    task, undisturbed = calm[samples]
    cell = cell_of(slow, tmp_path / "out", isolation, every=every, task=task)
    interrupted(cell, monkeypatch, after=1.0 if samples == "drawn" else 0.0)  # in the midst of a stream
    heading = Store(tmp_path / "out").checkpoint("smoke", cell.key).read_bytes().partition(b"\n")[0]
    again = run_cell(replace(cell, threads=7))
    assert b'"threads":1' in heading  # and so it goes on
    assert again.content() == undisturbed
    assert again.timing.train_seconds is not None
    assert again.timing.seconds > again.timing.train_seconds > 1.5
    log = pd.read_csv(Store(tmp_path / "out").log("smoke", cell.key))
    columns = "suite task method seed training step samples loss l0 fvu dead"
    assert list(log.columns) == columns.split()
    assert log["step"].tolist() == list(range(1, 151))
    assert (log["task"] == cell.task).all()
    assert log[["loss", "l0", "fvu", "dead"]].notna().all(axis=None)


OTHERS = {
    "code": lambda cell: replace(cell, source_hash="another"),
    "task": lambda cell: replace(cell, task_hash="another"),
    "torch": lambda cell: replace(
        cell, provenance=cell.provenance.model_copy(update={"packages": cell.provenance.packages | {"torch": "0"}})
    ),
    "engine": lambda cell: replace(cell, provenance=cell.provenance.model_copy(update={"engine": "exact"})),
    "salt": lambda cell: replace(cell, salt="salt"),
    "isolation": lambda cell: replace(cell, isolation="process"),
}


def listener(said: list[object]) -> Callable[[str, object], None]:
    """Return what hears a worker in the place of the run."""
    return lambda kind, content: said.append(content[1] if isinstance(content, tuple) else content)


def files_of(cell: Cell) -> tuple[TrainingFiles, list[object]]:
    """Return what a worker makes of the files of a cell, and what it says."""
    said: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lrbench.running.training_files.tell", listener(said))
        assert cell.keep is not None
        files = TrainingFiles(cell.keep, cell.suite, cell.key, cell.identity, cell.threads)
    return files, said


@pytest.mark.parametrize("difference", OTHERS)
def test_a_checkpoint_of_something_else_is_not_used(difference: str, slow: Path, tmp_path: Path) -> None:
    cell = cell_of(slow, tmp_path / "out", "none")
    files_of(cell)[0].checkpoint(b"state")
    assert files_of(cell)[0].keeping(9600).saved == b"state"
    files, said = files_of(OTHERS[difference](cell))
    assert files.keeping(9600).saved is None
    assert [str(line).partition(": ")[2] for line in said] == [
        "is of other code, another task or another installation; its training begins anew"
    ]


def test_a_checkpoint_of_another_processor_is_not_used(
    slow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = cell_of(slow, tmp_path / "out", "none")
    files_of(cell)[0].checkpoint(b"state")
    monkeypatch.setattr("lrbench.engine.processor.instructions", lambda: "others")
    assert files_of(cell)[0].keeping(9600).saved is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[:40],
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: content.replace(b"state", b"State"),
        lambda content: os.urandom(5000),
        lambda content: b"{}\n" + content,
        lambda content: b"\x80\x04K*." * 10,
    ],
)
def test_what_is_not_all_of_a_checkpoint_is_not_used(spoil: object, slow: Path, tmp_path: Path) -> None:
    cell = cell_of(slow, tmp_path / "out", "none")
    files_of(cell)[0].checkpoint(b"state")
    path = Store(tmp_path / "out").checkpoint("smoke", KEY)
    path.write_bytes(spoil(path.read_bytes()))  # type: ignore[operator]
    files, said = files_of(cell)
    assert files.keeping(9600).saved is None
    assert len(said) == 1
    assert str(said[0]).startswith("set aside")
    assert str(said[0]).endswith("; its training begins anew")


def test_a_pipe_in_its_place_is_not_opened(slow: Path, tmp_path: Path) -> None:
    cell = cell_of(slow, tmp_path / "out", "none")
    path = Store(tmp_path / "out").checkpoint("smoke", KEY)
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    assert "is no regular file" in str(files_of(cell)[1])


def test_a_training_goes_on_where_the_disk_refuses(slow: Path, tmp_path: Path) -> None:
    files, said = files_of(cell_of(slow, tmp_path / "out", "none"))
    (tmp_path / "out").write_text("a file")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lrbench.running.training_files.tell", listener(said))
        files.checkpoint(b"state")
    assert "cannot write" in str(said[0])


def test_files_that_cannot_be_written_fail_no_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []
    monkeypatch.setattr("lrbench.running.training_files.tell", listener(said))
    (cell,) = plan("smoke", [TASK], ["topk_sae"])
    log, checkpoint = Store(tmp_path).log("smoke", cell.key), Store(tmp_path).checkpoint("smoke", cell.key)
    log.mkdir(parents=True)
    checkpoint.mkdir()
    assert run("smoke", [TASK], ["topk_sae"], out=tmp_path, log=True).failed == 0
    for wanted, word in ((True, "cannot write"), (False, "cannot remove")):
        said.clear()
        assert run_cell(replace(cell, keep=Keep(str(tmp_path), 600.0, wanted))).status == "ok"
        assert f"{word} {log}" in str(said[-1])


def test_a_sink_is_bounded(slow: Path, tmp_path: Path) -> None:
    """What a hostile method can send fills neither the disk nor the terminal."""
    files, said = files_of(cell_of(slow, tmp_path / "out", "process", every=3600.0))
    path = Store(tmp_path / "out").checkpoint("smoke", KEY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lrbench.running.training_files.tell", listener(said))
        files.keeping(9600)
        for number in range(1, 5):
            files.checkpoint(b"state%d" % number)
            files.note("\x1b[31mred\n" * 1000)
        for number in range(2 * MOST_ROWS):
            files.report(Report(training=0, step=number, samples=number + 1, row=True))
            files.report(Report(training=0, step=number, samples=2**62, row=True))
        files.end(ok=True)
    assert path.read_bytes().endswith(b"\nstate1")
    assert len(list(path.parent.iterdir())) == 2
    notes = [line for line in said if isinstance(line, str)]
    assert len(notes) == MOST_NOTES
    assert all(line.isprintable() and len(line) <= 300 for line in notes)
    assert len(said) - len(notes) < 20
    assert all(word.samples <= word.total == 9600 for word in said if isinstance(word, Progress))
    assert len(pd.read_csv(Store(tmp_path / "out").log("smoke", KEY))) == MOST_ROWS


@pytest.mark.parametrize(
    "content",
    [
        {"loss": float("inf")},
        {"loss": "1"},
        {"step": -1},
        {"samples": 2**63},
        {"dead": 0.5},
        {"more": 1},
        {"row": "yes"},
    ],
)
def test_odd_reports_are_breaches(content: dict[str, object]) -> None:
    report = {"training": 0, "step": 1, "samples": 64} | content
    with pytest.raises(wire.Breach, match="it sent a message that is none: report"):
        parsed({"kind": "reported", "key": "k", "report": report})


def test_bytes_behind_a_report_are_a_breach() -> None:
    for message in (Reported(key="k", report=Report(training=0, step=1, samples=1)), Noted(key="k", text="t")):
        with pytest.raises(wire.Breach, match="bytes behind a message that has none"):
            deliver(message, bytearray(b"x"), None)  # type: ignore[arg-type]
    assert parsed({"kind": "saved", "key": "k"}) == Saved(key="k")


def test_a_run_shows_how_far_a_cell_is_and_deletes_what_it_needs_no_more(slow: Path, tmp_path: Path) -> None:
    reporter = Listening()
    summary = run("smoke", [TASK], [str(slow)], out=tmp_path, checkpoint_every=0.2, reporter=reporter)
    assert [record.status for record in summary.records] == ["ok"]
    reports = [word for word in reporter.heard if isinstance(word, Progress)]
    assert len(reports) >= 2
    assert [word.samples for word in reports] == sorted({word.samples for word in reports})
    assert all(word.total == 9600 and word.loss is not None and word.l0 is not None for word in reports)
    assert not list(tmp_path.rglob("*.checkpoint"))
    assert not list(tmp_path.rglob("*.log.csv"))


def test_the_time_of_earlier_starts_counts_for_the_limit(
    slow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = cell_of(slow, tmp_path, "process")
    files, _ = files_of(cell)
    files.spent = 1000.0
    files.checkpoint(b"")
    summary = run("smoke", [TASK], [str(slow)], out=tmp_path, timeout=900.0)
    assert [record.reason for record in summary.records] == ["timed out after 900 s"]
    assert summary.records[0].timing.seconds >= 1000.0
    assert not list(tmp_path.rglob("*.checkpoint"))


def test_a_record_without_the_log_that_is_asked_for_runs_again(tmp_path: Path) -> None:
    options = {"suite": "smoke", "tasks": [TASK], "methods": ["topk_sae", "pca"], "out": tmp_path}
    assert run(**options).ran == 2  # type: ignore[arg-type]
    assert run(**options, log=True).ran == 1  # type: ignore[arg-type]
    assert run(**options, log=True).ran == 0  # type: ignore[arg-type]
    assert run("smoke", ["absorption/even"], ["pca"], out=tmp_path, log=True).ran == 1  # a baseline writes none
    assert [path.name for path in tmp_path.rglob("*.csv")] == ["topk_sae.seed0.log.csv"]


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_odd_intervals_are_one_line(value: float, tmp_path: Path) -> None:
    with pytest.raises(LrbenchError, match=f"checkpoint-every={value:g}: expected a number above 0"):
        run("smoke", [TASK], ["pca"], out=tmp_path, checkpoint_every=value)


def test_how_far_a_cell_is_in_words() -> None:
    first = Progress(samples=1000, total=10_000, loss=2.0, l0=3.0)
    training = _Training(time.monotonic() - 10.0, first, first)
    assert str(training) == "10%, loss 2, L0 3"
    training.now = Progress(samples=2000, total=10_000, loss=None, l0=3.25)
    assert str(training) == "20%, 100 samples/s, L0 3.25, 1:20 left"
