"""Ctrl-C: it ends a command at once until workers run, and is a `KeyboardInterrupt` from then on.

While libraries load they may swallow a `KeyboardInterrupt`, or turn it into another error.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

EXIT_INTERRUPTED = 130
STOPPED = "interrupted: the command did not finish\n"


def stop_at_once(number: int, frame: FrameType | None) -> None:
    """End the process, without the cleaning up that only workers need."""
    os.write(2, STOPPED.encode())
    os._exit(EXIT_INTERRUPTED)


def end_at_once() -> None:
    """Let ctrl-C end this process at once, unless somebody else decides on it already."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, stop_at_once)


class _StopUntil:
    """The handler that ends the process at once until something has started."""

    def __init__(self, started: Callable[[], bool]) -> None:
        self._started = started

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._started():
            signal.default_int_handler(number, frame)
        stop_at_once(number, frame)


def end_at_once_until(started: Callable[[], bool]) -> None:
    """Where ctrl-C ends this process at once, let it do so only until something has started; each round of a study calls it anew."""
    current = signal.getsignal(signal.SIGINT)
    if current is stop_at_once or isinstance(current, _StopUntil):
        signal.signal(signal.SIGINT, _StopUntil(started))
