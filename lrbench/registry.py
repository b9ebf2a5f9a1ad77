"""Finds tasks and methods: the built-in ones and any file that the user names. Listing imports no torch.

What a method's file says of itself is read in `lrbench.source`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lrbench.errors import LrbenchError, UnknownName
from lrbench.lookup import import_file, match, modules, no_namesakes
from lrbench.source import MethodInfo, describe_method, is_file, split_twin
from lrbench.task import SUITES, Family, Task, get_suite

if TYPE_CHECKING:
    from lrbench.method import Method

# Twins that an ordinary family also asks, of one method: the table shows what they bring at a bearable cost.
SHOWN = ("topk_sae+resample", "topk_sae+autoanchor")


@dataclass(frozen=True)
class TaskInfo:
    """A task of the catalogue, or of a file that the user named.

    Parameters
    ----------
    name
        ``"family/level"``.
    family, summary
        Its family's name and first line.
    suites
        The suites that run it unless told otherwise.
    source
        What `load_task` takes to load it again: a catalogue name or ``FILE.py::family/level``.
    kinds, twins
        The methods that its family asks, see `lrbench.task.Family`.
    """

    name: str
    family: str
    summary: str
    suites: tuple[str, ...]
    source: str
    kinds: tuple[str, ...] | None = None
    twins: tuple[str, ...] = ("anchored",)


@dataclass(frozen=True)
class SuiteInfo:
    """A suite of the catalogue."""

    name: str
    summary: str
    seeds: int


def suites() -> list[SuiteInfo]:
    """Return all suites, smallest first."""
    return [SuiteInfo(suite.name, suite.summary, suite.seeds) for suite in SUITES.values()]


@lru_cache(maxsize=1)
def families() -> dict[str, Family]:
    """Return the built-in task families by name, in the order of their files."""
    found: dict[str, Family] = {}
    for name in modules("tasks"):
        found |= _declared(importlib.import_module(f"lrbench.tasks.{name}"))
    return found


def task_catalogue() -> list[TaskInfo]:
    """Return every built-in task, family by family, levels in the order they are declared."""
    return _describe_tasks(families())


def tasks_in(path: Path) -> list[TaskInfo]:
    """Return the tasks of the families that a file declares, all levels.

    Raises
    ------
    LrbenchError
        For a file that does not import, declares no family, or one whose name a built-in family has.
    """
    path = path.resolve()
    built_in = {file.resolve(): name for name, file in modules("tasks").items()}
    if path in built_in:
        return _describe_tasks(_declared(importlib.import_module(f"lrbench.tasks.{built_in[path]}")))
    return _describe_tasks(_families_of_file(path), f"{path}::")


def select_tasks(suite: str, patterns: Sequence[str] = ()) -> list[TaskInfo]:
    """Return a suite's tasks, or those that match one of the patterns (at the suite's scale).

    Parameters
    ----------
    suite
        The suite whose selection counts where levels are not named.
    patterns
        Names or globs, ``FILE.py`` for the suite's selection of a file's tasks, ``FILE.py::GLOB`` for any of them.

    Raises
    ------
    UnknownName
        For an unknown suite, or a pattern that matches nothing.
    LrbenchError
        For a file that holds no tasks, or a family declared in two files.
    """
    get_suite(suite)
    catalogue = task_catalogue()
    if not patterns:
        return [task for task in catalogue if suite in task.suites]
    files = [pattern for pattern in patterns if _is_task_file(pattern)]
    chosen = match("task", [pattern for pattern in patterns if pattern not in files], [t.name for t in catalogue])
    tasks = {task.source: task for task in catalogue if task.name in chosen}
    for pattern in files:
        file, _, glob = pattern.partition("::")
        found = tasks_in(Path(file))
        chosen = match("task", [glob], [task.name for task in found]) if glob else set()
        tasks |= {task.source: task for task in found if task.name in chosen or (not glob and suite in task.suites)}
    no_namesakes("tasks", [task.name for task in tasks.values()], "rename the function of one family")
    return list(tasks.values())


def load_task(name: str, suite: str = "quick", seed: int = 0) -> Task:
    """Return a task by name.

    Parameters
    ----------
    name
        ``"family/level"``, see ``lrbench list tasks``, or ``"FILE.py::family/level"``.
    suite
        The scale: ``"smoke"``, ``"quick"`` or ``"standard"``.
    seed
        World, data and anchors follow from it.

    Raises
    ------
    UnknownName
        For a name or a suite that does not exist.
    LrbenchError
        For a file that holds no tasks, or a seed below 0.
    """
    get_suite(suite)
    file, _, plain = name.partition("::") if _is_task_file(name) else ("", "", name)
    known = _families_of_file(Path(file)) if file else families()
    family, _, level = plain.partition("/")
    if family not in known or level not in known[family].levels:
        raise UnknownName("task", name, [task.source for task in _describe_tasks(known, f"{file}::" if file else "")])
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise LrbenchError(f"seed={seed!r}: expected a whole number >= 0")
    return known[family].task(level, suite, seed)


@lru_cache(maxsize=1)
def method_catalogue() -> list[MethodInfo]:
    """Return every built-in method, each SDL method followed by its twins."""
    return [twin for path in modules("methods").values() for twin in describe_method(path, path.stem)]


def select_methods(patterns: Sequence[str] = ()) -> list[MethodInfo]:
    """Return the methods that match one of the patterns, all of the catalogue by default.

    Parameters
    ----------
    patterns
        Names, globs, or paths ``FILE.py`` (``FILE.py+anchored`` for a file's anchored twin, and so on).

    Raises
    ------
    UnknownName
        For a pattern that matches nothing.
    LrbenchError
        For a file that cannot be read as a method.
    """
    catalogue = method_catalogue()
    if not patterns:
        return catalogue
    files = [pattern for pattern in patterns if is_file(pattern)]
    chosen = match(
        "method", [pattern for pattern in patterns if pattern not in files], [info.name for info in catalogue]
    )
    methods = [info for info in catalogue if info.name in chosen]
    for pattern in files:
        plain, twin = split_twin(pattern)
        path = Path(plain).resolve()
        found = {info.twin: info for info in describe_method(path, str(path))}
        if twin not in found:
            raise LrbenchError(f"{path.name} has no twin {twin!r}: only a file with METHOD = SDL(...) has twins")
        methods.append(found[twin])
    no_namesakes("methods", [info.name for info in methods], "rename one of the files, the file's name is the method's")
    return methods


def methods_for(kinds: Sequence[str] | None = None, twins: Sequence[str] = ("anchored",)) -> list[MethodInfo]:
    """Return the methods that a task runs unless told otherwise.

    Parameters
    ----------
    kinds
        What its family asks, see `lrbench.task.Family`; None for every kind, and for the twins in `SHOWN` too.
    twins
        The twins that its family asks of every SDL method.
    """
    return [
        info
        for info in method_catalogue()
        if (kinds is None or info.kind in kinds)
        and (not info.twin or info.twin in twins or (kinds is None and info.name in SHOWN))
    ]


def load_method(name: str | Path, **hyperparameters: Any) -> Method:
    """Return a method by name or path, with other hyper-parameters where some are given.

    Parameters
    ----------
    name
        A catalogue name (``"topk_sae"``, ``"topk_sae+anchored"``) or a path ``FILE.py``.
    hyperparameters
        What differs from the declared values, for instance ``lr=1e-3``.

    Raises
    ------
    UnknownName
        For a name that does not exist.
    LrbenchError
        For a file that does not import or declares no method, or a hyper-parameter that it lacks.
    """
    name = str(name)
    plain, twin = split_twin(name)
    built_in = modules("methods")
    if not is_file(name) and plain not in built_in:
        raise UnknownName("method", name, [info.name for info in method_catalogue()])
    module = importlib.import_module(f"lrbench.methods.{plain}") if plain in built_in else import_file(Path(plain))
    from lrbench.method import Method
    from lrbench.sdl import SDL
    from lrbench.twins import MAKERS

    method = getattr(module, "METHOD", None)
    if not isinstance(method, Method):
        raise LrbenchError(f"{plain}: expected METHOD = an lrbench.Method, found {type(method).__name__}")
    if twin:
        if not isinstance(method, SDL):
            raise LrbenchError(f"{plain} has no twin {twin!r}: its METHOD is a {type(method).__name__}, not an SDL")
        method = MAKERS[twin](method)
    return method.with_hyperparameters(**hyperparameters)


def _declared(module: ModuleType) -> dict[str, Family]:
    """Return the families that a module declares itself; those it imports belong to another."""
    found = [value for value in vars(module).values() if isinstance(value, Family)]
    return {family.name: family for family in found if family.build.__module__ == module.__name__}


def _families_of_file(path: Path) -> dict[str, Family]:
    found = _declared(import_file(path))
    if not found:
        raise LrbenchError(f"{path}: declares no task; expected a function with @family(levels=...)")
    for name in found.keys() & families().keys():
        advice = "rename the function (in a clone, `pip install -e .` makes its own files the built-in ones)"
        raise LrbenchError(f"{path}: a built-in task family is called {name!r} already: {advice}")
    return found


def _describe_tasks(found: Mapping[str, Family], prefix: str = "") -> list[TaskInfo]:
    return [
        TaskInfo(
            name=f"{family.name}/{level}",
            family=family.name,
            summary=family.summary,
            suites=tuple(suite for suite in SUITES if family.in_suite(level, suite)),
            source=f"{prefix}{family.name}/{level}",
            kinds=family.kinds,
            twins=family.twins,
        )
        for family in found.values()
        for level in family.levels
    ]


def _is_task_file(pattern: str) -> bool:
    return pattern.partition("::")[0].endswith(".py")
