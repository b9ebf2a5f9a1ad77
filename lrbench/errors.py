"""What can go wrong through no fault of the code: one clear line for the person who typed it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LrbenchError(Exception):
    """A bad input. The message names the value, what was expected and what to do."""


class NotApplicable(LrbenchError):
    """A method cannot run on this task for a stated reason; the cell counts as skipped, not as failed."""


class UnknownName(LrbenchError):
    """A name that no catalogue holds.

    Parameters
    ----------
    kind
        What was looked for: ``"task"``, ``"method"`` or ``"suite"``.
    name
        The name as it was typed.
    known
        The names that exist; the nearest ones are shown.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = get_close_matches(name, known, n=3, cutoff=0.4)
        hint = (
            f"did you mean {', '.join(near)}?"
            if near
            else f"known: {', '.join(known[:8])}{' …' if len(known) > 8 else ''}"
        )
        super().__init__(f"unknown {kind} {name!r}: {hint} (`lrbench list {kind}s` shows all)")
