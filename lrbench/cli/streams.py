"""Standard streams that no command stumbles over: closed, full, cut off by ``| head``, or of a narrow encoding."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, TextIO


class Outlet(io.FileIO):
    """A descriptor that takes everything: what cannot be written is dropped, and ``lost`` says why."""

    lost: OSError | None = None

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        """Write bytes, or drop them once the descriptor has failed."""
        if self.lost is None:
            try:
                return super().write(data)
            except OSError as error:
                self.lost = error
                _to_nowhere(self.fileno())  # for the processes that inherit it
        return len(data)


def secure() -> None:
    """Make descriptors 0 to 2 and the streams on them safe to use; for a process of our own, before anything else.

    Without this, a pipe or a file that is opened next would land on a closed one's number.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            _to_nowhere(descriptor)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))
    sys.stdout = _writer(1, sys.stdout, "replace")
    sys.stderr = _writer(2, sys.stderr, "backslashreplace")


def finish(code: int) -> int:
    """Write what is left and return the exit code; output that was lost, other than to a closed pipe, is an error."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    outlet = getattr(sys.stdout, "buffer", None)
    lost = outlet.raw.lost if isinstance(outlet, io.BufferedWriter) and isinstance(outlet.raw, Outlet) else None
    if lost is None or lost.errno == errno.EPIPE:
        return code
    print(f"error: cannot write to stdout: {lost.strerror}; send it to another place", file=sys.stderr, flush=True)
    return code or 2


def _writer(descriptor: int, before: TextIO | None, errors: str) -> io.TextIOWrapper:
    """Return a text stream onto a descriptor that is as the one before it, but replaces what it cannot show."""
    outlet: Any = Outlet(descriptor, "w", closefd=False)
    buffer = io.BufferedWriter(outlet)
    if not isinstance(before, io.TextIOWrapper):
        return io.TextIOWrapper(buffer, encoding="utf-8", errors=errors, line_buffering=descriptor == 2)
    before.flush()
    return io.TextIOWrapper(
        buffer,
        encoding=before.encoding,
        errors=errors,
        line_buffering=before.line_buffering,
        write_through=before.write_through,
    )


def _to_nowhere(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null != descriptor:
        os.dup2(null, descriptor)
        os.close(null)
    os.set_inheritable(descriptor, True)
