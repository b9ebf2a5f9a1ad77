"""The trusted side of `lrbench.boundary.fit_process`: it hands a view over, and believes nothing of what comes back."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lrbench.boundary import fit_process, kernel, wire
from lrbench.boundary.blocks import Supply
from lrbench.boundary.exchange import Exchange
from lrbench.boundary.messages import (
    Kept,
    Request,
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
from lrbench.errors import LrbenchError, one_line
from lrbench.longrun.keeper import Keeping, largest_checkpoint
from lrbench.method import Method
from lrbench.record import TEXT_LENGTH
from lrbench.streaming.meter import FREE_HEAD
from lrbench.view import TrainView

SETTINGS_SECONDS = 60.0  # for a file to be imported and to say how its settings are spelled
END_SECONDS = 30.0  # for a process that was killed to be gone
MOST_DESCRIPTORS = 1 << 16
LAUNCH = "import sys; sys.path[:] = {path!r}; from lrbench.boundary import fit_process; {call}"


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
        exchange = Exchange(process, largest_answer(view), self.memory_gb, supply=Supply(given))
        if keeping is not None:
            exchange.keep(keeping, largest_checkpoint(view))
        found = exchange.run(request, body)
        spent = found.answer.spent
        if found.answer.dictionary is None or spent is None or found.started is None:
            raise wire.FitFailed("it answered without a dictionary and what it took")
        if (spent.free, spent.budget) != (FREE_HEAD, view.budget.n_samples) or spent.share > 1:
            raise wire.FitFailed(f"it says that it took {spent.charged} samples, its budget is {view.budget.n_samples}")
        try:
            dictionary = unpack_dictionary(found.answer.dictionary, found.body).to(view.device)
        except wire.Breach as breach:
            raise wire.FitFailed(str(breach)) from breach
        reported = found.started.hyperparameters
        again = replace(self, reported=reported, keeping=None)
        return Fitted(dictionary, spent, reported, found.seconds, again, found.peak_mb)


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
        found = Exchange(process, 0, seconds=SETTINGS_SECONDS).run(Request(source=source, settings=settings), b"")
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
