"""What a process that may run foreign code is started with: modules from where they are installed, and no secrets."""

from __future__ import annotations

import os
import sys

SALT = "LRBENCH_SALT"

# One thread per process unless told otherwise, whatever the number of processes: sums come out in the same order, so records are equal.
ONE_THREAD = dict.fromkeys(
    ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"], "1"
)


def safe_path() -> list[str]:
    """Return where this process finds modules, without the working folder: a ``random.py`` that lies there is not Python's."""
    here = os.path.realpath(os.getcwd())
    return [place for place in sys.path if place and os.path.realpath(place) != here]


def safe_environment() -> dict[str, str]:
    """Return the environment without the salt, and with one thread per process."""
    return {name: value for name, value in os.environ.items() if name != SALT} | ONE_THREAD
