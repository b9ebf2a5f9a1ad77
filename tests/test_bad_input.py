"""Whatever is wrong with what a user gave: one clear line, no traceback, a non-zero exit, nothing left on the disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lrbench.cli import main
from lrbench.record import SCHEMA_VERSION
from lrbench.store import Store, load_records

FILES = {
    "syntax.py": b"def f(:\n",
    "binary.py": b"\xff\xfe\0",
    "no_method.py": b"x = 1\n",
    "no_import.py": b"import no_such_package\nMETHOD = no_such_package.X()\n",
    "not_a_method.py": b"METHOD = 3\n",
    "exits.py": b"import sys\nsys.exit('first\\nsecond')\n",
    "FILE": b"",
}
FAMILY = "from lrbench.task import family\n@family({})\ndef mine(value, scale):\n    return scale.task()\n"
FILES |= {
    f"{name}.py": FAMILY.format(declared).encode()
    for name, declared in {
        "in_no_suite": "levels={'a': 1}, smoke=(), quick=()",
        "no_level": "levels={}",
        "strange_level": "levels={'../../x': 1}",
        "strange_kind": "levels={'a': 1}, kinds=('x',)",
        "strange_twin": "levels={'a': 1}, twins=('x',)",
        "no_kind": "levels={'a': 1}, kinds=()",
    }.items()
}
UNWRITABLE = "/sys/nowhere" if Path("/sys").is_dir() else "/proc/nowhere"  # not even root may write there


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name, content in FILES.items():
        Path(name).write_bytes(content)
    Path("folder.py").mkdir()
    Path("loop.py").symlink_to("loop.py")
    Path("empty").mkdir()


def complaint(capsys: pytest.CaptureFixture[str], command: str) -> str:
    """Run a command that has to be refused and return its one line."""
    before = sorted(os.listdir())
    assert main(command.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert err.strip().isprintable()
    assert sorted(os.listdir()) == before
    return err


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("run --suite quik", "unknown suite 'quik': did you mean quick?"),
        ("run --task absorbtion/even", "unknown task 'absorbtion/even': did you mean absorption/even"),
        ("run --method topk", "unknown method 'topk': did you mean topk_sae"),
        ("run --task noise/0.3::x", "unknown task 'noise/0.3::x': did you mean noise/0.3"),
        ("run --method syntax.py", "syntax.py: is not valid Python (invalid syntax"),
        ("run --method binary.py", "binary.py: is not valid Python ("),
        ("run --method no_method.py", "no_method.py: declares no method; expected a line METHOD = ..."),
        ("run --method missing.py", "missing.py: cannot be read (No such file or directory); expected a Python file"),
        ("run --method folder.py", "folder.py: cannot be read (Is a directory); expected a Python file"),
        ("run --method empty", "unknown method 'empty'"),
        ("run --method no_method.py+anchored", "no_method.py: declares no method"),
        ("run --task syntax.py", "syntax.py: does not import (SyntaxError: invalid syntax"),
        ("run --task exits.py", "exits.py: does not import (SystemExit: first second)"),
        ("run --task no_method.py", "no_method.py: declares no task; expected a function with @family"),
        ("run --task missing.py", "missing.py: no such Python file"),
        ("run --task folder.py", "folder.py: no such Python file"),
        ("run --seeds 0", "seeds=0: expected 1 to 1000"),
        ("run --seeds -1", "seeds=-1: expected 1 to 1000"),
        ("run --seeds 3000000", "seeds=3000000: expected 1 to 1000"),
        ("study falsify --seeds 3000000", "seeds=3000000: expected 1 to 1000"),
        ("run --workers 100000", "workers=100000: expected at most"),
        (
            "run --task in_no_suite.py --suite smoke",
            "in_no_suite.py: the suite smoke runs none of its tasks; name them",
        ),
        ("run --task in_no_suite.py::", "in_no_suite.py::: names no task behind ::; expected one, such as in_no_suite"),
        ("run --task no_level.py", "no_level.py: mine has no level"),
        ("run --task strange_level.py", "strange_level.py: the level '../../x': expected letters, digits"),
        ("run --task strange_kind.py", "strange_kind.py: kinds=('x',): 'x' is none of sdl, baseline, reference"),
        ("run --task strange_twin.py", "strange_twin.py: twins=('x',): 'x' is none of anchored"),
        ("run --task no_kind.py --suite smoke", "these tasks ask for no method, so there is no cell to run"),
        ("run --task loop.py", "loop.py: no such Python file"),
        (f"run --task {'x' * 300}.py", "no such Python file ("),
        ("run --seeds abc", "'--seeds'"),
        ("run --seeds 1.5", "'--seeds'"),
        ("run --workers 0", "workers=0: expected a number above 0"),
        ("run --workers -3", "workers=-3: expected a number above 0"),
        ("run --device cuda", "no CUDA device on this machine"),
        ("run --device tpu", "unknown device 'tpu': expected auto, cpu or cuda"),
        ("run --timeout 0", "timeout=0: expected a number above 0"),
        ("run --timeout nan", "timeout=nan: expected a number above 0"),
        ("run --timeout inf", "timeout=inf: expected a number above 0"),
        ("run --memory 0", "memory=0: expected a number above 0"),
        ("run --memory -1", "memory=-1: expected a number above 0"),
        ("run --out FILE", "FILE is a file, but results need a folder"),
        ("run --out FILE/below", "cannot write to the folder FILE/below: Not a directory"),
        (f"run --out {UNWRITABLE}", f"cannot write to the folder {UNWRITABLE}: "),
        ("leaderboard missing", "no results folder 'missing'"),
        ("leaderboard FILE", "no results folder 'FILE'"),
        ("leaderboard empty", "no usable record in 'empty': fill it with `lrbench run --out empty`"),
        ("leaderboard . --output .", ". is a folder, --output needs a file"),
        ("run --colour red", "--colour"),
        ("list task", "task"),
        ("list", "argument"),
        ("fly", "fly"),
        ("check missing.py", "missing.py: cannot be read (No such file or directory)"),
        ("check not_a_method.py", "not_a_method.py: expected METHOD = an lrbench.Method, found int"),
        (
            "check no_import.py",
            "no_import.py: does not import (ModuleNotFoundError: No module named 'no_such_package')",
        ),
        ("check topk", "unknown method 'topk': did you mean topk_sae"),
    ],
)
def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], command: str, says: str) -> None:
    assert says in complaint(capsys, command)


def test_a_method_that_does_not_import_fails_once_in_the_report(capfd: pytest.CaptureFixture[str]) -> None:
    command = ["run", "--suite", "smoke", "--task", "noise/0.3", "--seeds", "2", "--workers", "1", "--device", "cpu"]
    assert main([*command, "--method", "no_import.py", "--method", "not_a_method.py", "--out", "r"]) == 1
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    path = Path("no_import.py").resolve()
    assert (
        f"no_import failed on 2 of its cells: LrbenchError: {path}: does not import (ModuleNotFoundError: No module"
        " named 'no_such_package')\n" in out
    )
    assert "not_a_method failed on 2 of its cells: LrbenchError: " in out
    assert "found int" in out


@pytest.fixture
def records() -> Path:
    """Return a folder of two good records beside a truncated, a foreign, a future and an invalid one."""
    command = ["run", "--suite", "smoke", "--task", "noise/0.3", "--seeds", "2", "--workers", "1", "--device", "cpu"]
    assert main([*command, "--method", "random", "--out", "good"]) == 0
    first = Store("good").path("smoke", ("noise/0.3", "random", 0))
    text = first.read_text()
    for name, content in {
        "truncated": text[:100],
        "foreign": '{"name": "someone else\'s"}',
        "future": json.dumps(json.loads(text) | {"schema_version": 99}),
        "invalid": json.dumps(json.loads(text) | {"seed": "zero"}),
    }.items():
        first.with_name(f"{name}.json").write_text(content)
    return first.parent


REASONS = {
    "truncated.json": "is not complete JSON: truncated or foreign",
    "foreign.json": "is not an lrbench record: it has no schema version",
    "future.json": f"was written by a newer lrbench: schema 99, this one reads {SCHEMA_VERSION}",
    "invalid.json": "is not a valid record: seed: ",
}


def test_bad_records_are_named_and_the_rest_is_used(records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in records.glob("*.json")}
    capsys.readouterr()
    command = ["run", "--suite", "smoke", "--task", "noise/0.3", "--seeds", "2", "--workers", "1", "--device", "cpu"]
    assert main([*command, "--method", "random", "--out", "good"]) == 0
    out, err = capsys.readouterr()
    assert "2 were stored already, 0 ran" in out
    for name, reason in REASONS.items():
        assert f"set aside {Path('good') / 'smoke' / 'noise' / '0.3' / name}: {reason}" in err

    assert main(["leaderboard", "good", "--output", "page.md"]) == 0
    page, shown = Path("page.md").read_text(), "".join(capsys.readouterr())
    assert "random" in page
    for name in REASONS:
        assert name in page + shown

    with pytest.warns(UserWarning, match="set aside") as warned:
        frame = load_records("good")
    assert list(frame["seed"]) == [0, 1]
    for name, reason in REASONS.items():
        assert any(name in str(each.message) and reason in str(each.message) for each in warned)
    assert {path: path.read_bytes() for path in records.glob("*.json")} == before


def test_a_page_that_cannot_be_written_is_one_line(records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in map(records.joinpath, REASONS):
        path.unlink()
    capsys.readouterr()
    for output in ("FILE/page.md", f"{UNWRITABLE}/page.md"):
        assert "cannot write" in complaint(capsys, f"leaderboard good --output {output}")


def test_a_real_command_shows_no_traceback_either() -> None:
    command = [sys.executable, "-m", "lrbench.cli", "run", "--suite", "smoke", "--method", "syntax.py"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_an_empty_task_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--task", ""]) == 2
    assert "unknown task ''" in capsys.readouterr().err


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b"# -*- coding: latin-1 -*-\n# caf\xe9\n"], ids=["BOM", "latin-1"])
def test_a_task_file_may_say_how_it_is_encoded(start: bytes) -> None:
    Path("mine.py").write_bytes(start + FAMILY.format("levels={'a': 1}").encode())
    command = ["run", "--suite", "smoke", "--method", "random", "--workers", "1", "--device", "cpu", "--out", "r"]
    assert main([*command, "--task", "mine.py"]) == 0
