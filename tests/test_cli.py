from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

from lrbench.cli import main
from lrbench.store import Store

METHOD = '''
"""A method for tests."""
import os, time
from dataclasses import dataclass
import torch
import lrbench
from lrbench.activation import ReLU

@dataclass(frozen=True)
class Mine(lrbench.Method):
    def fit(self, view, seed=0):
        {body}
        w = torch.randn(view.budget.n_latents, view.d_in, generator=torch.Generator().manual_seed(seed))
        return lrbench.Dictionary(w, None, w, None, ReLU())

METHOD = Mine()
'''
HEAVY = ("torch", "numpy", "pandas", "scipy", "sklearn", "matplotlib", "rich")


def method_file(folder: Path, name: str, body: str = "pass") -> str:
    path = folder / f"{name}.py"
    path.write_text(METHOD.format(body=body))
    return str(path)


def test_list_shows_the_catalogue_as_text_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    for what, name in (("tasks", "superposition/1.30x"), ("methods", "topk_sae+anchored"), ("suites", "smoke")):
        assert main(["list", what]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert main(["list", what, "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert name in [row["name"] for row in rows]
        assert [line.split()[0] for line in lines] == [row["name"] for row in rows]
        assert all({"name", "summary"} <= set(row) for row in rows)


def test_list_loads_nothing_heavy() -> None:
    code = "import sys; from lrbench.cli import main; main(['list', 'tasks']);"
    code += f"print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("what", ["lrbench", "lrbench.cli"])
def test_importing_loads_no_torch(what: str) -> None:
    code = f"import sys, {what}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_help_and_no_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "leaderboard" in capsys.readouterr().out
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert "leaderboard" in out
    assert err == ""


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"lrbench {metadata.version('linear-representation-bench')}\n"


COMMANDS = (
    "run",
    "study",
    "falsify",
    "list",
    "new",
    "check",
    "certify",
    "leaderboard",
    "pack",
    "compare",
    "show",
    "tune",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_speaks_no_python(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert set(COMMANDS) == set(re.findall(r"^  (\w+) ", capsys.readouterr().out.split("Commands:")[1], re.MULTILINE))
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert "Usage: lrbench" in out
    assert not re.search(r"<|list\[|\bNone\b|\bstr\b|\bTEXT\b|\bINTEGER\b", out)


def test_run_reports_and_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    good, bad = method_file(tmp_path, "good"), method_file(tmp_path, "bad", "print(1); raise ValueError('[bold] odd')")
    arguments = ["run", "--suite", "smoke", "--task", "noise/0.3", "--workers", "1", "--device", "cpu", "--out", "r"]
    assert main([*arguments, "--method", good]) == 0
    out, err = capfd.readouterr()
    assert "1 cells in r: 0 were stored already, 1 ran" in out
    assert "1 cells: 0 stored already, 1 to run on cpu" in err
    assert "1/1 cells, 0 failed" in err

    assert main([*arguments, "--method", good, "--method", bad]) == 1
    out, err = capfd.readouterr()
    assert "FAILED noise/0.3[bad-seed0]: ValueError: [bold] odd" in err.splitlines()
    assert "2 cells in r: 1 were stored already, 1 ran" in out
    assert re.search(r"ok +1\n +skipped +0\n +failed +1\n", out)
    assert "bad failed on 1 of its cells: ValueError: [bold] odd" in out
    record = Path(re.findall(r"traceback in (.+)", out)[0])
    assert "in fit" in json.loads(record.read_text())["traceback"]

    record.write_text("{")
    assert main([*arguments, "--method", good]) == 0
    assert f"set aside {record}: is not complete JSON" in capfd.readouterr().err


def test_leaderboard_shows_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--suite", "smoke", "--task", "noise/0.3", "--method", "truth", "--method", "pca"]) == 0
    assert main(["leaderboard", "results", "--output", "board/B.md"]) == 0
    out = capsys.readouterr().out
    assert Path("board/B.md").is_file()
    assert Path("board/figures").is_dir()
    assert "board/B.md" in out
    assert "board/figures" in out
    assert "pca" in out


def test_interrupt_says_what_is_stored(tmp_path: Path) -> None:
    quick = method_file(tmp_path, "aquick")
    slow = method_file(tmp_path, "slow", "time.sleep(60)")
    command = [sys.executable, "-m", "lrbench.cli", "run", "--suite", "smoke", "--task", "noise/0.3", "--workers", "2"]
    command += ["--method", quick, "--method", slow, "--device", "cpu", "--out", str(tmp_path / "r")]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 30
        while not Store(tmp_path / "r").read()[0] and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1].startswith("interrupted: 1 of 2 cells are stored in ")
    assert "Traceback" not in err


@pytest.mark.parametrize("moment", ["0.15 s", "0.5 s", "1 s", "workers start", "workers load"])
def test_an_interrupt_at_any_moment_is_one_line(tmp_path: Path, moment: str) -> None:
    main_file = "import sys; from lrbench.cli import main; print('up', flush=True); sys.exit(main())"
    command = [sys.executable, "-c", main_file, "run", "--suite", "smoke", "--task", "noise/0.3", "--device", "auto"]
    with subprocess.Popen(
        [*command, "--out", str(tmp_path / "r")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline() == "up\n"
            if moment.endswith(" s"):
                time.sleep(float(moment.split()[0]))
            else:
                assert "to run on" in process.stderr.readline()
                time.sleep(0.1 if moment == "workers start" else 0.7)
            os.killpg(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    lines = [line for line in err.splitlines() if "to run on" not in line and "cells, 0 failed" not in line]
    assert process.returncode == 130, err
    assert out == ""
    assert len(lines) == 1, err
    assert lines[0].startswith("interrupted: ")


def test_a_stored_run_loads_nothing_heavy(tmp_path: Path) -> None:
    arguments = ["run", "--suite", "smoke", "--task", "noise/0.3", "--method", "pca", "--out", str(tmp_path)]
    code = f"import sys; from lrbench.cli import main; code = main({arguments!r});"
    code += f"print(code, [name for name in {HEAVY[:-1]} if name in sys.modules])"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert "0 were stored already, 1 ran" in runs[0].stdout
    assert "1 were stored already, 0 ran" in runs[1].stdout
    assert runs[1].stdout.splitlines()[-1] == "0 []"


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m lrbench.cli list tasks --json | head -1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[\n", "")
