"""Frames over a socket: a JSON header and bytes behind it, both of limited size. Nothing that is read here can run as code."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

from lrbench.errors import LrbenchError, one_line

MAGIC = b"lrb1"
START = struct.Struct("!4sIQ")  # magic, size of the header, size of what follows
HEADER_BYTES = 1_000_000
CHUNK = 1 << 20

Frame = tuple[dict[str, Any], bytearray]


class Breach(Exception):
    """What came over the wire is no message; the text is one line on what it was instead."""


class FitFailed(LrbenchError):
    """The fit on the other side failed, with a reason that can be printed; ``traceback`` is there where it raised."""

    def __init__(self, reason: str, traceback: str | None = None) -> None:
        super().__init__(one_line(reason))
        self.traceback = traceback


def send(connection: socket.socket, header: dict[str, Any], body: bytes | bytearray = b"") -> None:
    """Write one frame."""
    text = json.dumps(header, allow_nan=False).encode()
    connection.sendall(START.pack(MAGIC, len(text), len(body)) + text)
    connection.sendall(body)


def receive(connection: socket.socket) -> Frame:
    """Wait for one frame of any size: for the side that is written to by the trusted one.

    Raises
    ------
    EOFError
        When the other side is gone.
    """
    reader = Reader(limit=1 << 62)
    while True:
        wanted = min(CHUNK, reader.missing)
        chunk = connection.recv(wanted)
        if not chunk:
            raise EOFError
        for frame in reader.feed(chunk):
            return frame


def too_much(size: int, limit: int) -> str:
    """Say that an answer is too large."""
    return f"its answer holds {size} bytes, expected at most {limit}"


def receive_into(connection: socket.socket, place: memoryview) -> None:
    """Fill a place with raw bytes.

    Raises
    ------
    EOFError
        When the other side is gone.
    """
    while place:
        got = connection.recv_into(place)
        if not got:
            raise EOFError
        place = place[got:]


class Reader:
    """Takes bytes as they come and gives frames: it never waits, and never holds more than the limits allow.

    Parameters
    ----------
    limit
        Bytes behind the header of one frame, at most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inbox = bytearray()

    @property
    def missing(self) -> int:
        """How many bytes the frame that has begun still needs, as far as is known."""
        if len(self._inbox) < START.size:
            return START.size - len(self._inbox)
        _, header, body = START.unpack_from(self._inbox)
        return max(1, START.size + int(header) + int(body) - len(self._inbox))

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """Yield the frames that are complete with this chunk, or raise `Breach`."""
        self._inbox += chunk
        while len(self._inbox) >= START.size:
            magic, header, body = START.unpack_from(self._inbox)
            if magic != MAGIC or header > HEADER_BYTES:
                raise Breach("it wrote to the pipe of its worker process, as writing to every open file does")
            if body > self._limit:
                raise Breach(too_much(body, self._limit))
            if len(self._inbox) < START.size + header + body:
                return
            text = bytes(self._inbox[START.size : START.size + header])
            content = self._take(START.size + header, body)
            try:
                found = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise Breach("it wrote to the pipe of its worker process what is no JSON") from error
            if not isinstance(found, dict):
                raise Breach("it wrote to the pipe of its worker process what is no message")
            yield found, content

    def _take(self, start: int, size: int) -> bytearray:
        """Remove a frame and return what follows its header, without a copy where nothing else is there: it may be large."""
        if len(self._inbox) > start + size:
            content = self._inbox[start : start + size]
            del self._inbox[: start + size]
            return content
        content, self._inbox = self._inbox, bytearray()
        del content[:start]
        return content
