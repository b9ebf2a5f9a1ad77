"""The worker's side of `lrbench.running.pool`: a process that does jobs which may do anything to it."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import forkserver, parent_process, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lrbench.errors import describe

PR_SET_PDEATHSIG = 1


def serve(connection: Connection, work: str, setup: str | None, environment: dict[str, str]) -> None:
    """Take a job, do it, answer; until the parent closes the pipe, is gone, or says that the job is the last."""
    os.environ.clear()
    os.environ.update(environment)  # this process is forked from one that may be older than a change to it
    _detach()
    pid = os.getpid()
    function: Callable[[Any], Any] | None = None
    while True:
        try:
            job, last = connection.recv()
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
        if last:
            time.sleep(
                1
            )  # the parent ends this process and what it left running, unless the answer did not get through
            os._exit(0)


def _detach() -> None:
    """Leave the terminal to the parent, die with it even while a job runs, and spare other processes."""
    os.setsid()
    with open(os.devnull, "r+b", buffering=0) as null:
        for descriptor in (0, 1, 2):
            os.dup2(null.fileno(), descriptor)
    # Multiprocessing hands these down: held open here, the fork server would not notice that the run is gone.
    for helper, name in ((forkserver._forkserver, "_forkserver_alive_fd"), (resource_tracker._resource_tracker, "_fd")):
        os.close(getattr(helper, name))
        setattr(helper, name, None)
    parent = parent_process()
    assert parent is not None
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    if sys.platform == "linux":  # the thread cannot run while a job holds the interpreter lock; the kernel can
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")  # when memory runs out, end this process first
    if not parent.is_alive():
        os._exit(1)
    sys.addaudithook(_spare_others)


def _die_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _spare_others(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse a signal to a process outside this session, such as the parent or another worker."""
    if event not in ("os.kill", "os.killpg") or arguments[1] == 0:
        return
    target = abs(arguments[0])
    everyone = event == "os.kill" and arguments[0] == -1
    if everyone or (target and os.getsid(target) != os.getsid(0)):
        raise PermissionError(f"signal {int(arguments[1])} to process {arguments[0]}, which the method did not start")


def _resolve(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function
