"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def as_text(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as columns of plain text, two spaces apart.

    Examples
    --------
    >>> print(as_text([["method", "score"], ["pca", "0.1"]]))
    method  score
    pca     0.1
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
