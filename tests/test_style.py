"""The linter and the type checker, as a user of `make test` sees them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


# One file a folder that the type checker has to read; no other file imports it, so that little is checked again.
CHECKED = ("lrbench/plugin.py", "methods/truth.py", "tasks/noise.py", "leaderboard/__init__.py", "benchmarks/speed.py",
           "conftest.py")  # fmt: skip


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("command", [("ruff", "check", "."), ("ruff", "format", "--check", ".")], ids=" ".join)
def test_clean(command: tuple[str, ...]) -> None:
    done = run(*command)
    assert done.returncode == 0, done.stdout + done.stderr


def test_types_are_clean_and_read_in_every_folder(tmp_path: Path) -> None:
    done = run("mypy", "--no-error-summary")  # here and not beside ruff: two runs at once would share a cache
    assert done.returncode == 0, done.stdout + done.stderr
    expected, shadows = set(), []
    for name in CHECKED:
        wrong = tmp_path / name.replace("/", "-")
        text = (ROOT / name).read_text(encoding="utf-8")
        wrong.write_text(f"{text}\n\ndef _untyped(x):\n    return x\n", encoding="utf-8")
        shadows += ["--shadow-file", name, str(wrong)]
        expected.add((ROOT / name, len(text.splitlines()) + 3, "no-untyped-def"))
    done = run("mypy", "--no-error-summary", *shadows)
    found = [re.fullmatch(r"(.+?):(\d+): error: .*\[([\w-]+)\]", line) for line in done.stdout.splitlines()]
    errors = [((ROOT / error[1]).resolve(), int(error[2]), error[3]) for error in found if error]
    assert sorted(errors) == sorted(expected), done.stdout + done.stderr  # each once: no file has two names
