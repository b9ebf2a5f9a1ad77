"""Foreign code stays on its side: what crosses the boundary, and what a method can find out about its world."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

import lrbench
from lrbench.boundary import fit_client, wire
from lrbench.boundary.messages import Started, pack_dictionary, pack_view, parsed, unpack_dictionary, unpack_view
from lrbench.catalogue.files import modules
from lrbench.catalogue.methods import select_methods
from lrbench.errors import LrbenchError
from lrbench.record import Record
from lrbench.running.cell import Cell, run_cell
from lrbench.running.runner import plan, run, run_cells
from lrbench.seeds import derive_seed, generator, salt_hash, salted
from lrbench.store import Store

TASK = "noise/0.3"
CHEATS = Path(__file__).parent / "cheats"


def command(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``lrbench`` as its script does: the working folder is not on Python's path."""
    code = "import sys; sys.path[:] = [p for p in sys.path if p]; from lrbench.cli import main; sys.exit(main(sys.argv[1:]))"
    line = [sys.executable, "-c", code, *words]
    return subprocess.run(line, capture_output=True, text=True, cwd=cwd, env=os.environ | environment)


def smoke(out: Path, *methods: Path | str, tasks: tuple[str, ...] = (TASK,), **options: Any) -> dict[str, Record]:
    """Run methods on one seed and return their records of the first task by name."""
    found = run("smoke", tasks, [str(method) for method in methods], out=out, workers=2, device="cpu", **options)
    return {record.method: record for record in found.records if record.task == tasks[0]}


# the two paths


@pytest.mark.parametrize(
    ("method", "task"),
    [
        *((name, "absorption/even") for name in ("topk_sae", "jumprelu_sae", "kmeans", "ksvd", "transcoder+anchored")),
        ("topk_sae", "traps/polysemantic"),  # training has to start from a given point
    ],
)
def test_both_paths_give_the_same_record(method: str, task: str) -> None:
    (cell,) = plan("smoke", [task], [method])
    here = run_cell(cell)
    there = run_cell(replace(cell, isolation="process"))
    assert here.status == "ok", here.reason
    assert there.content() == here.content()
    assert (here.provenance.isolation, there.provenance.isolation) == ("none", "process")


def test_a_study_trains_a_users_method_again_on_the_other_side(tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    shutil.copy(modules("methods")["topk_sae"], own)
    study = tmp_path / "again.py"
    study.write_text(
        '"""Trains again."""\nimport os\nfrom lrbench.study import Block, Study\n'
        f"def plan(suite, seeds): return [Block([{TASK!r}], [{str(own)!r}], [0])]\n"
        "def measure(trained):\n"
        "    again = trained.method.fit(trained.task.view(trained.method.pair), seed=trained.task.fit_seed)\n"
        "    return {'same': float((again.W_dec == trained.dictionary.W_dec).all())}\n"
        "def write(records, suite, path):\n"
        "    path.write_text(str(records[0].measures['again'].values['same']))\n    return 'done'\n"
        "STUDY = Study(plan=plan, write=write, measure=measure)\n"
    )
    done = command("study", str(study), "--suite", "smoke", "--out", "out", "--page", "page.md", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "page.md").read_text() == "1.0"


def test_views_and_dictionaries_cross_bit_by_bit() -> None:
    view = lrbench.load_task("traps/polysemantic", "smoke").view("autoencoder")
    assert view.start is not None
    request, body = pack_view(view, source="x", seed=1)
    again = unpack_view(request, bytearray(body))
    assert again.fingerprint() == view.fingerprint()
    dictionary = lrbench.load_method("jumprelu_sae").fit(view, seed=0)
    facts, tensors = pack_dictionary(dictionary)
    other = unpack_dictionary(facts, bytearray(tensors))
    inputs = view.head(64)[0]
    assert torch.equal(other.decode(other.encode(inputs)), dictionary.decode(dictionary.encode(inputs)))


# the wire


def test_frames_come_through_in_pieces() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire.send(ours, {"a": 1}, b"body")
        wire.send(ours, {"b": 2})
        sent = theirs.recv(1 << 16)
    reader, found = wire.Reader(limit=10), []
    for byte in sent:
        found += list(reader.feed(bytes([byte])))
    assert found == [({"a": 1}, bytearray(b"body")), ({"b": 2}, bytearray())]


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"\x80\x04K*.................", "wrote to the pipe"),
        (wire.START.pack(wire.MAGIC, 2_000_000_000, 0), "wrote to the pipe"),
        (wire.START.pack(wire.MAGIC, 2, 11) + b"{}", "holds 11 bytes, expected at most 10"),
        (wire.START.pack(wire.MAGIC, 2, 0) + b"[]", "no message"),
        (wire.START.pack(wire.MAGIC, 3, 0) + b"{a}", "no JSON"),
        (wire.START.pack(wire.MAGIC, 90_000, 0) + b"[" * 90_000, "no JSON"),
        (wire.START.pack(wire.MAGIC, 9_000, 0) + b"1" * 9_000, "no JSON"),
    ],
)
def test_what_is_no_frame_is_a_breach(sent: bytes, says: str) -> None:
    with pytest.raises(wire.Breach, match=says):
        list(wire.Reader(limit=10).feed(sent))


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"kind": "answer", "key": "k"},
        {"kind": "answer", "key": 3, "status": "ok"},
        {"kind": "answer", "key": "k", "status": "ok", "score": 1.0},
        {"kind": "started", "key": "k", "hyperparameters": {"a": {"b": 1}}},
        {"kind": "started", "key": "k", "hyperparameters": {"a": float("nan")}},
        {"kind": "result", "key": "k"},
    ],
)
def test_what_is_no_message_is_a_breach(header: dict[str, Any]) -> None:
    with pytest.raises(wire.Breach, match="a message that is none"):
        parsed(header)
    assert isinstance(parsed({"kind": "started", "key": "k", "hyperparameters": {"a": [1, 2.5, None]}}), Started)


# without a process space of its own: containers refuse one

HOSTILE = Path(__file__).parent / "hostile"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # this process forks, and has threads
def test_a_fit_leaves_nobody_where_the_system_gives_no_process_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrbench.boundary.kernel.own_process_space", lambda: False)
    fit_client._close_server()
    fit_client.fork_server()
    view = lrbench.load_task(TASK, "smoke").view("autoencoder")

    def fitted(name: str, **limits: Any) -> Any:
        return fit_client.FitElsewhere(source=str(HOSTILE / f"{name}.py"), **limits).fitted(view, 1)

    try:
        for name in ("leaves_a_daemon", "leaves_processes", "leaves_a_thread"):
            assert fitted(name).dictionary.n_latents == 64
        with pytest.raises(wire.FitFailed, match=r"more memory than the limit of 1\.5 GB"):
            fitted("eats_memory_in_a_child", memory_gb=1.5)
        with pytest.raises(wire.FitFailed, match="exited with code 1"):
            fitted("exits_with_1")
        (server,) = fit_client._SERVER
        assert psutil.Process(server.pid).children(recursive=True) == []
    finally:
        fit_client._close_server()
    lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not any("left by hostile" in line for line in lines)


# names, kinds, files


def test_a_file_may_not_take_the_name_of_the_catalogue(tmp_path: Path) -> None:
    smoke(tmp_path / "out", "topk_sae")
    for name in ("topk_sae", "topk_sae+anchored", "pca[n=3]"):
        file = tmp_path / f"{name}.py"
        file.write_text(modules("methods")["kmeans"].read_text())
        with pytest.raises(LrbenchError, match=r"a method of the catalogue is called '\w+' already.*rename the file"):
            select_methods([str(file)])
    done = command("run", "--suite", "smoke", "--task", TASK, "--method", "topk_sae.py", "--out", "out", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    same = tmp_path / "kmeans.py"
    same.write_bytes(modules("methods")["kmeans"].read_bytes())
    assert [info.source for info in select_methods([str(same)])] == ["kmeans"]


def test_a_file_cannot_be_a_reference(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import lrbench\nclass Mine(lrbench.Method):\n    kind = 'reference'\n    def fit(self, view, seed=0): ...\nMETHOD = Mine()\n"
    )
    with pytest.raises(LrbenchError, match="kind='reference' is for the ends of the catalogue's scale"):
        select_methods([str(file)])


def test_brackets_of_a_file_are_read_on_the_other_side(tmp_path: Path) -> None:
    file, mark = tmp_path / "mine.py", tmp_path / "pid"
    text = modules("methods")["topk_sae"].read_text()
    file.write_text(f"{text}\nimport os, pathlib\npathlib.Path({str(mark)!r}).write_text(str(os.getpid()))\n")
    cells = plan("smoke", [TASK], [f"{file}[l0=2|0.50]"])
    assert [cell.method for cell in cells] == ["mine[l0=2]", "mine[l0=0.5]"]
    assert mark.read_text() != str(os.getpid())
    with pytest.raises(LrbenchError, match="did you mean resample"):
        plan("smoke", [TASK], [f"{file}[resampel=2]"])


@pytest.mark.parametrize("name", ["ca", "[l0=2]+anchored", "[\x1b=2]", "[a=1][b=2]"])
def test_a_file_cannot_say_that_it_is_another_method(tmp_path: Path, name: str) -> None:
    patch = f"import lrbench.catalogue.address\nlrbench.catalogue.address.settings_text = lambda values: {name!r}\n"
    (tmp_path / "p.py").write_text(f"{modules('methods')['topk_sae'].read_text()}\n{patch}")
    with pytest.raises(LrbenchError, match=r"it answered .* expected 1 times"):
        plan("smoke", [TASK], [f"{tmp_path / 'p.py'}[l0=2]"])


def test_a_file_that_hangs_or_dies_when_it_is_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrbench.boundary.fit_client.SETTINGS_SECONDS", 1.0)
    for body, says in (
        ("while True: pass", "did not answer within 1 s"),
        ("import os; os._exit(3)", "exited with code 3"),
    ):
        (tmp_path / "mine.py").write_text(f"{body}\nMETHOD = SDL()\n")
        with pytest.raises(LrbenchError, match=says):
            plan("smoke", [TASK], [f"{tmp_path / 'mine.py'}[l0=2]"])


@pytest.mark.parametrize("by", ["script", "module"])
def test_nothing_beside_the_user_is_imported(tmp_path: Path, by: str) -> None:
    for name in (
        "random",
        "types",
        "torch",
        "numpy",
        "selectors",
        "sitecustomize",
        *(["lrbench"] if by == "script" else []),
    ):
        (tmp_path / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'w').write({name!r})\nraise SystemExit(1)\n"
        )
    shutil.copy(modules("methods")["topk_sae"], tmp_path / "mine.py")
    words = ["run", "--suite", "smoke", "--task", TASK, "--method", "mine.py", "--method", "pca", "--out", "out"]
    if by == "module":
        done = subprocess.run(
            [sys.executable, "-m", "lrbench.cli", *words], capture_output=True, text=True, cwd=tmp_path
        )
    else:
        done = command(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_typo_loses_nothing_that_was_measured(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    shutil.copy(modules("methods")["kmeans"], file)
    file.write_text(file.read_text() + "\n# mine\n")
    before = smoke(tmp_path / "out", file)["mine"]
    file.write_text(file.read_text() + "\nno_such_name\n")
    assert smoke(tmp_path / "out", file)["mine"].status == "failed"
    (aside,) = (tmp_path / "out").rglob("*.set-aside*")
    assert Record.model_validate(json.loads(aside.read_text())) == before


# what a record says of how it was made


def test_records_made_otherwise_do_not_count_as_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cell,) = plan("smoke", [TASK], ["pca"], device="cpu")
    record = run_cell(cell)
    assert record.provenance.engine == "auto"
    assert cell.done_by(record)
    for fact in (
        {"engine": "reference"},
        {"device": "cuda"},
        {"packages": record.provenance.packages | {"torch": "2.0"}},
    ):
        place = record.provenance.model_copy(update=fact)
        assert not cell.done_by(record.model_copy(update={"provenance": place})), fact
    assert not replace(cell, isolation="sandbox").done_by(record)
    monkeypatch.setenv("LRBENCH_ENGINE", "reference")
    (other,) = plan("smoke", [TASK], ["pca"], device="cpu")
    assert not other.done_by(record)
    assert run_cell(other).provenance.engine == "reference"


# salt


def test_a_salt_makes_other_worlds_that_do_not_compare(tmp_path: Path) -> None:
    from lrbench.leaderboard.compare import compare

    public, salted = lrbench.load_task(TASK, "smoke"), lrbench.load_task(TASK, "smoke", salt="a secret")
    assert public.hash != salted.hash
    assert public.world_hash != salted.world_hash
    assert "a secret" not in repr(salted)
    assert not torch.equal(public.view().sites[0], salted.view().sites[0])
    assert torch.equal(salted.view().sites[0], lrbench.load_task(TASK, "smoke", salt="a secret").view().sites[0])
    one, other = (smoke(tmp_path / salt, "pca", salt=salt) for salt in ("", "a secret"))
    assert one["pca"].salt_hash is None
    assert re.fullmatch("[0-9a-f]{16}", str(other["pca"].salt_hash))
    assert compare([one["pca"]], [other["pca"]]).exit_code == 3
    with pytest.raises(LrbenchError, match=r"holds records of public worlds.*name another --out"):
        smoke(tmp_path / "", "pca", salt="a secret")


SPY = """
import glob, os, re
import lrbench

SALT = re.compile(rb"ope[n] sesam[e] 7[7]")  # as a pattern: the salt itself must not stand in this file


class Spy(lrbench.Method):
    def fit(self, view, seed=0):
        seen = [repr(dict(os.environ)).encode()]
        for place in (*glob.glob("/proc/[0-9]*/environ"), *glob.glob("/proc/[0-9]*/cmdline")):
            try:
                seen.append(open(place, "rb").read())
            except OSError:
                pass
        with open("/proc/self/mem", "rb") as memory:
            for line in open("/proc/self/maps"):
                start, end = (int(part, 16) for part in line.split()[0].split("-"))
                try:
                    memory.seek(start)
                    part = memory.read(min(end - start, 1 << 28))
                except (OSError, ValueError, OverflowError):
                    continue
                if SALT.search(part):
                    raise SystemExit("I know it")
        if any(map(SALT.search, seen)):
            raise SystemExit("I know it")
        return lrbench.load_method("random").fit(view, seed)


METHOD = Spy()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the spy reads /proc")
@pytest.mark.parametrize("by", ["environment", "option"])
def test_the_salt_reaches_no_method(tmp_path: Path, by: str) -> None:
    (tmp_path / "spy.py").write_text(SPY)
    words = ["run", "--suite", "smoke", "--task", TASK, "--method", "spy.py", "--method", "pca", "--out", "out"]
    words += ["--salt", "open sesame 77"] if by == "option" else []
    environment = {"LRBENCH_SALT": "open sesame 77"} if by == "environment" else {}
    done = command(*words, cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    records, _ = Store(tmp_path / "out").read()
    assert {record.salt_hash for record in records} == {salt_hash("open sesame 77")}


@pytest.mark.parametrize("salt", ["", "a secret that nobody guesses"])
def test_methods_that_rebuild_the_world_score_like_random_on_salted_ones(tmp_path: Path, salt: str) -> None:
    cheats = sorted(CHEATS.glob("*.py"))
    assert {path.stem for path in cheats} == {"knows_the_catalogue", "rebuilds_from_memory", "rebuilds_from_the_seed"}
    found = smoke(tmp_path / "out", *cheats, "random", salt=salt)
    for name, record in found.items():
        assert record.status == "ok", record.reason
        if name == "knows_the_catalogue" and not salt:
            assert record.scores["headline"] == pytest.approx(1.0, abs=0.05)  # public worlds can be looked up
        else:
            assert abs(record.scores["headline"] or 0.0) < 0.15, name


def test_a_worker_of_a_task_file_is_not_used_again(tmp_path: Path) -> None:
    (cell,) = plan("smoke", [TASK], ["pca"])
    assert not cell.foreign
    assert replace(cell, task_source="/x/mine.py::mine/one").foreign
    assert isinstance(cell, Cell)
    assert run_cells([], tmp_path / "out").ran == 0


def test_under_a_salt_a_generators_whole_state_follows_from_it() -> None:
    one, other = (generator(salted(0, salt), "world").get_state() for salt in ("a secret", "another"))
    same = generator(salted(0, "a secret"), "world")
    assert torch.equal(same.get_state(), one)
    assert (
        float((one[24 : 24 + 8 * 624] == other[24 : 24 + 8 * 624]).float().mean()) < 0.52
    )  # half of the bytes are always 0
    assert float(torch.randn(100_000, generator=same).mean()) == pytest.approx(0.0, abs=0.02)
    assert float(torch.rand(100_000, generator=same).mean()) == pytest.approx(0.5, abs=0.01)
    assert torch.equal(generator(3, "x").get_state(), torch.Generator().manual_seed(derive_seed(3, "x")).get_state())
