"""`lrbench tune`."""

from __future__ import annotations

import difflib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrbench.cli.app import EXIT_FAILED_CELLS, EXIT_OK, app
from lrbench.cli.options import Device, Group, Memory, Out, Suite, Timeout, Workers
from lrbench.cli.run import report_of, with_progress
from lrbench.errors import LrbenchError

if TYPE_CHECKING:
    from lrbench.catalogue.source import MethodInfo
    from lrbench.tuning.report import Outcome


@app.command("tune")
def tune_command(
    method: Annotated[str, typer.Argument(metavar="NAME|FILE.py", help="A method with a GRID, or its file.")],
    suite: Suite = "quick",
    seeds: Annotated[int | None, typer.Option(metavar="N", help="Number of validation seeds. Default: 2.")] = None,
    out: Out = Path("results"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Leave the method's file as it is; show what would change.")
    ] = False,
    workers: Workers = None,
    device: Device = "auto",
    timeout: Timeout = None,
    memory: Memory = None,
    group: Group = 1,
) -> None:
    """Try every setting of a method's GRID on validation seeds and tasks; write the chosen values into its file."""
    from lrbench.catalogue.grid import grid_of, grid_text, settings_of
    from lrbench.running.study_run import cells_of, check_scale
    from lrbench.tuning.choice import blocks_of
    from lrbench.tuning.defaults import check_writable, with_defaults
    from lrbench.tuning.report import Outcome, write

    began = time.monotonic()
    check_scale(suite, seeds)
    info = _tunable(method)
    grid = grid_of(info.path)
    cells = cells_of("tune", suite, blocks_of([f"{info.source}{grid_text(grid)}"], seeds))
    page = out / f"tune-{info.name}-{suite}.md"
    if not dry_run:  # what cannot be written is an error now, not after the minutes of training
        check_writable(info.path)
        with_defaults(info.path, settings_of(grid)[0])
    limits: dict[str, Any] = {
        "workers": workers,
        "device": device,
        "timeout": timeout,
        "memory_gb": memory,
        "group": group,
    }
    summary = with_progress(cells, out, **limits)
    print(report_of(summary, out, time.monotonic() - began))
    outcome = Outcome(summary.records, grid)
    try:
        shown = write(outcome, info.name, suite, page)
    except OSError as error:
        raise LrbenchError(f"cannot write {error.filename or page}: {error.strerror}; name another --out") from error
    print(f"\n{shown}\n\npage    {page}\nfigure  {page.parent / 'figures' / page.stem}.png\n")
    if summary.failed:
        print(
            f"{info.path} stays as it is: {summary.failed} cells failed; repair them, or leave their values out of GRID"
        )
        raise typer.Exit(EXIT_FAILED_CELLS)
    _settle(info, outcome, dry_run)
    raise typer.Exit(EXIT_OK)


def _tunable(method: str) -> MethodInfo:
    """Return the one method that is named, or raise `LrbenchError` for several, a twin, or one with settings."""
    from lrbench.catalogue.methods import select_methods, split

    base, inside, twin = split(method)
    if twin or inside is not None:
        raise LrbenchError(f"{method}: expected a method as it is declared, such as {base}; a twin takes its settings")
    found = select_methods([method])
    if len(found) > 1:
        raise LrbenchError(f"{method}: names {len(found)} methods, expected one, such as {found[0].name}")
    return found[0]


def _settle(info: MethodInfo, outcome: Outcome, dry_run: bool) -> None:
    """Show what the choice changes in the method's file, and write it there."""
    from lrbench.catalogue.methods import source_hash
    from lrbench.tuning.defaults import check_defaults, with_defaults, write_text

    if source_hash(info.source) != info.source_hash:
        raise LrbenchError(f"{info.path}, or code it rests on, has changed since the run was planned: tune it again")
    if not outcome.changes:
        print(f"{info.path} stays as it is: its defaults are the choice")
        return
    before, after = info.path.read_bytes().decode(), with_defaults(info.path, outcome.changes)
    check_defaults(info.path, after, outcome.hyperparameters)
    name = str(info.path)
    print("".join(difflib.unified_diff(before.splitlines(True), after.splitlines(True), name, name, n=0)))
    if dry_run:
        print("dry run: nothing is written")
        return
    write_text(info.path, after)
    print(f"wrote {info.path}; it is another method now, so its cells run anew")
