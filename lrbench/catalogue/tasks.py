"""Tasks by name: the built-in ones, those of a file that the user names, and levels by their value. Listing imports no torch."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from lrbench.catalogue import address
from lrbench.catalogue.files import import_file, matching, modules, no_namesakes, python_file, same_file
from lrbench.catalogue.imports import hash_of_code
from lrbench.catalogue.source import KINDS, TWINS
from lrbench.errors import LrbenchError, UnknownName
from lrbench.task import SUITES, Family, Task, get_suite

LEVEL_NAME = re.compile(r"[\w+=-][\w.+=-]*")  # a task's name becomes folders


@dataclass(frozen=True)
class TaskInfo:
    """A task of the catalogue, or of a file that the user named.

    Parameters
    ----------
    name
        ``"family/level"``, or ``"family[value]"`` for a level that is not in the catalogue.
    family, summary
        Its family's name and first line.
    suites
        The suites that run it unless told otherwise.
    source
        What `load_task` takes to load it again: a catalogue name or ``FILE.py::family/level``.
    source_hash
        Hash of its family's file and of all the code of lrbench that it imports, what training starts from included.
    kinds, twins
        The methods that its family asks, see `lrbench.task.Family`.
    """

    name: str
    family: str
    summary: str
    suites: tuple[str, ...]
    source: str
    source_hash: str
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
    return {name: family for file in _built_in() for name, family in file.families.items()}


def task_catalogue() -> list[TaskInfo]:
    """Return every built-in task, family by family, levels in the order they are declared."""
    return [task for file in _built_in() for task in file.tasks()]


def unavailable(name: str) -> str:
    """Return why a built-in task cannot run here, with what makes it available; empty where it can."""
    family, _, level = name.partition("/")
    own = families()[family]
    return own.missing(own.levels[level])


def tasks_in(path: Path) -> list[TaskInfo]:
    """Return the tasks of the families that a file declares, all levels.

    A file that is a built-in one, or the same text under the same name, stands for the built-in one.

    Raises
    ------
    LrbenchError
        For a file that does not import, declares no family, or one whose name a built-in family has.
    """
    return _file(path).tasks()


def select_tasks(suite: str, patterns: Sequence[str] = ()) -> list[TaskInfo]:
    """Return a suite's tasks, or those that match one of the patterns (at the suite's scale).

    Parameters
    ----------
    suite
        The suite whose selection counts where levels are not named.
    patterns
        Names or globs, ``FILE.py`` for the suite's selection of a file's tasks, ``FILE.py::GLOB`` for any of them. Brackets behind
        a family's name hold the value that its function takes, whether it is a level of the catalogue or not:
        ``superposition[1.45]``, ``FILE.py::family[0.3|0.5]``.

    Raises
    ------
    UnknownName
        For an unknown suite, or a pattern that matches nothing.
    LrbenchError
        For a file that holds no tasks, a family declared in two files, or a value that a family cannot be built from.

    Examples
    --------
    >>> [info.name for info in select_tasks("quick", ["superposition[1.45|1.30]"])]
    ['superposition/1.30x', 'superposition[1.45]']
    """
    get_suite(suite)
    if not patterns:
        return [task for task in task_catalogue() if suite in task.suites]
    places = {task.source: place for place, task in enumerate(task_catalogue())}
    tasks: dict[str, TaskInfo] = {}
    for pattern in patterns:
        for task in _matching(pattern, suite):
            tasks[task.source] = task
    no_namesakes("tasks", [task.name for task in tasks.values()], "rename the function of one family")
    return sorted(tasks.values(), key=lambda task: places.get(task.source, len(places)))


def load_task(name: str, suite: str = "quick", seed: int = 0, salt: str = "") -> Task:
    """Return a task by name.

    Parameters
    ----------
    name
        ``"family/level"``, see ``lrbench list tasks``, ``"family[value]"`` for a level of your own, or either behind ``"FILE.py::"``.
    suite
        The scale: ``"smoke"``, ``"quick"``, ``"board"`` (that of quick), ``"standard"``, ``"real"`` or ``"synth"``.
    seed
        World, data and anchors follow from it.
    salt
        With one, they follow from both, so that nobody without the salt can rebuild them.

    Raises
    ------
    UnknownName
        For a name or a suite that does not exist.
    LrbenchError
        For a file that holds no tasks, a value that the family cannot be built from, or a seed below 0.

    Examples
    --------
    >>> load_task("superposition[1.45]").spec.world.n_features
    139
    """
    get_suite(suite)
    path, _, plain = name.partition("::") if _is_task_file(name) else ("", "", name)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise LrbenchError(f"seed={seed!r}: expected a whole number >= 0")
    file = _file(Path(path)) if path else None
    known = families() if file is None else file.families
    found = address.brackets(plain)
    if found is not None and found[0] in known:
        values = _values(known[found[0]], found[1], name)
        if len(values) > 1:
            raise LrbenchError(f"{name}: stands for {len(values)} tasks, expected one; leave one value in the brackets")
        return replace(_build(known[found[0]], *values[0], suite, seed), salt=salt)
    family, _, level = plain.partition("/")
    if family not in known or level not in known[family].levels:
        tasks = task_catalogue() if file is None else file.tasks()
        raise UnknownName("task", name, [task.source for task in tasks])
    return replace(known[family].task(level, suite, seed), salt=salt)


@dataclass(frozen=True)
class _TaskFile:
    """The families of one file; ``prefix`` is ``FILE.py::`` for a user's."""

    path: Path
    families: dict[str, Family]
    prefix: str = ""

    @cached_property
    def source_hash(self) -> str:
        return hash_of_code(self.path)

    def tasks(self) -> list[TaskInfo]:
        return [self.task(family, level) for family in self.families.values() for level in family.levels]

    def task(self, family: Family, level: str) -> TaskInfo:
        """The info of a level, or of a value in brackets."""
        known = level in family.levels
        name = f"{family.name}/{level}" if known else f"{family.name}{level}"
        return TaskInfo(
            name=name,
            family=family.name,
            summary=family.summary,
            suites=tuple(suite for suite in SUITES if known and family.in_suite(level, suite)),
            source=f"{self.prefix}{name}",
            source_hash=self.source_hash,
            kinds=family.kinds,
            twins=family.twins,
        )


@lru_cache(maxsize=1)
def _built_in() -> list[_TaskFile]:
    return [
        _TaskFile(path, _declared(importlib.import_module(f"lrbench.tasks.{name}")))
        for name, path in modules("tasks").items()
    ]


def _file(path: Path) -> _TaskFile:
    path = python_file(path)
    ours = modules("tasks").get(path.stem)
    if ours is not None and (same_file(path, ours)):
        return next(file for file in _built_in() if file.path == ours)
    found = _declared(import_file(path))
    if not found:
        raise LrbenchError(f"{path}: declares no task; expected a function with @family(levels=...)")
    for name in found.keys() & families().keys():
        advice = "rename the function (in a clone, `pip install -e .` makes its own files the built-in ones)"
        raise LrbenchError(f"{path}: a built-in task family is called {name!r} already: {advice}")
    for family in found.values():
        _check(family, path)
    return _TaskFile(path, found, f"{path}::")


def _check(family: Family, path: Path) -> None:
    """Raise `LrbenchError` for a declaration that no run could make sense of."""
    if not isinstance(family.levels, Mapping) or not family.levels:
        raise LrbenchError(f"{path}: {family.name} has no level; expected @family(levels={{NAME: VALUE}})")
    for level in family.levels:
        if not isinstance(level, str) or not LEVEL_NAME.fullmatch(level):
            raise LrbenchError(
                f"{path}: the level {level!r:.80}: expected letters, digits and . _ + = -, such as 'even'"
            )
    for what, names, known in (("kinds", family.kinds or (), KINDS), ("twins", family.twins, [*TWINS])):
        for name in names:
            if name not in known:
                raise LrbenchError(f"{path}: {what}={names!r}: {name!r} is none of {', '.join(known)}")


def _declared(module: ModuleType) -> dict[str, Family]:
    """Return the families that a module declares itself; those it imports belong to another."""
    found = [value for value in vars(module).values() if isinstance(value, Family)]
    return {family.name: family for family in found if family.build.__module__ == module.__name__}


def _matching(pattern: str, suite: str) -> list[TaskInfo]:
    path, _, glob = pattern.partition("::") if _is_task_file(pattern) else ("", "", pattern)
    files = [_file(Path(path))] if path else _built_in()
    if path and not glob:
        tasks = files[0].tasks()
        example = f"{path}::{tasks[0].name}"
        if "::" in pattern:
            raise LrbenchError(
                f"{pattern}: names no task behind ::; expected one, such as {example}, or {path} for all"
            )
        of_suite = [task for task in tasks if suite in task.suites]
        if not of_suite:
            raise LrbenchError(f"{path}: the suite {suite} runs none of its tasks; name them, such as {example}")
        return of_suite
    found = address.brackets(glob)
    for file in files:
        if found is not None and found[0] in file.families:
            family = file.families[found[0]]
            levels = _values(family, found[1], pattern)
            for level, value in levels:
                _build(family, level, value, suite, 0)  # what cannot be built is an error now, not in every cell
            return [file.task(family, level) for level, _ in levels]
    tasks = [task for file in files for task in file.tasks()]
    chosen = matching("task", [glob], [task.name for task in tasks])
    return [task for task in tasks if task.name in chosen]


def _values(family: Family, inside: str, name: str) -> list[tuple[str, Any]]:
    """Return (level, value) for each listed value: the level's name where the catalogue has it, else ``[value]``."""
    found = []
    examples = [*family.levels.values()]
    for value in address.levels(inside, name):
        try:
            value = address.like(value, examples[0])
        except TypeError as expected:
            raise LrbenchError(f"{name}: {family.name} takes {expected}, not {address.text_of(value)}") from None
        known = next((level for level, own in family.levels.items() if own == value), None)
        found.append((known or address.level_text(value), value))
    return found


def _build(family: Family, level: str, value: Any, suite: str, seed: int) -> Task:
    if level in family.levels:
        return family.task(level, suite, seed)
    name = f"{family.name}{level}"
    try:
        spec = family.build(value, get_suite(suite).scale)
    except LrbenchError as error:
        raise LrbenchError(f"{name}: {error}") from error
    except Exception as error:
        takes = ", ".join(address.text_of(own) for own in [*family.levels.values()][:3])
        raise LrbenchError(
            f"{name}: {family.name} cannot be built from this value ({type(error).__name__}: {error}); it takes one such as {takes}"
        ) from error
    return Task(name, suite, seed, spec, family.start, source=family.source)


def _is_task_file(pattern: str) -> bool:
    return pattern.partition("::")[0].endswith(".py")
