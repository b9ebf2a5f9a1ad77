"""Loops are compiled, with or without a place on the disk, and never leave anything beside the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numba
import pytest

import lrbench
from lrbench import jit

PACKAGE = Path(lrbench.__file__).parent
TOTAL = "def total(n):\n    found = 0\n    for i in range(n):\n        found += i\n    return found\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache folder for this test; the user's setting is left out."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(jit, "user_cache_path", lambda *_, **__: tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def total(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Return a function whose file lies in a folder that can be written to, as that of a package mostly can."""
    (tmp_path / "beside").mkdir()
    file = tmp_path / "beside" / "loops.py"
    file.write_text(TOTAL)
    space: dict[str, Any] = {"__name__": "loops"}
    exec(compile(TOTAL, str(file), "exec"), space)
    yield space["total"]
    assert list(file.parent.rglob("*.nb?")) == []


def kept(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.nbi"))


def test_a_compiled_loop_is_kept_in_the_users_cache(home: Path, total: Callable[..., Any]) -> None:
    assert jit.loop_compiler(error_model="numpy")(total)(5) == 10
    assert len(kept(home / "loops" / metadata.version("linear-representation-bench"))) == 1
    assert numba.config.CACHE_DIR == ""  # other users of numba keep their own place
    found = jit.loop_compiler(error_model="numpy")(total)
    assert found(5) == 10
    assert sum(found.stats.cache_hits.values()) == 1  # type: ignore[attr-defined]


def test_each_version_has_a_folder_of_its_own(
    home: Path, total: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("8.0", "9.0"):
        monkeypatch.setattr(metadata, "version", lambda name, version=version: version)
        found = jit.loop_compiler()(total)
        assert found(5) == 10
        assert not found.stats.cache_hits  # type: ignore[attr-defined]
        assert len(kept(home / "loops" / version)) == 1

    def unknown(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", unknown)
    assert jit.cache_folder() == home / "loops" / "source"


def test_the_users_own_setting_wins(
    home: Path, total: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "own"))
    assert jit.loop_compiler()(total)(5) == 10
    assert len(kept(tmp_path / "own")) == 1
    assert not home.exists()


@pytest.mark.parametrize("whose", ["ours", "the user's"])
def test_where_nothing_can_be_kept_every_process_compiles(
    whose: str, home: Path, total: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "home"
    file.write_text("a file, in which no folder can be made")
    if whose == "the user's":
        monkeypatch.setattr(numba.config, "CACHE_DIR", str(file))
    found = jit.loop_compiler(error_model="numpy")(total)
    assert found(5) == 10
    assert found.stats.cache_path is None  # type: ignore[attr-defined]
    assert found.targetoptions["nogil"]  # type: ignore[attr-defined]


def test_where_numba_finds_no_place_at_all_every_process_compiles(
    home: Path, total: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_a_place(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        compiler: Callable[..., Any] = numba.njit(**options)
        return compiler

    monkeypatch.setattr(jit, "njit", without_a_place)
    assert jit.loop_compiler()(total)(5) == 10


def test_the_engine_and_the_matching_write_nothing_beside_the_package(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "lrbench", ignore=shutil.ignore_patterns("__pycache__"))
    before = sorted((tmp_path / "lrbench").rglob("*"))
    code = (
        "import torch, lrbench.jit\n"
        "from lrbench.engine import kernels\n"
        "from lrbench.scoring.assignment import assign_large\n"
        "kernels.sum_by_latent(0, 1, *(torch.zeros(1, dtype=t).numpy() for t in (torch.int32, torch.float32, torch.float32)))\n"
        "assign_large(torch.eye(3))\n"
        "print(lrbench.__file__, lrbench.jit.cache_folder(), sep='\\n')"
    )
    places = {"HOME": str(tmp_path / "user"), "XDG_CACHE_HOME": str(tmp_path / "user"), "LOCALAPPDATA": str(tmp_path / "user")}  # fmt: skip
    environment = {**os.environ, **places, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    origin, folder = done.stdout.splitlines()
    assert Path(origin).parent == tmp_path / "lrbench"
    assert sorted((tmp_path / "lrbench").rglob("*")) == before
    assert len(kept(Path(folder))) >= 2
