"""A colour for each method that no other has, a line for each of its twins, and greys for the references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrbench.catalogue.methods import split
from lrbench.catalogue.source import TWINS
from lrbench.pages.palette import palette

DASHES: dict[str, Any] = dict(zip(("", *TWINS), ("-", "--", ":", "-.", (0, (4, 1, 1, 1, 1, 1))), strict=False))


def styles(kinds: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return ``color`` and ``linestyle`` of each method.

    Parameters
    ----------
    kinds
        Method → ``"sdl"``, ``"baseline"`` or ``"reference"``.
    """
    references = sorted(name for name, kind in kinds.items() if kind == "reference")
    bases = sorted({_base(name) for name, kind in kinds.items() if kind != "reference"})
    colours = dict(zip(bases, palette(len(bases)), strict=False))
    found = {}
    for name, kind in kinds.items():
        if kind == "reference":
            grey = 0.7 * references.index(name) / len(references)
            found[name] = {"color": f"{grey:.2f}", "linestyle": (0, (1, 1))}
        else:
            found[name] = {"color": colours[_base(name)], "linestyle": DASHES[split(name)[2]]}
    return found


def _base(name: str) -> str:
    base, inside, _ = split(name)
    return base if inside is None else f"{base}[{inside}]"
