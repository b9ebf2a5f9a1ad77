"""How much memory a process and all that it started hold, what they share counted once."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import psutil

SMAPS = re.compile(rb"^(Pss|Pss_Shmem): +(\d+) kB", re.MULTILINE)


def held_mb(pid: int) -> float:
    """Return the megabytes (10^6 bytes) of a process and its descendants, those in memory files (memfd) included.

    Where the system does not tell what is shared, every process counts in full.
    """
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0.0
    total = mapped = 0.0
    files: dict[tuple[int, int], int] = {}
    for process in processes:
        with contextlib.suppress(psutil.Error, OSError):
            own, shared = _proportional(process)
            total, mapped = total + own, mapped + shared
            files |= _memory_files(process.pid)
    return (total + max(0.0, sum(files.values()) - mapped)) / 1e6


def _proportional(process: psutil.Process) -> tuple[float, float]:
    """Return the bytes of a process with its share of what it shares, and those of them that lie in memory files."""
    try:
        found = dict(SMAPS.findall(Path(f"/proc/{process.pid}/smaps_rollup").read_bytes()))
        return 1024.0 * int(found[b"Pss"]), 1024.0 * int(found[b"Pss_Shmem"])
    except (OSError, KeyError):
        return float(process.memory_info().rss), 0.0


def _memory_files(pid: int) -> dict[tuple[int, int], int]:
    """Return the sizes of the memory files that a process has open, which need not be mapped to hold memory."""
    found = {}
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(entry.path).startswith("/memfd:"):
                    facts = os.stat(entry.path)
                    found[facts.st_dev, facts.st_ino] = facts.st_blocks * 512
    return found
