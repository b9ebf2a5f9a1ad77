"""A short version of benchmarks/kill_test.py, and two runs that fill one folder at once."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from lrbench.store import Store

ROOT = Path(__file__).parent.parent


@pytest.fixture
def kill_test(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("kill_test", ROOT / "benchmarks" / "kill_test.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "kill_test", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_kills_lose_nothing(tmp_path: Path, kill_test: ModuleType) -> None:
    figures = kill_test.torment(tmp_path, kills=3, seeds=1, rng=random.Random(3), tasks=["noise/0.3"])
    assert figures.kills.total() == 3
    assert figures.cells == 5
    assert figures.clean, figures


def test_the_kill_test_would_notice_a_loss(tmp_path: Path, kill_test: ModuleType) -> None:
    figures = kill_test.Figures()
    before = {tmp_path / "a.json": (1, 2, b"")}
    assert figures.clean
    assert kill_test._compare(tmp_path, before, figures) == {}
    assert figures.lost == 1
    assert not figures.clean


def test_two_runs_fill_one_folder_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lrbench.cli", "run", "--suite", "smoke", "--task", "noise/0.3", "--device", "cpu"]
    command += ["--method", "pca", "--method", "topk_sae", "--method", "random", "--workers", "1", "--out"]
    subprocess.run([*command, str(tmp_path / "alone")], check=True, capture_output=True)
    runs = [subprocess.Popen([*command, str(tmp_path / "r")], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    assert not any("Traceback" in error for error in errors)
    alone, both = (Store(tmp_path / name).read() for name in ("alone", "r"))
    assert both[1] == []
    assert [record.content() for record in both[0]] == [record.content() for record in alone[0]]
    files = [name for _, _, names in os.walk(tmp_path / "r") for name in names]
    assert sorted(files) == ["pca.seed0.json", "random.seed0.json", "topk_sae.seed0.json"]
