"""Addresses: what stands in brackets behind a name, such as ``topk_sae[k=32,lr=0.003]`` or ``superposition[1.45]``.

Text becomes values by `ast.literal_eval` and in no other way: nothing in an address is ever run. Values become text in one spelling
only, so that a record, a file name and a table call one cell by one name.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import isfinite
from typing import Any

from lrbench.errors import LrbenchError

WORD = re.compile(r"[A-Za-z_][\w.-]*")
CONSTANTS = {"None": None, "True": True, "False": False, "none": None, "true": True, "false": False}
OPEN, CLOSE = "([{", ")]}"
LONGEST = 1000  # characters; `ast.literal_eval` of a very long or deep text can end the process


def brackets(text: str) -> tuple[str, str] | None:
    """Return ``("a", "b")`` for ``"a[b]"``, None for what does not end in a pair of brackets behind a name.

    Examples
    --------
    >>> brackets("topk_sae[k=32]")
    ('topk_sae', 'k=32')
    """
    depth = 0
    if not text.endswith("]"):
        return None
    for place in range(len(text) - 1, 0, -1):
        depth += (text[place] in CLOSE) - (text[place] in OPEN)
        if not depth:
            return text[:place], text[place + 1 : -1]
    return None


def settings(inside: str, whole: str) -> list[dict[str, Any]]:
    """Return the settings that ``key=value,key=value|value`` stands for: one dict for each combination of the listed values.

    Parameters
    ----------
    inside
        What stands between the brackets.
    whole
        The address, for the message.

    Raises
    ------
    LrbenchError
        For what is no ``key=value``, a key that stands twice, or a value that is no number, word or list of them.

    Examples
    --------
    >>> settings("l0=1|2,k=None", "topk_sae[l0=1|2,k=None]")
    [{'l0': 1, 'k': None}, {'l0': 2, 'k': None}]
    """
    listed: dict[str, list[Any]] = {}
    for part in _split(inside, ",", whole):
        key, sign, values = (piece.strip() for piece in part.partition("="))
        if not sign or not key.isidentifier():
            raise LrbenchError(f"{whole}: expected key=value in the brackets, such as [l0=2], found {part.strip()!r}")
        if key in listed:
            raise LrbenchError(f"{whole}: {key} stands twice; list its values as [{key}=1|2]")
        listed[key] = [value_of(text, whole) for text in _split(values, "|", whole)]
    return [dict(zip(listed, values, strict=True)) for values in product(*listed.values())]


def levels(inside: str, whole: str) -> list[Any]:
    """Return the level values that ``value|value`` stands for; several items of one value, between commas, are a tuple.

    Raises
    ------
    LrbenchError
        As `settings`.

    Examples
    --------
    >>> levels("1.45|2", "superposition[1.45|2]"), levels("own,0.05,0.25", "settling[own,0.05,0.25]")
    ([1.45, 2], [('own', 0.05, 0.25)])
    """
    found = []
    for text in _split(inside, "|", whole):
        items = [value_of(item, whole) for item in _split(text, ",", whole)]
        found.append(items[0] if len(items) == 1 else tuple(items))
    return found


def value_of(text: str, whole: str) -> Any:
    """Return the number, truth value, None, word or tuple that a text stands for, or raise `LrbenchError`."""
    text = text.strip()
    if text in CONSTANTS:
        return CONSTANTS[text]
    if WORD.fullmatch(text):
        return text
    try:
        value = _tuples(ast.literal_eval(text)) if len(text) <= LONGEST else ...
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = ...
    if not plain(value):
        raise LrbenchError(
            f"{whole}: {text[:40]!r} is no value; expected a finite number, a word, None or a list of them"
        )
    return value


def text_of(value: Any) -> str:
    """Return the one spelling of a value, which `value_of` reads back.

    Examples
    --------
    >>> text_of(2.0), text_of(1e-3), text_of((0.25, 1)), text_of("own")
    ('2', '0.001', '(0.25,1)', 'own')
    """
    if isinstance(value, (list, tuple)):
        return f"({','.join(map(text_of, value))}{',' * (len(value) == 1)})"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, str):
        return value if WORD.fullmatch(value) and value not in CONSTANTS else repr(value)
    return repr(value)


def settings_text(values: Mapping[str, Any]) -> str:
    """Return ``[k=32,lr=0.003]``, keys in the order of the alphabet, or nothing for no settings."""
    return f"[{','.join(f'{key}={text_of(values[key])}' for key in sorted(values))}]" if values else ""


def level_text(value: Any) -> str:
    """Return ``[1.45]``, or ``[own,0.05,0.25]`` for a tuple."""
    many = isinstance(value, tuple) and len(value) > 1
    return f"[{','.join(map(text_of, value)) if many else text_of(value)}]"


def like(value: Any, example: Any) -> Any:
    """Return a value in the type of an example, so that 2 and 2.0 are one, or raise `TypeError` where it has another type.

    An example of None takes any value, and None takes the place of nothing else.
    """
    if example is None:
        return int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(example, (list, tuple)):
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"a list such as {text_of(example)}")
        return (
            tuple(like(item, example[min(place, len(example) - 1)]) for place, item in enumerate(value))
            if example
            else tuple(value)
        )
    if isinstance(example, float) and type(value) is int:
        return float(value)
    if type(value) is not type(example):
        kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
        raise TypeError(f"{kinds.get(type(example), type(example).__name__)}, such as {text_of(example)}")
    return value


def _split(text: str, sign: str, whole: str) -> Iterator[str]:
    """Yield the parts of a text between signs that stand outside of brackets and quotes."""
    depth, quote, start = 0, "", 0
    for place, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == sign and not depth:
            yield _part(text[start:place], whole)
            start = place + 1
        else:
            depth += (character in OPEN) - (character in CLOSE)
    yield _part(text[start:], whole)


def _part(text: str, whole: str) -> str:
    if not text.strip():
        raise LrbenchError(f"{whole}: a value is missing; expected something such as [l0=2], [l0=1|2] or [1.45]")
    return text


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


def plain(value: Any) -> bool:
    """Whether a value can stand in an address: a finite number, a truth value, None, a printable word, or a list of them."""
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return all(map(plain, value))
    if isinstance(value, float):
        return isfinite(value)
    return value is None or isinstance(value, (bool, int)) or (isinstance(value, str) and value.isprintable())
