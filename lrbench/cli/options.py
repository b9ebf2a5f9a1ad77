"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Suite = Annotated[str, typer.Option(metavar="NAME", help="Which suite, see `lrbench list suites`.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the records.")]
Workers = Annotated[int | None, typer.Option(metavar="N", help="Number of processes. Default: one per core.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu or cuda.")]
Timeout = Annotated[float | None, typer.Option(metavar="SECONDS", help="Seconds that one cell may take.")]
Memory = Annotated[float | None, typer.Option(metavar="GB", help="GB that the process of one cell may hold.")]
