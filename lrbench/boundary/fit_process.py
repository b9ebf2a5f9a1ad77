"""The program on the other side: it reads a view, lets a method fit, and sends the dictionary. It never holds a world.

A server of it belongs to each worker, has what takes long loaded and forks for each fit; inside a sandbox it fits once.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from lrbench.boundary import kernel, wire
from lrbench.boundary.blocks import Asker
from lrbench.boundary.messages import (
    Answer,
    Message,
    Noted,
    Reported,
    Request,
    Saved,
    Started,
    pack_dictionary,
    unpack_view,
)
from lrbench.boundary.training import fit, reset_process, settings_of
from lrbench.errors import NotApplicable, describe, one_line

if TYPE_CHECKING:
    from lrbench.longrun.report import Report
    from lrbench.method import Method

READY, CHILD, ENDED = b"ready", b"child", b"ended"  # what the server says, with a number, a line each


def serve_alone(control: int) -> None:
    """Be a server in a process of its own, see `serve`."""
    _preload()
    serve(control)


def serve(control: int) -> None:
    """Fork for each connection that comes over the control socket; tell each fork's number, then how it ended.

    This process runs nothing of a method, and no fork can reach it where the system gives them a process space of their own.
    """
    kernel.die_with_parent()
    with socket.socket(fileno=control) as line:
        line.sendall(b"%s 0\n" % READY)
        while True:
            asked, descriptors, _, _ = socket.recv_fds(line, 1, 1)
            if not asked:
                return
            child = os.fork()
            if not child:
                line.close()
                _fit_apart(descriptors[0])
            os.close(descriptors[0])
            line.sendall(b"%s %d\n" % (CHILD, child))
            line.sendall(b"%s %d\n" % (ENDED, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))


def _fit_apart(connection: int) -> None:
    """Fit in a child, end what it leaves running, and exit as it did."""
    kernel.die_with_parent()
    alone = kernel.own_process_space()
    if not alone:
        kernel.adopt_orphans()
    child = os.fork()
    if not child:
        os.setsid()
        kernel.die_with_parent()
        if alone:  # elsewhere they are the user's own
            kernel.give_up_rights()
        _silence()
        fit_once(socket.socket(fileno=connection))
    os.close(connection)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not alone:  # otherwise the kernel ends them with this process, the first of its space
        kernel.end_tree(os.getpid(), itself=False)
    os._exit(kernel.as_exit_code(status))


def serve_sandboxed(connection: int, user: int | None, memory: int, disk: int, processes: int) -> None:
    """Fit once, inside the walls of `lrbench.boundary.sandbox`, within limits (bytes; processes and threads in number).

    With a ``user`` this process is root's and becomes that user's, who owns nothing.
    """
    import resource
    import shutil

    from lrbench.boundary.sandbox import LOOPS, OWN_LOOPS

    with contextlib.suppress(OSError):  # another worker may be writing there: what is missing is compiled again
        shutil.copytree(LOOPS, OWN_LOOPS)
    if user is not None:
        for folder, _, names in os.walk(OWN_LOOPS):
            for place in (folder, *(os.path.join(folder, name) for name in names)):
                os.chown(place, user, user)
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    own = {"DATA": memory, "FSIZE": disk, "NPROC": processes + (os.cpu_count() or 1), "NOFILE": 256, "CORE": 0}
    for name, most in own.items():
        limit = getattr(resource, f"RLIMIT_{name}")
        allowed = resource.getrlimit(limit)[1]
        most = most if allowed == resource.RLIM_INFINITY else min(most, allowed)
        resource.setrlimit(limit, (most, most))
    _preload()
    _silence()
    fit_once(socket.socket(fileno=connection))


def fit_once(connection: socket.socket) -> None:
    """Answer one request and end the process."""
    kernel.end_first_when_memory_runs_out()
    sys.addaudithook(kernel.spare_others)
    header, body = wire.receive(connection)
    key, pid = str(header.pop("key")), os.getpid()
    request = Request.model_validate(header)
    line = _Line(connection, key, Asker(connection, key, tuple(request.stream or ())))
    answer, tensors = _answer(request, body, line)
    if os.getpid() == pid:  # a fork that the method made may not answer
        line.ask.await_turn()  # where it does not come, the answer goes without: what is torn over there is a breach
        with contextlib.suppress(OSError):
            wire.send(connection, answer.model_dump(), tensors)
    os._exit(0)


class _Line:
    """What this process says before it answers; a `lrbench.longrun.keeper.Sink`."""

    def __init__(self, connection: socket.socket, key: str, ask: Asker) -> None:
        self.connection, self.key, self.ask, self._pid = connection, key, ask, os.getpid()

    def say(self, message: Message, body: bytes = b"") -> None:
        """Send a message; a fork that the method made has nothing to say."""
        if os.getpid() == self._pid:
            with self.ask.in_turn():  # a block that was asked for ahead comes first
                wire.send(self.connection, message.model_dump(), body)

    def checkpoint(self, content: bytes) -> None:
        self.say(Saved(key=self.key), content)

    def report(self, report: Report) -> None:
        self.say(Reported(key=self.key, report=report))

    def note(self, text: str) -> None:
        self.say(Noted(key=self.key, text=text))


def _answer(request: Request, body: bytearray, line: _Line) -> tuple[Answer, bytes]:
    from lrbench.catalogue.methods import canonical, load_method
    from lrbench.longrun.keeper import Keeping

    key, kept = line.key, request.kept
    try:
        reset_process(request.seed)
        if request.settings is not None:
            return Answer(key=key, status="ok", names=canonical(request.source, request.settings)), b""
        saved = bytes(wire.receive(line.connection)[1]) if kept is not None and kept.resumes else None
        method: Method = load_method(request.source)
        line.say(Started(key=key, hyperparameters=settings_of(method)))
        view = unpack_view(request, body, line.ask).to(request.device)
        body.clear()
        if kept is not None:
            view = replace(view, keeper=Keeping(line, kept.every, kept.rows, saved).keeper(view))
        dictionary, spent, _ = fit(method, view, request.seed, request.threads)
        facts, tensors = pack_dictionary(dictionary)
        return Answer(key=key, status="ok", dictionary=facts, spent=spent), tensors
    except NotApplicable as why:
        return Answer(key=key, status="skipped", reason=one_line(str(why))), b""
    except BaseException as error:
        reason, trace = describe(error)
        return Answer(key=key, status="failed", reason=reason, traceback=trace), b""


def _preload() -> None:
    import lrbench.catalogue.methods
    import lrbench.sdl
    import lrbench.twins  # noqa: F401


def _silence() -> None:
    """Leave the terminal to the run."""
    with open(os.devnull, "r+b", buffering=0) as null:
        for descriptor in (0, 1, 2):
            os.dup2(null.fileno(), descriptor)
