"""Jobs in worker processes: whatever a job does to its process, it costs that job only.

Each worker is a fresh process that is fed one job at a time over a pipe. One loop in the parent watches the pipes and
the processes, ends a worker whose job exceeds its time or memory, and replaces a worker that died. Workers are forked
from a server process that has torch loaded but never runs a job: a new one costs 0.03 s, importing torch would cost 1.5 s.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver, get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from types import ModuleType
from typing import Any

import psutil

from lrbench.boundary import kernel
from lrbench.boundary.surroundings import ONE_THREAD, SALT, safe_environment, safe_path
from lrbench.errors import LrbenchError, describe
from lrbench.running.worker import serve

POLL_SECONDS = 0.1
ANSWER_BYTES = 100_000_000
START_ATTEMPTS = 8  # half a second apart: a fork server that was killed takes a moment to be gone

KEPT_APART = {
    "PYTHONSAFEPATH": "1",
    SALT: "",
}  # nothing of the working folder is imported, and the salt is not passed on


@dataclass(frozen=True)
class Started:
    """A worker took up the job."""

    job: Any


@dataclass(frozen=True)
class Told:
    """The job said something of itself, see `lrbench.running.worker.tell`."""

    job: Any
    content: Any


@dataclass(frozen=True)
class Finished:
    """The job returned ``result``; its process held at most ``peak_memory_mb`` (sampled, None when too short)."""

    job: Any
    result: Any
    seconds: float
    peak_memory_mb: float | None


@dataclass(frozen=True)
class Failed:
    """The job raised, or its worker was lost; ``reason`` is one line, ``traceback`` is there when it raised."""

    job: Any
    reason: str
    traceback: str | None
    seconds: float
    peak_memory_mb: float | None


Event = Started | Told | Finished | Failed
Isolated = Callable[[Any], bool]


def run_jobs(
    jobs: Sequence[Any],
    work: str,
    *,
    workers: int,
    on_event: Callable[[Event], None],
    setup: str | None = None,
    preload: Sequence[str] = (),
    timeout: float | None = None,
    memory_gb: float | None = None,
    isolated: Isolated = lambda job: False,
    parts: Callable[[Any], int] = lambda job: 1,
) -> None:
    """Run ``work(job)`` for every job, in order of the sequence, each in one of several worker processes.

    Parameters
    ----------
    jobs
        Picklable inputs.
    work, setup
        Module-level callables as ``"package.module:name"``. ``setup()`` runs once in a new worker, before any
        clock does.
    preload
        Modules that the fork server imports, once for all workers. It is started by the first call and keeps what it has.
    workers
        How many processes at most, at least 1.
    on_event
        Called in this process with `Started`, any number of `Told`, then `Finished` or `Failed` for every job. What it raises ends the run.
    timeout
        Seconds for one part of a job, from when its worker takes it up; what the worker says was spent on it before counts too.
    memory_gb
        Resident memory of one worker process, in 10^9 bytes, sampled ten times a second.
    isolated
        Says of a job that no other may run in its process afterwards, whatever came of it.
    parts
        Says how many parts a job has: it may take so many times ``timeout``.

    However this function is left, no worker outlives it.
    """
    queue = deque(jobs)
    pool: list[_Worker] = []
    try:
        while queue or pool:
            while queue and len(pool) < workers:
                pool.append(_Worker(work, setup, preload))
                pool[-1].give(queue.popleft(), isolated)
            wait([worker.connection for worker in pool], timeout=POLL_SECONDS)
            for worker in list(pool):
                longest = None if timeout is None else timeout * parts(worker.job)
                for event in worker.events(longest, memory_gb):
                    on_event(event)
                if worker.job is not _NO_JOB:
                    continue
                if queue and worker.reusable:
                    worker.give(queue.popleft(), isolated)
                else:
                    worker.end()
                    pool.remove(worker)
    finally:
        for worker in pool:
            worker.end()


class OneWorker:
    """One worker process that is kept between jobs, for a caller who hands over one job at a time.

    Parameters
    ----------
    work, setup, isolated, preload
        As in `run_jobs`.
    """

    def __init__(
        self,
        work: str,
        setup: str | None = None,
        isolated: Isolated = lambda job: False,
        preload: Sequence[str] = (),
    ) -> None:
        self._work, self._setup, self._isolated, self._preload = work, setup, isolated, preload
        self._worker: _Worker | None = None

    def run(self, job: Any) -> Finished | Failed:
        """Do a job and wait for its end, in a fresh process if the last job cost the old one."""
        if self._worker is None or not self._worker.reusable:
            self.close()
            self._worker = _Worker(self._work, self._setup, self._preload)
        try:
            self._worker.give(job, self._isolated)
            while True:
                wait([self._worker.connection], timeout=POLL_SECONDS)
                for event in self._worker.events(timeout=None, memory_gb=None):
                    if isinstance(event, Finished | Failed):
                        if not self._worker.usable:
                            self.close()
                        return event
        except BaseException:
            self.close()  # interrupted: the job must not go on in the background
            raise

    def close(self) -> None:
        """End the process."""
        if self._worker is not None:
            self._worker.end()
            self._worker = None


_NO_JOB = object()


class _NoAnswer(Exception):
    """What came over a worker's pipe is no message of `lrbench.running.worker`."""


class _Worker:
    """The parent's side of one worker process."""

    def __init__(self, work: str, setup: str | None, preload: Sequence[str]) -> None:
        self.process, self.connection = _start(work, setup, preload)
        self.usable = True
        self.job: Any = _NO_JOB
        self.started: float | None = None
        self.peak_mb: float | None = None
        self.inbox = bytearray()

    @property
    def reusable(self) -> bool:
        """Whether it waits for another job and has said no more than it had to."""
        return self.usable and self.process.is_alive() and not self.inbox and not self.connection.poll()

    def give(self, job: Any, isolated: Isolated) -> None:
        self.job, self.started, self.peak_mb = job, None, None
        last = isolated(job)
        self.usable = not last
        with contextlib.suppress(OSError):  # a worker that is gone already is found by events()
            self.connection.send((job, last))

    def events(self, timeout: float | None, memory_gb: float | None) -> Iterator[Event]:
        """What happened to the current job since the last call."""
        self._sample_memory()
        alive = self.process.is_alive()  # asked before the pipe, so that a result sent just before an exit is not lost
        try:
            while self.job is not _NO_JOB and self.connection.poll():
                yield from self._read()
        except (EOFError, OSError):
            yield self._lost(self._cause_of_death())
        except _NoAnswer:
            yield self._lost("it wrote to the pipe of its worker process, as writing to every open file does")
        if self.job is _NO_JOB:
            return
        if not alive:
            yield self._lost(self._cause_of_death())
        elif timeout is not None and self.started is not None and self._seconds() > timeout:
            yield self._lost(f"timed out after {timeout:g} s")
        elif memory_gb is not None and (self.peak_mb or 0.0) > memory_gb * 1000:
            yield self._lost(f"used more memory than the limit of {memory_gb:g} GB")

    def end(self) -> None:
        """Kill the process and whatever it started."""
        if self.connection.closed:
            return
        self.usable = False
        pid = self.process.pid
        if pid is not None:
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(pid).children(recursive=True):  # also those that left the process group
                    child.kill()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.connection.close()

    def _read(self) -> Iterator[Event]:
        """Take what `Connection.send` wrote, without ever waiting for the rest of a message: a job may write here too."""
        chunk = os.read(self.connection.fileno(), 1 << 16)
        if not chunk:
            raise EOFError
        self.inbox += chunk
        while self.job is not _NO_JOB and len(self.inbox) >= 4:
            (size,) = struct.unpack("!i", self.inbox[:4])
            if not 0 < size < ANSWER_BYTES:
                raise _NoAnswer
            if len(self.inbox) < 4 + size:
                return
            body = bytes(self.inbox[4 : 4 + size])
            del self.inbox[: 4 + size]
            try:
                kind, content = pickle.loads(body)
            except Exception as error:
                raise _NoAnswer from error
            if kind not in ("started", "told", "spent", "result", "failed"):
                raise _NoAnswer
            yield from self._on_message(kind, content)

    def _on_message(self, kind: str, content: Any) -> Iterator[Event]:
        if kind == "started":
            self.started = time.monotonic()
            yield Started(self.job)
        elif kind == "told":
            yield Told(self.job, content)
        elif kind == "spent":
            self.started = (self.started or time.monotonic()) - content
        elif kind == "result":
            yield Finished(self._take_job(), content, self._seconds(), self.peak_mb)
        else:
            reason, trace = content
            yield Failed(self._take_job(), reason, trace, self._seconds(), self.peak_mb)

    def _lost(self, reason: str) -> Failed:
        self.end()
        return Failed(self._take_job(), reason, None, self._seconds(), self.peak_mb)

    def _take_job(self) -> Any:
        job, self.job = self.job, _NO_JOB
        return job

    def _seconds(self) -> float:
        return 0.0 if self.started is None else time.monotonic() - self.started

    def _sample_memory(self) -> None:
        with contextlib.suppress(psutil.Error):
            resident = psutil.Process(self.process.pid).memory_info().rss / 1e6
            self.peak_mb = max(resident, self.peak_mb or 0.0)

    def _cause_of_death(self) -> str:
        self.process.join(timeout=1.0)
        when = " before it could start" if self.started is None else ""
        return kernel.how_it_ended(self.process.exitcode) + when


def _start(work: str, setup: str | None, preload: Sequence[str]) -> tuple[ForkServerProcess, Connection]:
    """Return a new worker and this end of its pipe; if the fork server was killed, a new one is started."""
    context = get_context("forkserver")
    context.set_forkserver_preload([*preload])
    for attempt in range(START_ATTEMPTS):
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, work, setup, safe_environment()))
        try:
            with _on_safe_path(), _environment(ONE_THREAD | KEPT_APART), _without_main():
                with _without_interrupts():
                    forkserver.ensure_running()
                process.start()  # waits until the fork server has loaded everything: ctrl-C ends the wait
            return process, ours
        except (OSError, EOFError) as error:
            ours.close()
            if attempt == START_ATTEMPTS - 1:
                raise LrbenchError(f"cannot start a worker process: {describe(error)[0]}") from error
            time.sleep(0.5)
        except KeyboardInterrupt:
            ours.close()
            _kill_fork_server()  # it may have seconds of loading ahead, for nobody
            raise
        finally:
            theirs.close()
    raise AssertionError


def _kill_fork_server() -> None:
    pid = getattr(forkserver._forkserver, "_forkserver_pid", None)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the processes started inside."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _on_safe_path() -> Iterator[None]:
    """Processes started inside find modules where `safe_path` says."""
    before, sys.path[:] = [*sys.path], safe_path()
    here = (
        os.getcwd() if sys.version_info < (3, 11) else ""
    )  # it knows no PYTHONSAFEPATH and would start in the working folder
    try:
        if here:
            os.chdir(sys.prefix)
        yield
    finally:
        if here:
            os.chdir(here)
        sys.path[:] = before


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Processes started inside do not run the user's script again, which need no guard by ``__name__``, nor know its arguments."""
    main, arguments = sys.modules["__main__"], sys.argv
    sys.modules["__main__"], sys.argv = ModuleType("__main__"), arguments[:1]
    try:
        yield
    finally:
        sys.modules["__main__"], sys.argv = main, arguments


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started inside inherit a blocked SIGINT: ctrl-C is the parent's business."""
    resource_tracker.ensure_running()  # first: starting it, as the fork server would, unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
