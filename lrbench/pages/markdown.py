"""Tables and numbers in markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from itertools import dropwhile, takewhile

NONE = "–"
NO_BREAK = "\N{NO-BREAK SPACE}"
LARGE = 1e9


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 2) -> str:
    """Return a markdown table with a line break at its end; the first ``left`` columns are text, the others numbers, set to the right.

    Examples
    --------
    >>> print(table(["method", "score"], [["ab", "0.5"]], left=1), end="")
    | method   |   score |
    |:---------|--------:|
    | ab       |     0.5 |
    """
    import tabulate

    alignment = ["left" if column < left else "right" for column in range(len(header))]
    cells, heads = [[_escape(cell) for cell in row] for row in rows], [_escape(cell) for cell in header]
    wide, tabulate.WIDE_CHARS_MODE = tabulate.WIDE_CHARS_MODE, False  # the same bytes, wcwidth installed or not
    try:
        text = tabulate.tabulate(cells, heads, tablefmt="pipe", colalign=alignment, disable_numparse=True)
    finally:
        tabulate.WIDE_CHARS_MODE = wide
    return f"{text}\n"


def rows_of(page: str) -> list[list[str]]:
    """Return the cells of a page's first table, its header first, as they were given to `table`; nothing without a table.

    Examples
    --------
    >>> rows_of("Prose.\\n" + table(["method", "score"], [["a|b", "0.5"]]))
    [['method', 'score'], ['a|b', '0.5']]
    """

    def inside(line: str) -> bool:
        return line.startswith("|")

    lines = list(takewhile(inside, dropwhile(lambda line: not inside(line), page.splitlines())))
    found = [[_plain(cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return found[:1] + found[2:]


def varied(
    header: Sequence[str], rows: Sequence[Sequence[str]], keep: int = 1
) -> tuple[list[str], list[list[str]], dict[str, str]]:
    """Return a table without the columns that hold one value, and what each of those held; the first ``keep`` columns stay.

    In a table of one row a column goes only where nothing is known. A column of nothing but `NONE` is not among what was held.

    Examples
    --------
    >>> varied(["method", "d", "score"], [["a", "96", "0.1"], ["b", "96", "0.2"]])
    (['method', 'score'], [['a', '0.1'], ['b', '0.2']], {'d': '96'})
    """
    columns = [{row[place] for row in rows} for place in range(len(header))]
    one = [values == {NONE} or (len(values) == 1 and len(rows) > 1) for values in columns]
    kept = [place for place in range(len(header)) if place < keep or not one[place]]
    held = {header[place]: columns[place].pop() for place in range(keep, len(header)) if one[place]}
    return (
        [header[place] for place in kept],
        [[row[place] for place in kept] for row in rows],
        {head: value for head, value in held.items() if value != NONE},
    )


def unbroken(cell: str) -> str:
    """Return a cell that no reader breaks into lines.

    Examples
    --------
    >>> unbroken("0.986 ± 0.002").count(" ")
    0
    """
    return cell.replace(" ", NO_BREAK)


def text(words: str) -> str:
    """Return words of which none is read as markdown or HTML, for a cell or a line.

    Examples
    --------
    >>> print(text("ValueError: [x](y) <b> `z`"))
    ValueError: \\[x\\](y) &lt;b> \\`z\\`
    """
    return re.sub(r"[\\`*\[\]~]|(?<!\w)_|_(?!\w)", r"\\\g<0>", words).replace("<", "&lt;")


def code(name: str) -> str:
    """Return a name in backticks; one that a pair of backticks could not hold stands as `text` without them.

    Examples
    --------
    >>> code("topk_sae"), code("a`b")
    ('`topk_sae`', 'a\\\\`b')
    """
    return text(name) if set(name) & set("`*\\|<&") else f"`{name}`"


def listed(names: Sequence[str]) -> str:
    """Return names with commas and an "and", "none" for no name.

    Examples
    --------
    >>> listed(["a", "b", "c"]), listed(["a"]), listed([])
    ('a, b and c', 'a', 'none')
    """
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else "none"


def unmarked(cell: str) -> str:
    """Return a cell of `rows_of` for a terminal: without its markdown, and with the characters that `text` had escaped."""
    return re.sub(r"\\(.)|[*`]", r"\1", cell).replace(NO_BREAK, " ")


def number(value: float, digits: int = 3) -> str:
    """Return a number, or a dash for NaN; never a negative zero, nor more digits than a column takes."""
    if abs(value) >= LARGE:
        return f"{value:.3g}"
    return NONE if math.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"


def with_interval(mean: float, half: float) -> str:
    """Return ``mean ± half``; without a half width there was one seed, and this says so."""
    if math.isnan(mean):
        return NONE
    return f"{number(mean)} (one seed)" if math.isnan(half) else f"{number(mean)} ± {number(half)}"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _plain(cell: str) -> str:
    return cell.replace("\\|", "|").replace("&lt;", "<")
