"""Every example in a docstring runs and says the truth, and what `import lrbench` offers has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import lrbench
from lrbench.running.runner import run

ROOT = Path(lrbench.__file__).parent
FILES = [*sorted(ROOT.rglob("*.py")), *sorted((ROOT.parent / "leaderboard").glob("*.py"))]
NAMES = [
    ".".join(("lrbench", *path.relative_to(ROOT if ROOT in path.parents else ROOT.parent).with_suffix("").parts))
    for path in FILES
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", [name.removesuffix(".__init__") for name in NAMES if ".theory." not in name])
def test_the_examples_of_a_module_are_true(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples() -> None:
    assert len(NAMES) > 20


def test_what_a_user_calls_has_an_example() -> None:
    offered = [getattr(lrbench, name) for name in lrbench.__all__ if name not in ("METRICS", "LrbenchError")]
    called = [thing for thing in offered if inspect.isclass(thing) or inspect.isfunction(thing)]
    assert len(called) > 10
    assert [thing.__name__ for thing in [*called, run] if "Examples\n" not in (inspect.getdoc(thing) or "")] == []
