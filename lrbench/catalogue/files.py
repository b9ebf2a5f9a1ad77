"""What the catalogues share: a package's files, importing a user's file, matching names."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from lrbench.errors import LrbenchError, UnknownName, one_line


@lru_cache(maxsize=4)
def modules(package: str) -> dict[str, Path]:
    """Return the modules of ``lrbench.tasks`` or ``lrbench.methods`` by name; private ones are left out."""
    return {path.stem: path for path in sorted(folder(package).glob("*.py")) if not path.stem.startswith("_")}


def folder(package: str) -> Path:
    """Return where ``lrbench.tasks`` or ``lrbench.methods`` lies."""
    spec = importlib.util.find_spec(f"lrbench.{package}")
    if spec is None or not spec.submodule_search_locations:
        raise LrbenchError(f"the package lrbench.{package} is not installed: install linear-representation-bench again")
    return Path(next(iter(spec.submodule_search_locations)))


def same_file(path: Path, ours: Path) -> bool:
    """Whether a path is a built-in file, or one of the same text."""
    return path == ours.resolve() or (path.is_file() and path.read_bytes() == ours.read_bytes())


def no_namesakes(kind: str, names: list[str], advice: str) -> None:
    """Raise `LrbenchError` when a name stands twice: records of the two could not be told apart."""
    for name in names:
        if names.count(name) > 1:
            raise LrbenchError(f"two {kind} are called {name!r}: {advice}")


def matching(kind: str, patterns: Iterable[str], names: list[str]) -> set[str]:
    """Return the names that match one of the globs, or raise `UnknownName` for a glob that none matches."""
    chosen: set[str] = set()
    for pattern in patterns:
        hits = [name for name in names if fnmatchcase(name, pattern)]
        if not hits:
            raise UnknownName(kind, pattern, names)
        chosen |= set(hits)
    return chosen


def python_file(path: Path) -> Path:
    """Return the full path of a user's file, or raise `LrbenchError` when there is none."""
    try:
        if path.is_file():
            return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, a link to itself, a NUL
        raise LrbenchError(f"{path}: no such Python file ({one_line(str(error))})") from error
    raise LrbenchError(f"{path}: no such Python file")


def import_file(path: Path) -> ModuleType:
    """Import a user's file under a name of its own, never through ``sys.path``."""
    path = python_file(path)
    name = f"lrbench_file_{path.stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise LrbenchError(f"{path}: no Python file; its name has to end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), vars(module))  # the text as it is: no cache, none written
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise LrbenchError(f"{path}: does not import ({type(error).__name__}: {error})") from error
    return module
