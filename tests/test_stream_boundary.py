"""A stream across the boundary: the same samples on every path, no world on the other side, and no hang or left-over for odd readers."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

import lrbench
from lrbench.boundary import blocks, fit_client, wire
from lrbench.boundary.fit_process import _Line
from lrbench.boundary.messages import pack_view, unpack_view
from lrbench.boundary.sandbox import Limits, require_sandbox
from lrbench.catalogue.files import modules
from lrbench.errors import LrbenchError
from lrbench.running.cell import run_cell
from lrbench.running.runner import plan
from lrbench.store import Store
from lrbench.task import Task

DOCUMENT = Path(__file__).parent.parent / "docs" / "worlds.md"
METHOD = """
import gc, os, sys, threading, time
import torch
from torch.utils.data import DataLoader
import lrbench
from lrbench.activation import TopK
from lrbench.boundary import wire


class Mine(lrbench.Method):
    def fit(self, view, seed=0):
{body}
        rows = torch.nn.functional.normalize(found[: view.budget.n_latents], dim=1)
        return lrbench.Dictionary(rows, None, rows, None, TopK(view.budget.k()))


METHOD = Mine()
"""


def sandbox_missing() -> str:
    try:
        require_sandbox()
    except LrbenchError as error:
        return str(error)
    return ""


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    path = tmp_path / "endless.py"
    (text,) = re.findall(r"```python\n(# endless\.py\n.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    path.write_text(text)
    return path


def task_of(path: Path, level: str = "usual", **options: Any) -> Task:
    return lrbench.load_task(f"{path}::endless/{level}", "smoke", **options)


def method_file(folder: Path, body: str) -> Path:
    path = folder / "mine.py"
    path.write_text(METHOD.replace("{body}", "\n".join(f"        {line}" for line in body.strip().splitlines())))
    return path


def fitted(path: Path, task: Task, **limits: Any) -> lrbench.Dictionary:
    return fit_client.FitElsewhere(source=str(path), file=path, **limits).fitted(task.view("autoencoder"), 1).dictionary


# the paths


@pytest.mark.parametrize("method", ["topk_sae", "crosscoder+anchored", "kmeans"])
def test_all_paths_give_the_same_record(method: str, endless: Path) -> None:
    (cell,) = plan("smoke", [f"{endless}::endless/usual"], [method])
    here = run_cell(cell)
    assert here.status == "ok", here.reason
    for isolation in ("process", *([] if sandbox_missing() else ["sandbox"])):
        there = run_cell(replace(cell, isolation=isolation))
        assert there.content() == here.content(), isolation
        assert there.provenance.isolation == isolation
    if method == "topk_sae":
        (other,) = plan("smoke", ["noise/0.3"], [method])
        assert run_cell(other).scores != here.scores


def test_a_streaming_view_crosses_without_its_samples(endless: Path) -> None:
    view = task_of(endless).view("crosscoder")
    request, body = pack_view(view, source="x", seed=1)
    assert len(body) < 10_000
    again = unpack_view(request, bytearray(body), view.sites.draw)
    assert again.fingerprint() == view.fingerprint()
    assert torch.equal(again.head(9)[0], view.head(9)[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_in_a_fit_reads_the_stream(tmp_path: Path, endless: Path, workers: int) -> None:
    task = task_of(endless)
    loader = f"DataLoader(view.dataset(), batch_size=64, num_workers={workers})"
    own = method_file(tmp_path, f"found = torch.cat([x for x, _ in {loader}])[-64:]")
    expected = [inputs for inputs, _ in task.view("autoencoder").batches()][-1]
    found = fitted(own, task)
    assert torch.equal(found.W_dec, torch.nn.functional.normalize(expected, dim=1))


def test_a_users_task_file_runs_from_the_command_line(tmp_path: Path, endless: Path) -> None:
    (tmp_path / "mine.py").write_text(modules("methods")["topk_sae"].read_text() + "\n# mine\n")
    words = ["run", "--suite", "smoke", "--task", "endless.py::endless/usual", "--method", "mine.py"]
    words += ["--method", "topk_sae", "--method", "truth", "--method", "kmeans", "--out", "out"]
    line = [sys.executable, "-m", "lrbench.cli", *words]
    first, again = (subprocess.run(line, capture_output=True, text=True, cwd=tmp_path) for _ in range(2))
    assert first.returncode == again.returncode == 0, first.stdout + first.stderr
    records = {record.method: record for record in Store(tmp_path / "out").read()[0]}
    assert {name: record.provenance.isolation for name, record in records.items()} == {
        "mine": "process", "topk_sae": "none", "truth": "none", "kmeans": "none"
    }  # fmt: skip
    assert records["mine"].scores == records["topk_sae"].scores
    assert records["truth"].scores["headline"] == pytest.approx(1.0, abs=0.05)
    assert "4 cells: 4 stored already, 0 to run" in again.stderr


# odd readers

GARBAGE = {
    "view.sites.draw('the first')": "ValidationError: 1 validation error for Wanted block",
    "view.sites.draw(-1)": "it asked for the block -1 of a stream, expected 0 to 2",
    "view.sites.draw(3)": "it asked for the block 3 of a stream, expected 0 to 2",
    "view.sites.draw(10**30)": "it asked for the block 10{30} of a stream|it sent a message that is none: block",
    "wire.send(ask._connection, {'kind': 'wanted', 'key': ask._key, 'block': '0'})": "it sent a message that is none: block",
    "wire.send(ask._connection, {'kind': 'wanted', 'key': ask._key, 'block': 0.5})": "it sent a message that is none: block",
    "wire.send(ask._connection, {'kind': 'wanted', 'key': ask._key, 'block': None})": "it sent a message that is none: block",
    "[wire.send(ask._connection, {'kind': 'wanted', 'key': ask._key, 'block': i}) for i in range(3)]": "it asked for a block before",
    "wire.send(ask._connection, {'kind': 'wanted', 'key': 'mine', 'block': 0})": "it sent a message for another cell",
    "wire.send(ask._connection, {'kind': 'wanted', 'key': ask._key, 'block': 0, 'seed': 1})": "it sent a message that is none: seed",
    "wire.send(ask._connection, {'kind': 'wanted', 'key': ask._key, 'block': 0}, b'x')": "it asked for samples before its start, or with",
    "ask._connection.sendall(b'\\0' * 64)": "it wrote to the pipe of its worker process",
}


@pytest.mark.parametrize("wish", GARBAGE)
def test_what_is_no_block_is_one_line(tmp_path: Path, endless: Path, wish: str) -> None:
    own = method_file(tmp_path, f"ask = view.sites.draw\n{wish}\ntime.sleep(20)")
    with pytest.raises(wire.FitFailed, match=GARBAGE[wish]) as caught:
        fitted(own, task_of(endless))
    assert "\n" not in str(caught.value)


ASK = """
frame, seen = sys._getframe(), {}
while frame is not None:
    seen = {name: frame.f_locals[name] for name in ("key", "connection") if name in frame.f_locals} | seen
    frame = frame.f_back
wire.send(seen["connection"], {"kind": "wanted", "key": seen["key"], "block": 0})
time.sleep(20)
"""


def test_nothing_is_drawn_before_the_start(tmp_path: Path, endless: Path) -> None:
    own = method_file(tmp_path, "pass")
    own.write_text(own.read_text() + ASK)  # while the method is loaded
    with pytest.raises(wire.FitFailed, match="it asked for samples before its start"):
        fitted(own, task_of(endless))


def test_nothing_is_drawn_for_a_view_that_holds_its_samples(tmp_path: Path) -> None:
    own = method_file(tmp_path, ASK)
    with pytest.raises(wire.FitFailed, match="it asked for samples where none are drawn"):
        fitted(own, lrbench.load_task("noise/0.3", "smoke"))


ENDINGS = {
    "os._exit(3)": "its worker process exited with code 3",
    "os.kill(os.getpid(), 9)": "its worker process was ended by SIGKILL",
    "view.sites.draw._turn.acquire()\nos._exit(0)": "its worker process exited with code 0",
    "wire.send(view.sites.draw._connection, {'kind': 'wanted', 'key': view.sites.draw._key, 'block': 1})\nos._exit(4)": "exited with code 4|before it had read",
    "view.sites.draw._connection.close()\nnext(view.batches())": "its worker process|the samples have ended",
    "view.sites[0]": "LrbenchError: view.sites: this task draws its samples while training runs and holds none",
}


KEPT_TURN = """
import lrbench.boundary.blocks as blocks
blocks.TURN_SECONDS = 0.2
child = os.fork()
if not child:
    view.sites.draw._turn.acquire()
    os._exit(0)
os.waitpid(child, 0)
"""


def test_a_fork_that_dies_in_its_turn_is_an_ordinary_end(tmp_path: Path, endless: Path) -> None:
    own = method_file(tmp_path, f"{KEPT_TURN}found = next(view.batches())[0]")
    with pytest.raises(wire.FitFailed, match="LrbenchError: no turn to ask for samples: a process that this fit has"):
        fitted(own, task_of(endless))


def test_nothing_is_said_out_of_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "TURN_SECONDS", 0.05)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ask = blocks.Asker(theirs, "key", (2,))
        line = _Line(theirs, "key", ask)
        with ask.in_turn(), pytest.raises(LrbenchError, match="no turn"):
            line.note("too early")
        line.note("now")
        assert wire.receive(ours)[0]["text"] == "now"


@pytest.mark.parametrize("limits", [None, Limits()], ids=["process", "sandbox"])
def test_fits_that_end_in_the_midst_leave_nobody(tmp_path: Path, endless: Path, limits: Limits | None) -> None:
    if limits is not None and sandbox_missing():
        pytest.skip(sandbox_missing())
    task, threads = task_of(endless), threading.active_count()
    before = psutil.Process().children(recursive=True)  # of other tests
    fine = {
        "found = view.anchors[0]": 4,  # never reads
        "batches = view.batches(1000)\nfound = next(batches)[0]": 64,  # stops early, with a block drawn ahead
        "threading.Thread(target=lambda: list(view.batches())).start()\nfound = view.head(64)[0]": 64,
        "found = next(view.batches())[0]\nos.fork() or (view.head(9), time.sleep(60))": 64,
    }
    for body, latents in list(fine.items())[:: 1 if limits is None else 2]:
        assert fitted(method_file(tmp_path, body), task, limits=limits).n_latents == latents, body
    for body, says in list(ENDINGS.items())[:: 1 if limits is None else 5]:
        body = f"batches = view.batches()\nnext(batches)\n{body}"
        with pytest.raises(wire.FitFailed, match=says):
            fitted(method_file(tmp_path, body), task, limits=limits)
    assert threading.active_count() == threads
    servers = {server.pid for server in fit_client._SERVER}
    children = [each for each in psutil.Process().children(recursive=True) if each not in before]
    left = [each for each in children if each.pid not in servers]
    assert not [each for each in left if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


SEARCH = """
batches = view.batches()
next(batches)
level = [view.sites, batches]
things = list(gc.get_objects())
for frame in sys._current_frames().values():
    while frame is not None:
        things += list(frame.f_locals.values())
        frame = frame.f_back
for _ in range(4):
    level = [thing for part in level if type(part) is not type(sys) for thing in gc.get_referents(part)]
    things += level
tensors = [thing for thing in things if type(thing) is torch.Tensor and thing.ndim == 2]
if any(issubclass(type(thing), (lrbench.World, lrbench.Task)) for thing in things):
    raise SystemExit("found a world")
if any(thing.shape == (42, 32) for thing in tensors):
    raise SystemExit("found directions")
if not any(thing is view.anchor_sites[0] for thing in tensors):
    raise SystemExit("the search finds nothing at all")
found = view.anchors[0]
"""


def test_no_world_can_be_found_from_a_stream(tmp_path: Path, endless: Path) -> None:
    task = task_of(endless, salt="between us")
    assert task.world.directions[0].shape == (42, 32)
    assert fitted(method_file(tmp_path, SEARCH), task).n_latents == 4
    with pytest.raises(SystemExit, match="found a world"):  # beside the world the same search finds it
        lrbench.load_method(str(tmp_path / "mine.py")).fit(task.view("autoencoder"), 1)


def test_the_other_side_is_given_no_number_that_rebuilds_the_stream(endless: Path) -> None:
    task = task_of(endless)
    view = task.view("autoencoder")
    request, _ = pack_view(view, source="x", seed=task.fit_seed)
    numbers = [request.seed, request.view_seed, *request.budget.values(), *(request.stream or [])]
    for number in numbers:
        rebuilt = replace(task, seed=number).view("autoencoder")
        assert not torch.equal(rebuilt.head(4)[0], view.head(4)[0])
    assert os.getpid() not in numbers
