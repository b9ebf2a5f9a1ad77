"""One exchange with a process that fits: a request, what it says meanwhile, and its answer; nothing of it is believed."""

from __future__ import annotations

import contextlib
import math
import secrets
import socket
import time
from collections.abc import Iterator
from typing import Protocol

from lrbench.boundary import kernel, messages, wire
from lrbench.boundary.blocks import Supply
from lrbench.boundary.memory import held_mb
from lrbench.boundary.messages import Answer, Request, Started, Wanted
from lrbench.errors import NotApplicable, one_line, printable_lines
from lrbench.longrun.keeper import Keeping
from lrbench.record import recordable

POLL_SECONDS = 0.1
PEAK_SECONDS = 1.0  # between looks at the memory where it has no limit: a look costs tens of milliseconds
GRACE_SECONDS = 2.0  # for a process that has answered, or closed its end, to be gone


class FitProcess(Protocol):
    """A process that does one request."""

    connection: socket.socket

    @property
    def pid(self) -> int:
        """Of a process that it and all that it starts descend from."""

    def ended(self, seconds: float) -> int | None:
        """Return its exit status once it has ended, after waiting for as long."""

    def said(self) -> str:
        """Return what it complained of before it could begin, once it has ended."""

    def end(self) -> None:
        """End it and all that it started."""


class Exchange:
    """One request and what comes of it, all for this request's own key.

    That is one start at most; after it blocks where the fit asks for them, and checkpoints, reports and notes where they are kept; then
    one answer.

    Parameters
    ----------
    process
        Who is asked; it has ended when `run` returns or raises.
    limit
        Bytes that may follow the answer.
    memory_gb, seconds
        What the process and all that it starts may hold, and how long they may take.
    supply
        What draws the samples of a view that streams.
    """

    def __init__(
        self,
        process: FitProcess,
        limit: int,
        memory_gb: float | None = None,
        seconds: float | None = None,
        supply: Supply | None = None,
    ) -> None:
        self.answer: Answer
        self.body = bytearray()
        self.started: Started | None = None
        self.seconds = self.peak_mb = 0.0
        self._process, self._memory_gb, self._limit, self._reader = process, memory_gb, limit, wire.Reader(limit)
        self._keeping: Keeping | None = None
        self._supply = supply or Supply()
        self._key = secrets.token_hex(16)
        self._look_seconds = POLL_SECONDS if memory_gb is not None else PEAK_SECONDS
        self._next_look = time.monotonic() + self._look_seconds
        self._seconds, self._last_moment = seconds, time.monotonic() + (seconds or math.inf)

    def keep(self, keeping: Keeping, limit: int) -> None:
        """Take checkpoints too, of at most so many bytes, and reports."""
        self._keeping, self._reader = keeping, wire.Reader(max(limit, self._limit))

    def run(self, request: Request, body: bytes) -> Exchange:
        """Ask, listen, end the process, and raise `NotApplicable` or `FitFailed` where that is the answer."""
        try:
            with contextlib.suppress(OSError):  # one that is gone before it has read all is found below
                wire.send(self._process.connection, request.model_dump() | {"key": self._key}, body)
                if self._keeping is not None and self._keeping.saved is not None:
                    wire.send(self._process.connection, {}, self._keeping.saved)
            self.answer = self._listen()
            self._process.ended(GRACE_SECONDS)
        except wire.Breach as breach:
            raise wire.FitFailed(str(breach)) from breach
        finally:
            self._process.end()
        if self.answer.status == "skipped":
            raise NotApplicable(one_line(self.answer.reason or "it gives no reason"))
        if self.answer.status == "failed":
            trace = self.answer.traceback
            raise wire.FitFailed(self.answer.reason or "it gives no reason", trace and printable_lines(trace))
        return self

    def _listen(self) -> Answer:
        began = time.perf_counter()
        for chunk in self._chunks():
            for header, body in self._reader.feed(chunk):
                message = messages.parsed(header)
                if message.key != self._key:
                    raise wire.Breach("it sent a message for another cell")
                if isinstance(message, Answer):
                    if len(body) > self._limit:
                        raise wire.Breach(wire.too_much(len(body), self._limit))
                    self.body, self.seconds = body, time.perf_counter() - began
                    return message
                if isinstance(message, Wanted):
                    if self.started is None or body:
                        raise wire.Breach("it asked for samples before its start, or with bytes behind")
                    self._supply.draw(message.block)
                    continue
                if not isinstance(message, Started):
                    if self._keeping is None or self.started is None:
                        raise wire.Breach("it sent a message that nobody asked for")
                    messages.deliver(message, body, self._keeping.sink)
                    continue
                if self.started is not None or body:
                    raise wire.Breach("it sent more than one start")
                if not all(map(recordable, message.hyperparameters.values())):
                    raise wire.Breach("it sent hyper-parameters that no record can hold")
                self.started, began = message, time.perf_counter()
        status = self._process.ended(GRACE_SECONDS)
        said = self._process.said() if self.started is None and status is not None else ""
        raise wire.FitFailed(f"{kernel.how_it_ended(status)}{said and f': {said}'}")

    def _chunks(self) -> Iterator[bytes]:
        """Yield what comes over the connection until it is closed, or its process has ended and nothing is left to read."""
        while True:
            gone = self._process.ended(0.0) is not None
            ready = self._supply.wait(self._process.connection, 0.0 if gone else POLL_SECONDS)
            if not ready and gone:
                return
            self._watch_memory()
            if time.monotonic() > self._last_moment:
                raise wire.FitFailed(f"it did not answer within {self._seconds:g} s")
            if ready:
                try:
                    chunk = self._process.connection.recv(wire.CHUNK)
                except OSError:
                    return
                if not chunk:
                    return
                yield chunk

    def _watch_memory(self) -> None:
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + self._look_seconds
        self.peak_mb = max(self.peak_mb, held_mb(self._process.pid))
        if self._memory_gb is not None and self.peak_mb > self._memory_gb * 1000:
            raise wire.FitFailed(f"used more memory than the limit of {self._memory_gb:g} GB")
