"""Options that several commands have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from lrbench.errors import LrbenchError

PROCESSES_PER_CORE = 16  # more only wait for one another, and each takes memory


def few_enough(workers: int | None) -> int | None:
    """Return the number of processes, or raise `LrbenchError` for more than this machine can serve."""
    most = PROCESSES_PER_CORE * (os.cpu_count() or 1)
    if workers is not None and workers > most:
        raise LrbenchError(f"workers={workers}: expected at most {most}, {PROCESSES_PER_CORE} per core")
    return workers


Suite = Annotated[str, typer.Option(metavar="NAME", help="Which suite, see `lrbench list suites`.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the records.")]
Workers = Annotated[
    int | None, typer.Option(metavar="N", callback=few_enough, help="Number of processes. Default: one per core.")
]
Group = Annotated[
    int,
    typer.Option(
        metavar="N", help="How many SDL dictionaries train in one program at most: for a GPU, see docs/performance.md."
    ),
]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu or cuda.")]
Timeout = Annotated[float | None, typer.Option(metavar="SECONDS", help="Seconds that one cell may take.")]
Memory = Annotated[float | None, typer.Option(metavar="GB", help="GB that the process of one cell may hold.")]
