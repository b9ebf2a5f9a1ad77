"""Compilation of loops by numba. What is compiled is kept in the user's cache folder, for all processes and later runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from inspect import unwrap
from pathlib import Path
from typing import Any

from numba import config, njit
from platformdirs import user_cache_path

NUMBA: Any = config  # numba makes its settings at import, where no type checker sees them


def loop_compiler(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator: the function without the interpreter's lock, compiled at its first call.

    Parameters
    ----------
    options
        For `numba.njit`.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        plain = unwrap(function)  # the tests' shape checks wrap every function
        with _numba_cache_in(cache_folder()) as folder:
            try:
                kept: Any = njit(nogil=True, cache=True, **options)(plain)
                if Path(kept.stats.cache_path).is_relative_to(folder):
                    return kept  # type: ignore[no-any-return]
            except RuntimeError:  # numba found no place at all
                pass
        compiled: Callable[..., Any] = njit(nogil=True, **options)(plain)  # the folder cannot be written to
        return compiled

    return decorate


def cache_folder() -> Path:
    """Return where compiled loops are kept: ``NUMBA_CACHE_DIR`` where it is set, else a part of the user's cache folder.

    Never beside the package, where pip would leave it behind and Python would take it for the package. Each version of lrbench
    has a folder of its own; numba tells installations in different places, and changed files, apart.
    """
    if NUMBA.CACHE_DIR:
        return Path(NUMBA.CACHE_DIR)
    try:
        version = metadata.version("linear-representation-bench")
    except metadata.PackageNotFoundError:  # run from its source, without an installation
        version = "source"
    return user_cache_path("lrbench", appauthor=False) / "loops" / version


@contextmanager
def _numba_cache_in(folder: Path) -> Iterator[Path]:
    """Let numba keep what is declared inside the block in a folder; other users of numba in this process keep their own."""
    before, NUMBA.CACHE_DIR = NUMBA.CACHE_DIR, str(folder)
    try:
        yield folder
    finally:
        NUMBA.CACHE_DIR = before
