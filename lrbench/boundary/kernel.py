"""What the operating system can do for a process that runs foreign code. Where it cannot, each function says so by its answer."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 4, 36
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x20000, 0x10000000, 0x20000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
EXIT_SIGNAL = 128
PR_CAPBSET_DROP, CAPABILITY_VERSION = 24, 0x20080522
KILL_ROUNDS = 100


def die_with_parent() -> None:
    """Let the kernel end this process when the thread that started it is gone, even while the interpreter's lock is held."""
    if LINUX:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of what the processes below this one leave behind, so that it can be found and ended."""
    if LINUX:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def hide_memory() -> None:
    """Refuse other processes of this user a look into this one's memory and environment (root excepted, as always)."""
    if LINUX:
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0)


def end_first_when_memory_runs_out() -> None:
    """Let the kernel choose this process before others."""
    if LINUX:
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")


def own_process_space() -> bool:
    """Go on in a child that is the first process of a space of its own; False, and nothing changed, where there is none to be had.

    From in there no process outside can be seen or signalled, and all that was started in there ends with the first process.
    The process that called stays outside, waits, and exits as its child does. It must have one thread only.
    """
    if not LINUX:
        return False
    libc, user, group = ctypes.CDLL(None, use_errno=True), os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS):
        return False
    with contextlib.suppress(OSError):  # without these names a process has the same rights, only no name of its own
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    child = os.fork()
    if child:
        for descriptor in range(3, 64):  # what is on the wire is the child's alone
            with contextlib.suppress(OSError):
                os.close(descriptor)
        os._exit(as_exit_code(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
    die_with_parent()
    # A fresh /proc hides what the one outside shows of other processes; some containers refuse it, which hides a little less.
    if libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None) == 0:
        libc.mount(b"proc", b"/proc", b"proc", 0, None)
    return True


def give_up_rights() -> None:
    """Give up what rights over its own space this process has, for good: it could bring back the /proc of outside."""
    if LINUX:
        libc = ctypes.CDLL(None)
        for right in range(64):
            libc.prctl(PR_CAPBSET_DROP, right, 0, 0, 0)
        libc.capset((ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)())


def end_tree(pid: int, itself: bool = True) -> None:
    """End a process and all that descends from it, past the hook that spares the processes of others.

    Orphans have to come back to a process of the tree, see `adopt_orphans`.
    """
    import psutil

    kill = ctypes.CDLL(None).kill
    for _ in range(KILL_ROUNDS):  # what is killed may have forked meanwhile
        with contextlib.suppress(psutil.Error):
            found = [
                each for each in psutil.Process(pid).children(recursive=True) if each.status() != psutil.STATUS_ZOMBIE
            ]
            for process in found:
                kill(process.pid, signal.SIGKILL)
            if found:
                time.sleep(0.01)
                continue
        break
    if itself:
        kill(pid, signal.SIGKILL)


def spare_others(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse a signal to a process outside this session, such as the parent or another worker: for `sys.addaudithook`."""
    if event not in ("os.kill", "os.killpg") or arguments[1] == 0:
        return
    target = abs(arguments[0])
    everyone = event == "os.kill" and arguments[0] == -1
    if everyone or (target and os.getsid(target) != os.getsid(0)):
        raise PermissionError(f"signal {int(arguments[1])} to process {arguments[0]}, which the method did not start")


def as_exit_code(status: int) -> int:
    """Return the exit code that tells of a status: 128 and the signal's number, as a shell does."""
    return EXIT_SIGNAL - status if status < 0 else status


def as_status(code: int) -> int:
    """Return what `as_exit_code` was given; nobody can tell a code above 128 from a signal."""
    return EXIT_SIGNAL - code if code > EXIT_SIGNAL else code


def how_it_ended(status: int | None) -> str:
    """Say how a worker process ended: its exit code, a signal's number below 0, or None for one that may still be there."""
    if status is None:
        return "its worker process closed its connection"
    if status >= 0:
        return f"its worker process exited with code {status}"
    hint = " (out of memory?)" if -status == signal.SIGKILL else ""
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    return f"its worker process was ended by {name}{hint}"
