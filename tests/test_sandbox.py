"""What a method can do from inside a sandbox: compute, and nothing else."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lrbench.boundary.sandbox import require_sandbox
from lrbench.catalogue.files import modules
from lrbench.errors import LrbenchError
from lrbench.record import Record
from lrbench.running.runner import plan, run
from lrbench.store import Store

TASK = "noise/0.3"
NOBODY = 65534


def missing() -> str:
    """Return why no sandbox can be made here, empty where one can."""
    try:
        require_sandbox()
    except LrbenchError as error:
        return str(error)
    return ""


needs_sandbox = pytest.mark.skipif(bool(missing()), reason=missing())

HEAD = """
import os, socket, subprocess, sys, time
import lrbench

def tried(action):
    try:
        return action() is not False
    except BaseException:
        return False

class Method(lrbench.Method):
    def fit(self, view, seed=0):
        got = {}
"""
FOOT = """
        raise SystemExit("got out by: " + ", ".join(name for name, ok in got.items() if ok))

METHOD = Method()
"""
ESCAPES = {
    "network": """
        for place in (("127.0.0.1", PORT), ("1.1.1.1", 53)):
            got[place[0]] = tried(lambda: socket.create_connection(place, timeout=2))
""",
    "files": """
        for place in ("OUT", "OUT/smoke", "HERE", "HOME", "/usr", "/", "/etc", "/dev", "PACKAGE"):
            got["writing to " + place] = tried(lambda: open(os.path.join(place, "x"), "w"))
        for place in ("OUT", "HERE/secret"):
            got["reading " + place] = tried(lambda: os.listdir(place) if os.path.isdir(place) else open(place))
""",
    "processes": """
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        got["seeing"] = any(b"THE-RUN" in open(f"/proc/{number}/cmdline", "rb").read() for number in numbers)
        for number in (RUN, -1):
            got[f"killing {number}"] = tried(lambda: os.kill(number, 0) or number == RUN)
        got["root"] = os.geteuid() == 0 and "USER" == "root"
        got["mounting"] = tried(lambda: subprocess.run(["mount", "-t", "tmpfs", "none", "/tmp"], check=True))
""",
    "fork_bomb": """
        children = 0
        for _ in range(2000):
            try:
                if os.fork() == 0:
                    time.sleep(60)
                    os._exit(0)
                children += 1
            except OSError:
                break
        got[f"{children} processes"] = children > 500
""",
    "disk": """
        written = 0
        for folder in ("/tmp", "/dev/shm"):
            try:
                for number in range(100):
                    with open(f"{folder}/{number}", "wb") as file:
                        for _ in range(10):
                            written += file.write(b"x" * 10_000_000)
            except OSError:
                pass
        got[f"{written} bytes"] = written > 1_000_000_000
""",
    "memory": """
        kept = []
        try:
            while len(kept) < 60:
                kept.append(bytearray(b"x" * 100_000_000))
        except MemoryError:
            pass
        got[f"{len(kept)} times 100 MB"] = len(kept) > 25
""",
}
STOPPED = {"memory_in_children": "used more memory than the limit of 2 GB"}
STOPPED_BODY = """
        for _ in range(8):
            if os.fork() == 0:
                kept = bytearray(b"x" * 500_000_000)
                time.sleep(60)
        time.sleep(60)
"""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Record]]:
    """Run everything that wants out, beside one method that only wants to fit."""
    here = tmp_path_factory.mktemp("sandbox")
    (here / "secret").write_text("salt")
    own = here / "mine.py"
    shutil.copy(modules("methods")["topk_sae"], own)
    with socket.create_server(("127.0.0.1", 0)) as server:
        words = {
            "PORT": str(server.getsockname()[1]),
            "OUT": str(here / "out"),
            "HERE": str(here),
            "HOME": str(Path.home()),
            "PACKAGE": str(Path(sys.modules["lrbench"].__file__ or "").parent),
            "RUN": str(os.getpid()),
            "USER": "nobody",
        }
        methods = [str(own), "topk_sae", "truth"]
        for name, body in {**ESCAPES, "memory_in_children": STOPPED_BODY}.items():
            for word, value in words.items():
                body = body.replace(word, value)
            file = here / f"{name}.py"
            file.write_text(HEAD + body + FOOT)
            methods.append(str(file))
        found = run("smoke", [TASK], methods, out=here / "out", workers=2, device="cpu", timeout=120, sandbox=True)
        yield {record.method: record for record in found.records}


@needs_sandbox
@pytest.mark.parametrize("method", sorted(ESCAPES))
def test_nothing_gets_out(outcome: dict[str, Record], method: str) -> None:
    record = outcome[method]
    assert record.status == "failed"
    assert record.reason == "SystemExit: got out by"
    assert record.provenance.isolation == "sandbox"


@needs_sandbox
@pytest.mark.parametrize("method", sorted(STOPPED))
def test_what_uses_too_much_is_stopped(outcome: dict[str, Record], method: str) -> None:
    assert outcome[method].reason == STOPPED[method]


@needs_sandbox
def test_a_method_learns_the_same_inside(outcome: dict[str, Record], tmp_path: Path) -> None:
    (plain,) = run("smoke", [TASK], ["topk_sae"], out=tmp_path, workers=1, device="cpu").records
    assert plain.status == "ok"
    assert outcome["topk_sae"].content() == plain.content()
    assert outcome["mine"].scores == plain.scores
    assert outcome["mine"].provenance.isolation == outcome["topk_sae"].provenance.isolation == "sandbox"
    assert outcome["truth"].provenance.isolation == plain.provenance.isolation == "none"


@needs_sandbox
def test_nobody_is_left_in_a_sandbox(outcome: dict[str, Record]) -> None:
    assert outcome
    assert not [process for process in psutil.Process().children(recursive=True) if process.name() == "bwrap"]


@needs_sandbox
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_has_sandboxes_too(tmp_path: Path) -> None:
    user = pwd.getpwuid(NOBODY)
    asked = ["/usr/bin/env", sys.executable, "-c", "import lrbench"]
    if subprocess.run(asked, user=NOBODY, group=NOBODY, cwd="/", capture_output=True).returncode:
        pytest.skip(f"{user.pw_name} may not read {sys.executable}")
    tmp_path.chmod(0o777)
    for folder in tmp_path.parents:
        if folder.owner() == "root" and folder != Path("/") and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)
    (tmp_path / "mine.py").write_text(HEAD + ESCAPES["fork_bomb"] + ESCAPES["network"].replace("PORT", "9") + FOOT)
    words = [
        "run",
        "--suite",
        "smoke",
        "--task",
        TASK,
        "--method",
        "mine.py",
        "--method",
        "topk_sae",
        "--sandbox",
        "--out",
        "out",
    ]
    code = "import sys; from lrbench.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        user=NOBODY,
        group=NOBODY,
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    found = {record.method: record for record in Store(tmp_path / "out").read()[0]}
    assert found["topk_sae"].status == "ok", done.stderr
    assert found["mine"].reason == "SystemExit: got out by", done.stderr


def test_without_bubblewrap_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        LrbenchError, match=r"--sandbox: bubblewrap is not installed, nothing ran: .*apt install bubblewrap"
    ):
        run("smoke", [TASK], ["pca"], out=tmp_path / "out", sandbox=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name != "posix", reason="a shell script stands in for bubblewrap")
def test_where_the_system_refuses_a_sandbox_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "bwrap"
    script.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LrbenchError, match=r"cannot make a sandbox here, nothing ran .bwrap: No permissions"):
        run("smoke", [TASK], ["pca"], out=tmp_path / "out", sandbox=True)


@needs_sandbox
def test_brackets_are_read_inside_too(tmp_path: Path) -> None:
    mark, file = tmp_path / "mark", tmp_path / "mine.py"
    text = f"\ntry:\n    open({str(mark)!r}, 'w')\nexcept OSError:\n    pass\n"
    file.write_text(modules("methods")["topk_sae"].read_text() + text)
    (cell,) = plan("smoke", [TASK], [f"{file}[l0=2]"], sandbox=True)
    assert (cell.method, cell.isolation) == ("mine[l0=2]", "sandbox")
    assert not mark.exists()
