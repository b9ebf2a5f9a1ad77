"""`lrbench run`, `lrbench study` and its short name `lrbench falsify`."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrbench.cli.app import EXIT_FAILED_CELLS, EXIT_OK, Interrupted, app
from lrbench.cli.interrupt import end_at_once_until
from lrbench.cli.options import Device, Group, Memory, Out, Suite, Timeout, Workers
from lrbench.errors import LrbenchError
from lrbench.pages.terminal import as_text

if TYPE_CHECKING:
    from lrbench.record import Record
    from lrbench.running.cell import Cell
    from lrbench.running.runner import Summary

CAUSES_SHOWN = 20
FRUGAL = 0.95  # share of the budget that a method spends unless it stops by a rule of its own
Seeds = Annotated[int | None, typer.Option(metavar="N", help="Number of seeds. Default: the study's.")]
Page = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The page to write. Default: NAME-SUITE.md in the folder of the records."),
]
FromRecords = Annotated[
    bool,
    typer.Option(
        "--from-records", help="Run nothing: write the page from the records in DIR, or from the committed ones."
    ),
]
Pack = Annotated[
    bool, typer.Option("--pack", help="Go on from the committed file beside the study, and write the records into it.")
]


@app.command("run")
def run_command(
    suite: Suite = "quick",
    task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Task name, glob, family[value] or FILE.py; repeatable. Default: the suite's."
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Method name, glob, name[key=value] or FILE.py; repeatable. Default: all."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(metavar="N", help="Number of seeds. Default: the suite's.")] = None,
    out: Out = Path("results"),
    workers: Workers = None,
    device: Device = "auto",
    timeout: Timeout = None,
    memory: Memory = None,
    group: Group = 1,
    certify: Annotated[bool, typer.Option("--certify", help="Store the theory's certificate in every record.")] = False,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Let every method fit inside a sandbox (bubblewrap).")
    ] = False,
    salt: Annotated[
        str | None,
        typer.Option(
            metavar="SALT",
            help="Run on worlds that no public seed describes. Default: LRBENCH_SALT, which other users cannot read.",
        ),
    ] = None,
    checkpoint_every: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="How often a cell in training is saved; a killed run goes on from there."),
    ] = 600.0,
    log: Annotated[
        bool, typer.Option("--log", help="Write loss, L0, FVU and dead latents of every SDL training as CSV.")
    ] = False,
) -> None:
    """Run every cell (task, method, seed) that has no record yet."""
    from lrbench.running.runner import plan

    began = time.monotonic()
    cells = [
        replace(cell, certify=certify)
        for cell in plan(suite, task or (), method or (), seeds, salt=salt, sandbox=sandbox)
    ]
    if not cells:
        raise LrbenchError("these tasks ask for no method, so there is no cell to run: name one with --method")
    limits = {"workers": workers, "device": device, "timeout": timeout, "memory_gb": memory, "group": group}
    summary = with_progress(cells, out, **limits, checkpoint_every=checkpoint_every, log=log)
    print(report_of(summary, out, time.monotonic() - began))
    raise typer.Exit(EXIT_FAILED_CELLS if summary.failed else EXIT_OK)


@app.command("study")
def study_command(
    name: Annotated[
        str, typer.Argument(metavar="NAME|FILE.py", help="A study, see `lrbench list studies`, or its file.")
    ],
    suite: Suite = "quick",
    seeds: Seeds = None,
    out: Out = Path("results"),
    page: Page = None,
    from_records: FromRecords = False,
    pack: Pack = False,
    workers: Workers = None,
    device: Device = "auto",
    timeout: Timeout = None,
    memory: Memory = None,
    group: Group = 1,
) -> None:
    """Run the cells of a study that have no record yet, then write its page from the records."""
    from lrbench.catalogue.studies import find_study, load_study
    from lrbench.running.study_run import (
        committed_records,
        outdated,
        study_cells,
        study_records,
        study_rounds,
        take_committed,
    )
    from lrbench.store import write_packed

    began = time.monotonic()
    info = find_study(name)
    target = out / f"{info.name}-{suite}.md" if page is None else page
    if out.suffix == ".md" or target.is_dir():
        raise LrbenchError(
            f"--out {out} is the folder of the records, --page names the page, such as {out / 'page.md'}"
        )
    first = study_cells(info, suite, seeds)
    try:  # before the minutes of training
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LrbenchError(f"cannot write into {target.parent}: {error.strerror}; name another --page") from error
    rounds: list[Summary] = []
    committed, taken = committed_records(info, suite) if pack else {}, 0
    limits: dict[str, Any] = {"workers": workers, "timeout": timeout, "memory_gb": memory, "group": group}

    def run_round(cells: Sequence[Cell]) -> list[Record]:
        nonlocal taken
        taken += take_committed(cells, committed, out, device)
        rounds.append(with_progress(cells, out, device=device, **limits))
        return rounds[-1].records

    if not from_records:
        study_rounds(info, suite, seeds, first, run_round)
    report = report_of(_in_all(rounds), out, time.monotonic() - began) if rounds else ""
    report += f"\n{taken} of the stored were taken from {info.packed(suite)}" if taken else ""
    try:  # the page is written before anything is printed, and a page that cannot be made hides no report
        cells, records, origin = study_records(info, suite, seeds, first, out, together=pack)
        try:
            shown = load_study(info.source).write(records, suite, target)
        except OSError as error:
            unwritten = f"cannot write {error.filename or target}: {error.strerror}; name another --page"
            raise LrbenchError(unwritten) from error
        if pack:
            write_packed(info.packed(suite), records)
    finally:
        if report:
            print(report)
    if len(records) < len(cells):
        print(f"{len(cells) - len(records)} of {len(cells)} cells have no record in {origin}", file=sys.stderr)
    if older := outdated(cells, records):
        print(
            f"{older} of {len(records)} records are of other code or worlds than here: trained anew, they may differ",
            file=sys.stderr,
        )
    print(f"{shown}\n\npage  {target}, from {len(records)} records in {origin}")
    raise typer.Exit(EXIT_FAILED_CELLS if any(summary.failed for summary in rounds) else EXIT_OK)


@app.command(
    "falsify",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def falsify_command(context: typer.Context) -> None:
    """Short for `lrbench study falsify`, with its options: the theory's predictions, held against trained dictionaries."""
    whole = context.find_root().command
    code = whole.main(["study", "falsify", *context.args], prog_name="lrbench", standalone_mode=False)
    raise typer.Exit(code if isinstance(code, int) else EXIT_OK)


def with_progress(cells: Sequence[Cell], out: Path, **limits: Any) -> Summary:
    """Run cells behind the progress bar; ctrl-C ends the command."""
    from lrbench.running.progress import RunProgress
    from lrbench.running.runner import run_cells

    progress = RunProgress()
    end_at_once_until(lambda: progress.total > 0)
    try:
        with progress:
            return run_cells(cells, out, reporter=progress, **limits)
    except KeyboardInterrupt:
        done, total = progress.stored + progress.ended, progress.stored + progress.total
        said = f"{done} of {total} cells are stored in {out}; the same command goes on from there"
        raise Interrupted(said) from None


def _in_all(rounds: Sequence[Summary]) -> Summary:
    """Return the rounds of a study as one run."""
    from lrbench.running.runner import Summary

    counts = {name: sum(getattr(each, name) for each in rounds) for name in ("done", "ran", "failed", "skipped")}
    return Summary(**counts, records=[record for each in rounds for record in each.records])


def report_of(summary: Summary, out: Path, seconds: float) -> str:
    """Say what a run came to: cells per status, then every reason behind what is not ok."""
    from lrbench.store import Store

    records = summary.records
    counts = Counter(record.status for record in records)
    lines = [f"{len(records)} cells in {out}: {summary.done} were stored already, {summary.ran} ran in {seconds:.0f} s"]
    lines.append(as_text([[f"  {status}", str(counts[status])] for status in ("ok", "skipped", "failed")]))
    lines += _frugal(records)
    causes: dict[tuple[str, str, str | None], list[Record]] = {}
    for record in records:
        if record.status != "ok":
            causes.setdefault((record.status, record.method, record.reason), []).append(record)
    for (status, method, reason), cells in [*causes.items()][:CAUSES_SHOWN]:
        lines.append(f"{method} {status} on {len(cells)} of its cells: {reason}")
        where = "traceback" if cells[0].traceback else "record"
        lines.append(f"  {cells[0].id}: {where} in {Store(out).path(cells[0].suite, cells[0].key)}")
    if len(causes) > CAUSES_SHOWN:
        lines.append(f"and {len(causes) - CAUSES_SHOWN} more reasons, see the records")
    return "\n".join(lines)


def _frugal(records: Sequence[Record]) -> list[str]:
    """Name the methods that stopped before their budget was spent, with the share that they took on average."""
    shares: dict[str, list[float]] = {}
    for record in records:
        if record.spent is not None:
            shares.setdefault(record.method, []).append(record.spent.share)
    means = {method: fmean(own) for method, own in shares.items()}
    found = [f"{method} {share:.0%}" for method, share in means.items() if share < FRUGAL]
    return [f"spent less than {FRUGAL:.0%} of the budget: {', '.join(found)}"] if found else []
