"""Compilation of loops by numba, kept on the disk where there is a place for it."""

from __future__ import annotations

from collections.abc import Callable
from inspect import unwrap
from typing import Any

from numba import njit


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator: the function without the interpreter's lock, compiled at its first call.

    Parameters
    ----------
    options
        For `numba.njit`.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        plain = unwrap(function)  # the tests' shape checks wrap every function
        try:
            found: Callable[..., Any] = njit(nogil=True, cache=True, **options)(plain)
        except RuntimeError:  # neither the package's folder nor the user's can be written to: compile in every process
            found = njit(nogil=True, **options)(plain)
        return found

    return decorate
