"""Standard streams that are closed, full, cut off or narrow: the command does its work and ends with its own code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

LRBENCH = f"{sys.executable} -m lrbench.cli"
RUN = f"{LRBENCH} run --suite smoke --task noise/0.3 --seeds 1 --workers 1 --device cpu --out out"
BROKEN = '''
"""Fails."""
from dataclasses import dataclass
import lrbench

@dataclass(frozen=True)
class Broken(lrbench.Method):
    def fit(self, view, seed=0):
        raise ValueError("broken")

METHOD = Broken()
'''
STUDY = '''
"""A study of one cell."""
from pathlib import Path
from lrbench.study import Block, Study

def plan(suite, seeds):
    return [Block(tasks=("noise/0.3",), methods=(METHODS,), seeds=(0,))]

def write(records, suite, path):
    path.write_text("the page")
    return "\\n".join(["shown"] * 20_000)

STUDY = Study(plan=plan, write=write)
'''


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.py").write_text(BROKEN)


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    bash = ["bash", "-c", f"set -o pipefail; {command}"]
    return subprocess.run(bash, capture_output=True, text=True, errors="replace", env={**os.environ, **environment})


def statuses() -> list[str]:
    return [json.loads(path.read_text())["status"] for path in Path("out").rglob("*.json")]


@pytest.mark.parametrize("streams", ["<&-", ">&-", "<&- >&- 2>&-", "2>&1 | true"])
def test_a_run_needs_no_stream(streams: str) -> None:
    done = shell(f"{RUN} --method pca {streams}")
    assert (done.returncode, statuses()) == (0, ["ok"])
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr


def test_a_full_stdout_is_one_line_after_the_cells_are_stored() -> None:
    done = shell(f"{RUN} --method pca >/dev/full")
    assert (done.returncode, statuses()) == (2, ["ok"])
    assert done.stderr.splitlines()[-1] == (
        "error: cannot write to stdout: No space left on device; send it to another place"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("streams", [">/dev/full", "| true"])
def test_a_failed_cell_stays_one_whoever_reads(streams: str) -> None:
    assert shell(f"{RUN} --method broken.py {streams}").returncode == 1
    assert statuses() == ["failed"]


@pytest.mark.parametrize(("method", "code"), [("pca", 0), ("broken.py", 1)])
def test_a_study_writes_its_page_though_nobody_reads(method: str, code: int) -> None:
    Path("mine.py").write_text(STUDY.replace("METHODS", repr(str(Path(method).resolve()) if code else method)))
    done = shell(f"{LRBENCH} study mine.py --suite smoke --workers 1 --device cpu --out out --page page.md | head -1")
    assert done.returncode == code
    assert done.stdout.startswith("1 cells in out: ")
    assert Path("page.md").read_text() == "the page"
    assert "Traceback" not in done.stderr


def test_a_page_that_cannot_be_made_hides_no_report() -> None:
    Path("mine.py").write_text(
        STUDY.replace("METHODS", "'pca'").replace('path.write_text("the page")', "raise OSError(1, 'no')")
    )
    done = shell(f"{LRBENCH} study mine.py --suite smoke --workers 1 --device cpu --out out")
    assert done.returncode == 2
    assert done.stdout.startswith("1 cells in out: ")
    assert "error: cannot write " in done.stderr


@pytest.mark.parametrize("command", ["list tasks --json", "--help"])
@pytest.mark.parametrize(("streams", "code"), [(">&-", 0), ("<&-", 0), ("| head -1", 0), (">/dev/full", 2)])
def test_what_only_prints_ends_well(command: str, streams: str, code: int) -> None:
    done = shell(f"{LRBENCH} {command} {streams}")
    assert done.returncode == code
    assert done.stderr.count("\n") == (1 if code else 0)


NARROW = [
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "cp1252"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]


@pytest.mark.parametrize("environment", NARROW, ids=str)
def test_what_a_stream_cannot_show_is_replaced(environment: dict[str, str]) -> None:
    Path("broken.py").write_text(BROKEN.replace('"broken"', '"σ ± 日本"'), encoding="utf-8")
    done = shell(f"{RUN} --method broken.py", **environment)
    assert done.returncode == 1
    assert "failed on 1 of its cells: ValueError: ? " in done.stdout
    assert "Traceback" not in done.stderr
