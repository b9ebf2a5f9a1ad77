"""The worker's side of `lrbench.running.pool`: a process that does jobs which may do anything to it."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import forkserver, parent_process, resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from lrbench.boundary import kernel
from lrbench.errors import describe

_LINE: list[tuple[Connection, int]] = []  # of this process to the run, and its number; empty where it is no worker


def tell(kind: str, content: Any) -> None:
    """Say something of the job at hand to the run: ``"told"``, with anything, or ``"spent"``, with more seconds that count for it.

    A process that is no worker, or a fork of one, says nothing.
    """
    for connection, pid in _LINE:
        if os.getpid() == pid:
            connection.send((kind, content))


def serve(connection: Connection, work: str, setup: str | None, environment: dict[str, str]) -> None:
    """Take a job, do it, answer; until the parent closes the pipe, is gone, or says that the job is the last."""
    os.environ.clear()
    os.environ.update(environment)  # this process is forked from one that may be older than a change to it
    _detach()
    pid = os.getpid()
    _LINE[:] = [(connection, pid)]
    problem = None
    try:
        if setup is not None:
            _resolve(setup)()  # before any job is here: what it forks must not know one
        kernel.hide_memory()  # what it will hold is not for the processes that fit
        function = _resolve(work)
    except BaseException as error:
        problem = describe(error)
    while True:
        try:
            job, last = connection.recv()
        except EOFError:
            return
        try:
            connection.send(("started", None))
            answer = ("failed", problem) if problem else ("result", function(job))
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
            # The parent ends this process and what it left running, unless the answer did not get through.
            time.sleep(1)
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
    if kernel.LINUX:
        kernel.die_with_parent()  # with the fork server, which ends with the run
    else:
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    kernel.end_first_when_memory_runs_out()
    if not parent.is_alive():
        os._exit(1)
    sys.addaudithook(kernel.spare_others)


def _die_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _resolve(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function
