"""A sandbox for one fit, by bubblewrap: no network, a read-only system without the user's files, and limits on what it can use."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from lrbench.boundary import kernel
from lrbench.errors import LrbenchError, one_line

INSTALL = "install bubblewrap (Debian, Ubuntu: apt install bubblewrap), or run without --sandbox"
SYSTEM = (
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/bin",
    "/sbin",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/sys/devices/system/cpu",
)
KEPT = ("LANG", "LD_LIBRARY_PATH", "LRBENCH_ENGINE", "CUDA_VISIBLE_DEVICES")
FIRST_USER, USERS = 60_000, 5_000  # nobody in particular: a fit of its own user has a count of processes of its own
LOOPS, OWN_LOOPS = "/loops", "/tmp/loops"


@dataclass(frozen=True)
class Limits:
    """What a fit in a sandbox may use.

    Parameters
    ----------
    memory_gb
        Memory of all its processes together, in 10^9 bytes.
    disk_mb
        Size of its temporary folder, of its shared memory and of one file, each, in 10^6 bytes.
    processes
        Processes and threads, beside one for each core.
    """

    memory_gb: float = 2.0
    disk_mb: int = 256
    processes: int = 64


def require_sandbox() -> None:
    """Raise `LrbenchError` where bubblewrap is missing or the system does not let it make a sandbox."""
    if shutil.which("bwrap") is None:
        raise LrbenchError(f"--sandbox: bubblewrap is not installed, nothing ran: {INSTALL}")
    tried = subprocess.run(
        [*_walls(1), *_bound(_themselves(SYSTEM)), "--", "/usr/bin/true"], capture_output=True, stdin=subprocess.DEVNULL
    )
    if tried.returncode:
        said = one_line(tried.stderr.decode(errors="replace")) or f"exit code {tried.returncode}"
        raise LrbenchError(
            f"--sandbox: bubblewrap cannot make a sandbox here, nothing ran ({said}): allow user namespaces, or run without --sandbox"
        )


class Sandboxed:
    """A process in a sandbox that does one request, and its connection.

    Parameters
    ----------
    source
        The method's file, the only one of the user's that the sandbox shows; None for a method of the catalogue.
    limits
        What it may use.
    command
        From a call in `lrbench.boundary.fit_process` to the command line that makes it.
    path
        Where Python finds modules.
    """

    def __init__(
        self, source: Path | None, limits: Limits, command: Callable[[str], list[str]], path: Sequence[str]
    ) -> None:
        from lrbench.jit import cache_folder

        self.connection, theirs = socket.socketpair()
        shown = _themselves([*SYSTEM, *_installed(path), *_packages(), sys.prefix, sys.base_prefix])
        shown[LOOPS] = str(cache_folder())
        copied = [] if source is None else [os.memfd_create("method")]  # whoever may read the original
        for file in copied:
            os.write(file, Path(str(source)).read_bytes())
            os.lseek(file, 0, os.SEEK_SET)
        own = [word for file in copied for word in ("--perms", "0644", "--ro-bind-data", str(file), str(source))]
        user = FIRST_USER + os.getpid() % USERS if _gives_up_root() else None
        memory, disk = int(limits.memory_gb * 1e9), limits.disk_mb * 1_000_000
        with theirs:
            call = f"fit_process.serve_sandboxed({theirs.fileno()}, {user}, {memory}, {disk}, {limits.processes})"
            self._process = subprocess.Popen(
                [
                    *_walls(limits.disk_mb),
                    *_bound(shown, source),
                    *own,
                    "--remount-ro",
                    "/",
                    *_settings(),
                    "--",
                    *command(call),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno(), *copied],
            )
        for file in copied:
            os.close(file)

    @property
    def pid(self) -> int:
        """Of the process that all others of the sandbox descend from."""
        return self._process.pid

    def ended(self, seconds: float) -> int | None:
        """Return the exit status once all has ended, negative for a signal, after waiting for as long."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        return kernel.as_status(status)

    def said(self) -> str:
        """Return the last line that it complained of before it could begin, once it has ended."""
        assert self._process.stderr is not None
        lines = self._process.stderr.read().decode(errors="replace").splitlines()
        return one_line(lines[-1]) if lines else ""

    def end(self) -> None:
        """End the sandbox: the kernel takes all its processes with it."""
        assert self._process.stderr is not None
        self.connection.close()
        self._process.kill()
        self._process.wait()
        self._process.stderr.close()


def _themselves(places: Sequence[str]) -> dict[str, str]:
    return {place: place for place in map(os.path.abspath, places) if place != "/"}


def _installed(path: Sequence[str]) -> list[str]:
    """Those places where Python finds modules that are of an installation: a project's folder may hold anything."""
    roots = [os.path.realpath(root) for root in (sys.prefix, sys.base_prefix)]
    return [
        place
        for place in path
        if os.path.basename(place) in ("site-packages", "dist-packages")
        or any(os.path.realpath(place).startswith(root + os.sep) for root in roots)
    ]


def _packages() -> list[str]:
    """The folders of lrbench, which need not lie where Python finds modules: an installation may point to a clone."""
    rooms = [find_spec(f"lrbench.{room}") for room in ("methods", "tasks", "leaderboard")]
    homes = [place for spec in rooms if spec is not None for place in spec.submodule_search_locations or ()]
    return [str(Path(__file__).parents[1]), *homes]


def _gives_up_root() -> bool:
    """Whether this is root and can become one of our users: not inside a container that has a single one."""
    if os.geteuid():
        return False
    ranges = [map(int, line.split()) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return any(first <= FIRST_USER and first + count >= FIRST_USER + USERS for first, _, count in ranges)


def _walls(disk_mb: int) -> list[str]:
    """What separates the sandbox; as root it needs no user namespace, and the program inside becomes an ordinary user."""
    size = ["--size", str(disk_mb * 1_000_000)]
    return [
        *("bwrap", "--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox"),
        *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
        *([] if _gives_up_root() else ["--unshare-user"]),
        *("--proc", "/proc", "--dev", "/dev"),
        *(*size, "--perms", "1777", "--tmpfs", "/dev/shm", "--remount-ro", "/dev"),
        *(*size, "--perms", "1777", "--tmpfs", "/tmp"),
    ]


def _bound(files: dict[str, str], source: Path | None = None) -> list[str]:
    """Show files and folders, read-only, at their places; the folders above them are made, open to everybody and else empty."""
    above = sorted(
        {str(folder) for place in (*files, source or "/") for folder in Path(place).parents} - {"/", "/dev", "/tmp"}
    )
    cards = sorted(map(str, Path("/dev").glob("nvidia*")))
    return [
        *(word for folder in above for word in ("--perms", "0755", "--dir", folder)),
        *(word for place, source in files.items() for word in ("--ro-bind-try", source, place)),
        *(word for card in cards for word in ("--dev-bind-try", card, card)),
    ]


def _settings() -> list[str]:
    values = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "USER": "sandbox",
        "NUMBA_CACHE_DIR": OWN_LOOPS,
    }
    values |= {name: value for name, value in os.environ.items() if name in KEPT or name.endswith("_NUM_THREADS")}
    return [word for name, value in values.items() for word in ("--setenv", name, value)]
