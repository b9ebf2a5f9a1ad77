"""A method's grid: the values to choose its hyper-parameters from, ``GRID = {"lr": (0.003, 0.01)}`` at the top level of its file.

It is a literal, read without importing the file, as ``pair`` and ``kind`` are. It stands outside of METHOD, so that a declaration and
a class have it in the same form. Nothing that is trained depends on it: it is no part of the file's hash, and a longer grid costs its
new settings alone.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from lrbench.catalogue import address
from lrbench.errors import LrbenchError, one_line

NAME = "GRID"
EXAMPLE = f'{NAME} = {{"lr": (0.003, 0.01, 0.03)}}'
MOST = 100  # settings, of 12 cells each
Grid = Mapping[str, tuple[Any, ...]]


def grid_of(path: Path) -> dict[str, tuple[Any, ...]]:
    """Return the values of each hyper-parameter that a method's file lists in its grid.

    Parameters
    ----------
    path
        A file that `lrbench.catalogue.source.describe_method` has read.

    Raises
    ------
    LrbenchError
        For a file without a grid, and for a grid that is no literal of the form ``{"name": (value, value)}``.
    """
    found = [line.value for line in ast.parse(path.read_bytes()).body if _assigns(line)]  # type: ignore[attr-defined]
    if not found:
        raise LrbenchError(f"{path}: declares no grid to tune over; add a line such as {EXAMPLE} above METHOD")
    try:
        grid = ast.literal_eval(found[-1])
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        shown = one_line(ast.unparse(found[-1]), 60)
        raise LrbenchError(f"{path}: {NAME} = {shown}: expected literal values, such as {EXAMPLE}") from None
    if not isinstance(grid, dict) or not grid:
        raise LrbenchError(f"{path}: {NAME} = {one_line(repr(grid), 60)}: expected values by name, such as {EXAMPLE}")
    for name, values in grid.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise LrbenchError(f"{path}: {NAME} has {name!r}: expected a hyper-parameter's name, as in {EXAMPLE}")
        if not isinstance(values, (tuple, list)) or not values or not all(map(address.plain, values)):
            shown = one_line(repr(values), 60)
            raise LrbenchError(
                f"{path}: {NAME} has {name}={shown}: expected a tuple of finite numbers or words, as in {EXAMPLE}"
            )
        if len(set(map(address.text_of, values))) < len(values):
            raise LrbenchError(f"{path}: {NAME} has {name}={values!r}: expected every value once")
    if not 2 <= prod(map(len, grid.values())) <= MOST:
        count = prod(map(len, grid.values()))
        raise LrbenchError(f"{path}: {NAME} has {count} settings: expected 2 to {MOST}, such as {EXAMPLE}")
    return {name: tuple(values) for name, values in grid.items()}


def settings_of(grid: Grid) -> list[dict[str, Any]]:
    """Return every setting of a grid, the last hyper-parameter's values next to each other.

    Examples
    --------
    >>> settings_of({"lr": (0.1, 0.2), "k": (1,)})
    [{'lr': 0.1, 'k': 1}, {'lr': 0.2, 'k': 1}]
    """
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def grid_text(grid: Grid) -> str:
    """Return the brackets that stand for every setting of a grid, see `lrbench.catalogue.address`.

    Examples
    --------
    >>> grid_text({"lr": (0.1, 0.2), "k": (1,)})
    '[lr=0.1|0.2,k=1]'
    """
    listed = [f"{name}={'|'.join(map(address.text_of, values))}" for name, values in grid.items()]
    return f"[{','.join(listed)}]"


def without_grid(path: Path) -> bytes:
    """Return a file's text without the lines of its grid; with them where something else may depend on them."""
    text = path.read_bytes()
    if NAME.encode() not in text:
        return text
    tree, lines = ast.parse(text), text.split(b"\n")
    grids = [line for line in tree.body if _assigns(line)]
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == NAME]
    if len(grids) != 1 or len(uses) != 1 or b"\r" in text.replace(b"\r\n", b""):
        return text
    first, last = grids[0].lineno, grids[0].end_lineno or grids[0].lineno
    if sum(line.lineno <= last and (line.end_lineno or line.lineno) >= first for line in tree.body) > 1:
        return text  # a line of it holds another statement
    return b"\n".join(lines[: first - 1] + lines[last:])


def _assigns(line: ast.stmt) -> bool:
    """Whether a statement is ``GRID = ...``, with or without a type."""
    targets = line.targets if isinstance(line, ast.Assign) else [line.target] if isinstance(line, ast.AnnAssign) else []
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    return names == [NAME] and line.value is not None  # type: ignore[attr-defined]
