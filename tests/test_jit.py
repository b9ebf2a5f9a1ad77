"""Loops are compiled, with or without a place on the disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from numba import njit

from lrbench import jit


def total(n: int) -> int:
    found = 0
    for i in range(n):
        found += i
    return found


def test_where_nothing_can_be_kept_every_process_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def without_a_place(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        asked.append(options)
        if options.pop("cache", False):
            raise RuntimeError("cannot cache function: no locator available")
        compiler: Callable[..., Any] = njit(**options)
        return compiler

    monkeypatch.setattr(jit, "njit", without_a_place)
    assert jit.compiled(error_model="numpy")(total)(5) == 10
    assert len(asked) == 2
    assert asked[1] == {"nogil": True, "error_model": "numpy"}
