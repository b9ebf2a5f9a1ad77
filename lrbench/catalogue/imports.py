"""What a file imports, read without running it, and the hash of all the code of lrbench that it rests on."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import lrbench
from lrbench.catalogue.files import folder

ROOT = Path(lrbench.__file__).parent
PLACED_APART = ("methods", "tasks", "leaderboard")  # packages that may lie beside lrbench's own folder


def rests_on(*files: Path) -> list[Path]:
    """Return the files and every module of lrbench that they import, directly or through others, sorted by module.

    Imports inside functions count, those under ``if TYPE_CHECKING`` do not: they never run. ``import lrbench`` counts for the
    names that are taken from it.
    """
    todo, found = [file.resolve() for file in files], dict[Path, str]()
    while todo:
        file = todo.pop()
        if file not in found:
            found[file] = ""
            todo += [path for name in imports(file) if (path := module_file(name)) is not None]
    given = {file.resolve() for file in files}
    return [file.resolve() for file in files] + sorted(
        found.keys() - given, key=lambda path: (path.parent.name, path.name)
    )


def hash_of_code(*files: Path, read: Callable[[Path], bytes] = Path.read_bytes) -> str:
    """Return the hash of the files and of all that they rest on, as it is on the disk now.

    Parameters
    ----------
    files
        Python files.
    read
        What of each of the given files counts, all of it by default.
    """
    found = rests_on(*files)
    texts = [*map(read, found[: len(files)]), *map(Path.read_bytes, found[len(files) :])]
    return hashlib.sha256(b"".join(texts)).hexdigest()[:16]


def imports(path: Path, at_load: bool = False) -> frozenset[str]:
    """Return the full name of everything that a file imports when it runs, or only when it is loaded.

    Parameters
    ----------
    path
        A Python file.
    at_load
        Leave out what functions import.
    """
    return _imports(path, path.stat().st_mtime_ns, at_load)


@lru_cache(maxsize=1024)
def _imports(path: Path, changed: int, at_load: bool) -> frozenset[str]:
    tree = ast.parse(path.read_bytes())
    names: set[str] = set()
    for node in _running(tree, at_load):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = f"{_package(path, node.level)}.{node.module or ''}".strip(".") if node.level else str(node.module)
            names |= {f"{origin}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "lrbench":
            names.add(f"lrbench.{node.attr}")
    return frozenset(names)


def _running(node: ast.AST, at_load: bool) -> Iterator[ast.AST]:
    """Every node below that runs; functions do not run at load."""
    for child in ast.iter_child_nodes(node):
        checking = isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"
        if not checking and not (at_load and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))):
            yield child
            yield from _running(child, at_load)


def _package(path: Path, level: int) -> str:
    """The package that a relative import in one of our files starts from."""
    parents = path.resolve().parents
    inside = [name for name in PLACED_APART if folder(name).resolve() == parents[level - 1]]
    if inside:
        return f"lrbench.{inside[0]}"
    return ".".join(("lrbench", *parents[level - 1].relative_to(ROOT.resolve()).parts))


def module_file(name: str) -> Path | None:
    """Return the file of ``lrbench.a.b`` or of the module that defines it, None for what is not lrbench's.

    A package stands for its ``__init__.py``, and so for what that imports.
    """
    first, _, rest = name.partition(".")
    if first != "lrbench" or not rest:
        return None
    parts = rest.split(".")
    if parts[0] in lrbench.HOME:
        parts = [*lrbench.HOME[parts[0]].split("."), *parts[1:]]
    base = ROOT
    if parts[0] in PLACED_APART:
        base, parts = folder(parts[0]), parts[1:]
    for length in range(len(parts), 0, -1):
        place = base.joinpath(*parts[:length])
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return path.resolve()
    return None
