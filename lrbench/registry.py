"""Finds tasks and methods: the built-in ones and any file that the user names. Listing imports no torch.

Methods are described by reading their source, not by importing it: a file's name is its identity, its docstring's first line its
summary, and ``METHOD = SDL(...)`` marks a method that has an anchored twin.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lrbench.errors import LrbenchError, UnknownName
from lrbench.task import SUITES, Family, Task, get_suite

if TYPE_CHECKING:
    from lrbench.method import Method

ANCHORED = "+anchored"
# What every method's result depends on besides its own file: a change here makes its records stale.
CORE = ("activation", "dictionary", "method", "rules", "sdl", "seeds", "terms", "view")


@dataclass(frozen=True)
class TaskInfo:
    """A task of the catalogue and the suites that run it unless told otherwise."""

    name: str
    family: str
    summary: str
    suites: tuple[str, ...]


@dataclass(frozen=True)
class MethodInfo:
    """A method of the catalogue, or of a file that the user named.

    Parameters
    ----------
    name
        The file's name without its ending, with ``+anchored`` for a twin.
    summary
        The first line of the file's docstring.
    kind
        ``"sdl"``, ``"baseline"`` or ``"reference"``.
    pair
        The pairing it is evaluated on.
    path
        Its file.
    source
        What `load_method` takes to load it again: a catalogue name or a path.
    source_hash
        Hash of the file and of the code that every method rests on.
    """

    name: str
    summary: str
    kind: str
    pair: str
    path: Path
    source: str
    source_hash: str


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
    """Return the task families by name, in the order of their files."""
    found: dict[str, Family] = {}
    for name in _modules("tasks"):
        module = importlib.import_module(f"lrbench.tasks.{name}")
        found |= {value.name: value for value in vars(module).values() if isinstance(value, Family)}
    return found


def task_catalogue() -> list[TaskInfo]:
    """Return every task, family by family, levels in the order they are declared."""
    return [
        TaskInfo(f"{f.name}/{level}", f.name, f.summary, tuple(suite for suite in SUITES if f.in_suite(level, suite)))
        for f in families().values()
        for level in f.levels
    ]


def select_tasks(suite: str, globs: Sequence[str] = ()) -> list[TaskInfo]:
    """Return a suite's tasks, or all tasks that match one of the globs (at the suite's scale).

    Raises
    ------
    UnknownName
        For an unknown suite, or a glob that matches nothing.
    """
    get_suite(suite)
    tasks = task_catalogue()
    if not globs:
        return [task for task in tasks if suite in task.suites]
    chosen = _match("task", globs, [task.name for task in tasks])
    return [task for task in tasks if task.name in chosen]


def load_task(name: str, suite: str = "quick", seed: int = 0) -> Task:
    """Return a task by name.

    Parameters
    ----------
    name
        ``"family/level"``, see ``lrbench list tasks``.
    suite
        The scale: ``"smoke"``, ``"quick"`` or ``"standard"``.
    seed
        World, data and anchors follow from it.

    Raises
    ------
    UnknownName
        For a name or a suite that does not exist.
    """
    get_suite(suite)
    family, _, level = name.partition("/")
    if family not in families() or level not in families()[family].levels:
        raise UnknownName("task", name, [task.name for task in task_catalogue()])
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise LrbenchError(f"seed={seed!r}: expected a whole number >= 0")
    return families()[family].task(level, suite, seed)


@lru_cache(maxsize=1)
def method_catalogue() -> list[MethodInfo]:
    """Return every built-in method, each SDL method followed by its anchored twin."""
    return [twin for path in _modules("methods").values() for twin in describe_method(path, path.stem)]


def select_methods(patterns: Sequence[str] = ()) -> list[MethodInfo]:
    """Return the methods that match one of the patterns, all of the catalogue by default.

    Parameters
    ----------
    patterns
        Names, globs, or paths ``FILE.py`` (``FILE.py+anchored`` for a file's anchored twin).

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
    files = [pattern for pattern in patterns if _is_path(pattern)]
    chosen = _match(
        "method", [pattern for pattern in patterns if pattern not in files], [info.name for info in catalogue]
    )
    methods = [info for info in catalogue if info.name in chosen]
    for pattern in files:
        path, twin = Path(pattern.removesuffix(ANCHORED)).resolve(), pattern.endswith(ANCHORED)
        found = describe_method(path, str(path))
        if twin and len(found) == 1:
            raise LrbenchError(f"{path.name} has no anchored twin: only a file with METHOD = SDL(...) has one")
        methods.append(found[twin])
    names = [info.name for info in methods]
    for name in names:
        if names.count(name) > 1:
            raise LrbenchError(
                f"two methods are called {name!r}: rename one of the files, the file's name is the method's"
            )
    return methods


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
    twin, plain = name.endswith(ANCHORED), name.removesuffix(ANCHORED)
    built_in = _modules("methods")
    if not _is_path(name) and plain not in built_in:
        raise UnknownName("method", name, [info.name for info in method_catalogue()])
    module = importlib.import_module(f"lrbench.methods.{plain}") if plain in built_in else _import_file(Path(plain))
    from lrbench.method import Method
    from lrbench.sdl import SDL, anchored

    method = getattr(module, "METHOD", None)
    if not isinstance(method, Method):
        raise LrbenchError(f"{plain}: expected METHOD = an lrbench.Method, found {type(method).__name__}")
    if twin:
        if not isinstance(method, SDL):
            raise LrbenchError(f"{plain} has no anchored twin: its METHOD is a {type(method).__name__}, not an SDL")
        method = anchored(method)
    return method.with_hyperparameters(**hyperparameters)


def describe_method(path: Path, source: str) -> list[MethodInfo]:
    """Return what a method's file declares, without importing it: the method and, for an SDL, its anchored twin."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except OSError as error:
        raise LrbenchError(
            f"{path}: cannot be read ({error.strerror}); expected a Python file with a METHOD"
        ) from error
    except (SyntaxError, ValueError) as error:
        raise LrbenchError(f"{path}: is not valid Python ({error})") from error
    declaration = _declaration(tree)
    if declaration is None:
        raise LrbenchError(f"{path}: declares no method; expected a line METHOD = ... at the top level")
    class_name, keywords = declaration
    kind = "sdl" if class_name == "SDL" else _class_constant(tree, class_name, "kind", "baseline")
    summary = (ast.get_docstring(tree) or "").split("\n")[0]
    plain = MethodInfo(path.stem, summary, kind, keywords.get("pair", "autoencoder"), path, source, _source_hash(text))
    if kind != "sdl":
        return [plain]
    twin = replace(
        plain,
        name=path.stem + ANCHORED,
        summary=f"{path.stem} with the paper's feature anchoring",
        source=source + ANCHORED,
    )
    return [plain, twin]


def _declaration(tree: ast.Module) -> tuple[str, dict[str, str]] | None:
    """Return the called name and the literal keywords of ``METHOD = Name(...)``."""
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == "METHOD" for target in targets):
            value = node.value  # type: ignore[attr-defined]
            if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Name):
                return "", {}
            literals = {
                k.arg: str(k.value.value) for k in value.keywords if k.arg and isinstance(k.value, ast.Constant)
            }
            return value.func.id, literals
    return None


def _class_constant(tree: ast.Module, class_name: str, name: str, default: str) -> str:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            for line in node.body:
                target = line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", None)
                if isinstance(target, ast.Name) and target.id == name and isinstance(line.value, ast.Constant):  # type: ignore[attr-defined]
                    return str(line.value.value)  # type: ignore[attr-defined]
    return default


@lru_cache(maxsize=1)
def _core_source() -> str:
    shared = sorted(_folder("methods").glob("_*.py"))
    files = [Path(__file__).parent / f"{name}.py" for name in CORE] + shared
    return "".join(file.read_text(encoding="utf-8") for file in files)


def _source_hash(text: str) -> str:
    return hashlib.sha256((text + _core_source()).encode()).hexdigest()[:16]


@lru_cache(maxsize=2)
def _modules(package: str) -> dict[str, Path]:
    """Return the modules of ``lrbench.tasks`` or ``lrbench.methods`` by name; private ones are left out."""
    return {path.stem: path for path in sorted(_folder(package).glob("*.py")) if not path.stem.startswith("_")}


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(f"lrbench.{package}")
    if spec is None or not spec.submodule_search_locations:
        raise LrbenchError(f"the package lrbench.{package} is not installed: install linear-representation-bench again")
    return Path(next(iter(spec.submodule_search_locations)))


def _is_path(pattern: str) -> bool:
    return pattern.removesuffix(ANCHORED).endswith(".py")


def _match(kind: str, patterns: Iterable[str], names: list[str]) -> set[str]:
    chosen: set[str] = set()
    for pattern in patterns:
        hits = [name for name in names if fnmatchcase(name, pattern)]
        if not hits:
            raise UnknownName(kind, pattern, names)
        chosen |= set(hits)
    return chosen


def _import_file(path: Path) -> ModuleType:
    """Import a user's file under a name of its own, never through ``sys.path``."""
    path = path.resolve()
    name = f"lrbench_file_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise LrbenchError(f"{path}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise LrbenchError(f"{path}: does not import ({type(error).__name__}: {error})") from error
    return module
