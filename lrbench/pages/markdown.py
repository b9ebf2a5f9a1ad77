"""Tables and numbers in markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

NONE = "–"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 2) -> str:
    """Return a markdown table with a line break at its end; the first ``left`` columns are text, the others numbers, set to the right.

    Examples
    --------
    >>> print(table(["method", "score"], [["a|b", "0.5"]], left=1), end="")
    | method   |   score |
    |:---------|--------:|
    | a\\\\|b     |     0.5 |
    """
    from tabulate import tabulate

    alignment = ["left" if column < left else "right" for column in range(len(header))]
    cells = [[_escape(cell) for cell in row] for row in rows]
    return f"{tabulate(cells, headers=[*map(_escape, header)], tablefmt='pipe', colalign=alignment, disable_numparse=True)}\n"


def rows_of(page: str) -> list[list[str]]:
    """Return the cells of a page's first table, its header first."""
    lines = page[page.index("|") :].splitlines()
    end = next((place for place, line in enumerate(lines) if not line.startswith("|")), len(lines))
    found = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[:end]]
    return [found[0], *found[2:]]


def number(value: float, digits: int = 3) -> str:
    """Return a number, or a dash for NaN; never a negative zero."""
    return NONE if math.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"


def with_interval(mean: float, half: float) -> str:
    """Return ``mean ± half``; without a half width there was one seed, and this says so."""
    if math.isnan(mean):
        return NONE
    return f"{number(mean)} (one seed)" if math.isnan(half) else f"{number(mean)} ± {number(half)}"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
