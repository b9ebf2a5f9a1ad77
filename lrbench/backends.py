"""Jobs in worker processes: whatever a job does to its process, it costs that job only.

Each worker is a fresh process that is fed one job at a time over a pipe. One loop in the parent watches the pipes and
the processes, ends a worker whose job exceeds its time or memory, and replaces a worker that died.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

import psutil

POLL_SECONDS = 0.1
REASON_LENGTH = 300
TRACEBACK_LENGTH = 20_000
PR_SET_PDEATHSIG = 1

# One thread per worker, whatever the number of workers: sums come out in the same order, so records are equal.
ONE_THREAD = dict.fromkeys(
    ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"], "1"
)


@dataclass(frozen=True)
class Started:
    """A worker took up the job."""

    job: Any


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


Event = Started | Finished | Failed


def run_jobs(
    jobs: Sequence[Any],
    work: str,
    *,
    workers: int,
    on_event: Callable[[Event], None],
    setup: str | None = None,
    timeout: float | None = None,
    memory_gb: float | None = None,
) -> None:
    """Run ``work(job)`` for every job, in order of the sequence, each in one of several worker processes.

    Parameters
    ----------
    jobs
        Picklable inputs.
    work, setup
        Module-level callables as ``"package.module:name"``. ``setup()`` runs once in a new worker, before any
        clock does.
    workers
        How many processes at most, at least 1.
    on_event
        Called in this process with `Started`, then `Finished` or `Failed` for every job. What it raises ends the run.
    timeout
        Seconds for one job, from when its worker takes it up.
    memory_gb
        Resident memory of one worker process, in 10^9 bytes, sampled ten times a second.

    However this function is left, no worker outlives it.
    """
    queue = deque(jobs)
    pool: list[_Worker] = []
    try:
        while queue or pool:
            while queue and len(pool) < workers:
                pool.append(_Worker(work, setup))
                pool[-1].give(queue.popleft())
            wait([worker.connection for worker in pool], timeout=POLL_SECONDS)
            for worker in list(pool):
                for event in worker.events(timeout, memory_gb):
                    on_event(event)
                if worker.job is not _NO_JOB:
                    continue
                if queue and worker.usable and worker.process.is_alive():
                    worker.give(queue.popleft())
                else:
                    worker.end()
                    pool.remove(worker)
    finally:
        for worker in pool:
            worker.end()


def describe(error: BaseException) -> tuple[str, str]:
    """An exception as (one line, traceback), both of bounded length and valid Unicode."""
    try:
        message = str(error)
    except Exception:
        message = "(its message cannot be shown)"
    line = " ".join(message[: 4 * REASON_LENGTH].split())
    reason = f"{type(error).__name__}: {line}" if line else type(error).__name__
    text = "".join(traceback.format_exception(error))
    return _printable(reason)[:REASON_LENGTH], _printable(text[-TRACEBACK_LENGTH:])


_NO_JOB = object()


class _Worker:
    """The parent's side of one worker process."""

    def __init__(self, work: str, setup: str | None) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work, setup, os.getpid()))
        with _environment(ONE_THREAD), _without_interrupts():
            self.process.start()
        theirs.close()
        self.usable = True
        self.job: Any = _NO_JOB
        self.started: float | None = None
        self.peak_mb: float | None = None

    def give(self, job: Any) -> None:
        self.job, self.started, self.peak_mb = job, None, None
        with contextlib.suppress(OSError):  # a worker that is gone already is found by events()
            self.connection.send(job)

    def events(self, timeout: float | None, memory_gb: float | None) -> Iterator[Event]:
        """What happened to the current job since the last call."""
        self._sample_memory()
        alive = self.process.is_alive()  # asked before the pipe, so that a result sent just before an exit is not lost
        try:
            while self.job is not _NO_JOB and self.connection.poll():
                yield from self._on_message(*self.connection.recv())
        except (EOFError, OSError):
            yield self._lost(self._cause_of_death())
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
        self.usable = False
        pid = self.process.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.connection.close()

    def _on_message(self, kind: str, content: Any) -> Iterator[Event]:
        if kind == "started":
            self.started = time.monotonic()
            yield Started(self.job)
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
        deadline = time.monotonic() + 1.0  # join(timeout) would wait for ever on a process that closed all its files
        while (code := self.process.exitcode) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        when = " before it could start" if self.started is None else ""
        if code is None:
            return f"its worker process closed its connection{when}"
        if code >= 0:
            return f"its worker process exited with code {code}{when}"
        hint = " (out of memory?)" if -code == signal.SIGKILL else ""
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"its worker process was ended by {name}{when}{hint}"


def _serve(connection: Connection, work: str, setup: str | None, parent_pid: int) -> None:
    """The worker's side: take a job, do it, answer; until the parent closes the pipe or is gone."""
    _detach(parent_pid)
    pid = os.getpid()
    function: Callable[[Any], Any] | None = None
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        try:
            if function is None:
                if setup is not None:
                    _resolve(setup)()
                function = _resolve(work)
            connection.send(("started", None))
            answer = ("result", function(job))
        except BaseException as error:
            answer = ("failed", describe(error))
        if os.getpid() != pid:
            os._exit(1)  # a fork made by the job came back here: only the original may answer
        try:
            connection.send(answer)
        except OSError:
            return
        except Exception as error:  # the result cannot be pickled
            connection.send(("failed", describe(error)))


def _detach(parent_pid: int) -> None:
    """Leave the terminal to the parent, and die with it even while a job runs."""
    os.setsid()
    with open(os.devnull, "r+b", buffering=0) as null:
        for descriptor in (0, 1, 2):
            os.dup2(null.fileno(), descriptor)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if sys.platform == "linux":  # the thread cannot run while a job holds the interpreter lock; the kernel can
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _resolve(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


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
def _without_interrupts() -> Iterator[None]:
    """Processes started inside inherit a blocked SIGINT: ctrl-C is the parent's business."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
