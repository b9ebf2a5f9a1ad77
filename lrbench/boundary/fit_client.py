"""The trusted side of `lrbench.boundary.fit_process`: it hands a view over, and believes nothing of what comes back."""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from lrbench.boundary import fit_process, kernel, messages, wire
from lrbench.boundary.blocks import Supply
from lrbench.boundary.memory import held_mb
from lrbench.boundary.messages import (
    Answer,
    Kept,
    Request,
    Started,
    Wanted,
    largest_answer,
    pack_view,
    unpack_dictionary,
)
from lrbench.boundary.sandbox import Limits, Sandboxed
from lrbench.boundary.surroundings import safe_environment, safe_path
from lrbench.boundary.training import Fitted
from lrbench.catalogue import address
from lrbench.catalogue.methods import split
from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError, NotApplicable, one_line, printable_lines
from lrbench.longrun.keeper import Keeping, largest_checkpoint
from lrbench.method import Method
from lrbench.record import TEXT_LENGTH, recordable
from lrbench.view import TrainView

POLL_SECONDS = 0.1
SETTINGS_SECONDS = 60.0  # for a file to be imported and to say how its settings are spelled
PEAK_SECONDS = 1.0  # between looks at the memory where it has no limit: a look costs tens of milliseconds
GRACE_SECONDS = 2.0  # for a process that has answered, or closed its end, to be gone
END_SECONDS = 30.0  # for a process that was killed to be gone
MOST_DESCRIPTORS = 1 << 16
LAUNCH = "import sys; sys.path[:] = {path!r}; from lrbench.boundary import fit_process; {call}"


class _Process(Protocol):
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


@dataclass(frozen=True)
class FitElsewhere(Method):
    """A method whose ``fit`` runs on the other side of the boundary.

    Parameters
    ----------
    source
        What `lrbench.catalogue.methods.load_method` takes, on the other side.
    file
        The user's file that it names, None for a method of the catalogue.
    threads, device, memory_gb
        What the fit may use.
    limits
        Those of a sandbox, None for a process without one.
    reported
        The hyper-parameters that the other side said it has, None before the first fit.
    keeping
        What is to be kept of the fit; what is trained again afterwards keeps nothing.
    """

    source: str = ""
    file: Path | None = None
    threads: int = 1
    device: str = "cpu"
    memory_gb: float | None = None
    limits: Limits | None = None
    reported: dict[str, Any] | None = None
    keeping: Keeping | None = None

    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        """Return what the method on the other side made of the view, on the view's device."""
        return self.fitted(view, seed).dictionary

    def hyperparameters(self) -> dict[str, Any]:
        """Return what was reported."""
        return dict(self.reported or {})

    def fitted(self, view: TrainView, seed: int) -> Fitted:
        """Return the dictionary with what the fit took and reported.

        Raises
        ------
        NotApplicable
            Where the method says so.
        wire.FitFailed
            For everything else that goes wrong over there.
        """
        facts = {"source": self.source, "seed": seed, "threads": self.threads, "device": self.device}
        keeping, given = self.keeping, view.to("cpu")
        kept = keeping and Kept(every=keeping.every, rows=keeping.rows, resumes=keeping.saved is not None)
        request, body = pack_view(given, kept=kept, **facts)
        process = _forked() if self.limits is None else Sandboxed(self.file, self.limits, _command, safe_path())
        exchange = _Exchange(process, largest_answer(view), self.memory_gb, supply=Supply(given))
        if keeping is not None:
            exchange.keep(keeping, largest_checkpoint(view))
        found = exchange.run(request, body)
        if found.answer.dictionary is None or found.started is None:
            raise wire.FitFailed("it answered without a dictionary")
        try:
            dictionary = unpack_dictionary(found.answer.dictionary, found.body).to(view.device)
        except wire.Breach as breach:
            raise wire.FitFailed(str(breach)) from breach
        reported = found.started.hyperparameters
        again = replace(self, reported=reported, keeping=None)
        return Fitted(dictionary, reported, found.seconds, again, found.peak_mb)


def canonical_elsewhere(source: str, settings: str, sandbox: bool = False) -> list[str]:
    """Return what `lrbench.catalogue.methods.canonical` says of a user's file, which is imported on the other side.

    Parameters
    ----------
    source, settings
        The file's path, with its twin's name where one is meant, and what stands in brackets.
    sandbox
        Whether the other side is a sandbox.

    Raises
    ------
    LrbenchError
        With what it says against the settings.
    """
    asked = len(address.settings(settings, source))
    file = Path(split(source)[0])
    try:
        process = Sandboxed(file, Limits(), _command, safe_path()) if sandbox else _forked()
        found = _Exchange(process, 0, seconds=SETTINGS_SECONDS).run(Request(source=source, settings=settings), b"")
    except wire.FitFailed as failed:
        raise LrbenchError(str(failed).removeprefix("LrbenchError: ")) from failed
    finally:
        _close_server()
    names = found.answer.names or []
    if len(names) != asked or not all(map(_in_brackets, names)):
        raise wire.FitFailed(f"{source}: it answered {one_line(repr(names), 80)}, expected {asked} times [key=value]")
    return names


def _in_brackets(text: str) -> bool:
    """Whether a text is one pair of brackets or nothing, so that it cannot change the name that it is put behind."""
    found = address.brackets(f"x{text}")
    return not text or (text.isprintable() and len(text) <= TEXT_LENGTH and found is not None and found[0] == "x")


class _Exchange:
    """One request and what comes of it: one start at most, blocks where it asks for them, one answer, all for this request's own key.

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
        process: _Process,
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

    def run(self, request: Request, body: bytes) -> _Exchange:
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


def _command(call: str) -> list[str]:
    return [sys.executable, "-c", LAUNCH.format(path=safe_path(), call=call)]


class _Server:
    """The server of fit processes that belongs to this process, see `lrbench.boundary.fit_process.serve`."""

    def __init__(self, line: socket.socket, pid: int) -> None:
        self.line, self.pid = line, pid
        self._said = b""
        self._told(fit_process.READY)

    def ask(self, connection: socket.socket) -> int:
        """Have a fit at the other end of a connection and return its process."""
        socket.send_fds(self.line, [b"f"], [connection.fileno()])
        return self._told(fit_process.CHILD)

    def ended(self, seconds: float) -> int | None:
        """Return the exit status of the last fit once it has ended, after waiting for as long."""
        if not self._said and not select.select([self.line], [], [], seconds)[0]:
            return None
        return kernel.as_status(self._told(fit_process.ENDED))

    def close(self) -> None:
        """End the server."""
        self.line.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _told(self, what: bytes) -> int:
        while b"\n" not in self._said:
            chunk = self.line.recv(64)
            if not chunk:
                raise wire.FitFailed("the server of fit processes is gone: somebody ended it")
            self._said += chunk
        said, _, self._said = self._said.partition(b"\n")
        kind, _, number = said.partition(b" ")
        if kind != what:
            raise wire.FitFailed("the server of fit processes is out of step: its last fit did not end")
        return int(number)


class _ForkedFit:
    """A fit in a fork of the server."""

    def __init__(self, server: _Server) -> None:
        self.connection, theirs = socket.socketpair()
        with theirs:
            self.pid = server.ask(theirs)
        self._server = server
        self._status: int | None = None

    def ended(self, seconds: float) -> int | None:
        if self._status is None:
            self._status = self._server.ended(seconds)
        return self._status

    def said(self) -> str:
        return ""

    def end(self) -> None:
        self.connection.close()
        if self._status is None:
            kernel.end_tree(self.pid)
            self.ended(END_SECONDS)


_SERVER: list[_Server] = []  # of this process, at most one


def fork_server() -> None:
    """Make the server a fork of this process, which has to be a young one: with one thread, and without a world so far."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        try:
            line = theirs.detach()
            os.closerange(3, line)
            os.closerange(line + 1, MOST_DESCRIPTORS)
            fit_process.serve(line)
        finally:
            os._exit(1)  # never back into what this process is a copy of
    theirs.close()
    _SERVER.append(_Server(ours, pid))


def _start_server() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            _command(f"fit_process.serve_alone({theirs.fileno()})"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            env=safe_environment(),
        )
    assert process.stderr is not None
    try:
        _SERVER.append(_Server(ours, process.pid))
    except wire.FitFailed:
        said = process.communicate()[1].decode(errors="replace").splitlines() or [""]
        raise LrbenchError(f"cannot start the process that fits foreign methods: {one_line(said[-1])}") from None
    finally:
        process.stderr.close()
    process.returncode = 0  # `_Server.close` waits for it
    atexit.register(_close_server)


def _forked() -> _ForkedFit:
    if not _SERVER:
        _start_server()
    try:
        return _ForkedFit(_SERVER[0])
    except (OSError, wire.FitFailed):  # somebody ended it: another one costs seconds, no cell
        _close_server()
        _start_server()
        return _ForkedFit(_SERVER[0])


def _close_server() -> None:
    while _SERVER:
        _SERVER.pop().close()
