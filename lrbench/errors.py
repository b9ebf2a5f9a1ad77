"""What can go wrong through no fault of the code: one clear line for the person who typed it."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from difflib import get_close_matches

REASON_LENGTH = 300
TRACEBACK_LENGTH = 20_000


class LrbenchError(Exception):
    """A bad input. The message names the value, what was expected and what to do."""


class NotApplicable(LrbenchError):
    """A method cannot run on this task for a stated reason; the cell counts as skipped, not as failed.

    Examples
    --------
    >>> raise NotApplicable("it needs two sites")
    Traceback (most recent call last):
    ...
    lrbench.errors.NotApplicable: it needs two sites
    """


class Unavailable(LrbenchError):
    """Something that is not installed or not reachable here. A cell that needs it counts as skipped, and is asked again by the next run."""


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


def describe(error: BaseException) -> tuple[str, str]:
    """An exception as (one line that can be printed, traceback), both of bounded length; what does not print stands as its escape."""
    try:
        message = str(error)
    except BaseException:
        message = "(its message cannot be shown)"
    line = f"{type(error).__name__}: {message[: 4 * REASON_LENGTH]}".strip(": ")
    trace = "".join(traceback.format_exception(error))
    return one_line(line), printable_lines(trace)


def printable_lines(text: str) -> str:
    """Return a traceback of bounded length, from which the middle is missing where it is longer; what does not print is escaped."""
    return _ends("".join(c if c in "\n\t" else _printable(c) for c in _ends(text)))


def _ends(trace: str) -> str:
    half = TRACEBACK_LENGTH // 2
    return trace if len(trace) <= TRACEBACK_LENGTH else f"{trace[: half - 5]}\n...\n{trace[-half:]}"


def _printable(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


def one_line(text: str, longest: int = REASON_LENGTH) -> str:
    """Return a text as one line of at most ``longest`` printable characters; what does not print stands as its escape.

    Examples
    --------
    >>> one_line("two\\nlines")
    'two lines'
    """
    words = " ".join(text[: 4 * longest].split())
    return "".join(map(_printable, words))[:longest]
