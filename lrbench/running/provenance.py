"""Where a record comes from: versions, the commit, the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from lrbench.record import Provenance

DISTRIBUTION = "linear-representation-bench"
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "numba")
CODE = (".", "../methods", "../tasks")  # what results depend on, from the package's folder


def provenance_of(device: str) -> Provenance:
    """Facts on this installation; commit and dirty flag are None where lrbench does not run from a git checkout."""
    commit = _git("rev-parse", "HEAD") if _git("ls-files", "--error-unmatch", "__init__.py") else None
    changes = _git("status", "--porcelain", "--", *CODE) if commit else None
    return Provenance(
        lrbench=metadata.version(DISTRIBUTION),
        python=platform.python_version(),
        platform=platform.platform(),
        packages={name: metadata.version(name) for name in PACKAGES},
        commit=commit,
        dirty=None if changes is None else bool(changes),
        device=device,
        engine=engine_asked_for(),
        isolation="none",
    )


def engine_asked_for() -> str:
    """The engine's path for training on a CPU, without loading it: see `lrbench.engine.mode.describe`."""
    return "reference" if find_spec("numba") is None else os.environ.get("LRBENCH_ENGINE") or "auto"


def _git(*arguments: str) -> str | None:
    """What git says about the package's folder, or None when there is no git or it refuses."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
