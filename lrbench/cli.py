"""The command line. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from lrbench.errors import LrbenchError

if TYPE_CHECKING:
    from lrbench.progress import RunProgress
    from lrbench.record import Record
    from lrbench.runner import Summary

EXIT_OK, EXIT_FAILED_CELLS, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
CAUSES_SHOWN = 20
UsageError: Any = typer.BadParameter.__base__  # typer brings its own click or shares one, depending on the version

app = typer.Typer(
    help="Linear Representation Bench: which sparse dictionary learning method recovers the true features?",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Catalogue(str, Enum):
    """What can be listed."""

    tasks = "tasks"
    methods = "methods"
    suites = "suites"


@app.command("list")
def list_command(
    what: Annotated[Catalogue, typer.Argument(help="tasks, methods or suites")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """List the tasks, methods or suites."""
    from lrbench import registry

    find: dict[Catalogue, Any] = {
        Catalogue.tasks: registry.task_catalogue,
        Catalogue.methods: registry.method_catalogue,
        Catalogue.suites: registry.suites,
    }
    rows = [asdict(info) for info in find[what]()]
    if as_json:
        print(json.dumps(rows, indent=1, default=str))
        return
    shown = {
        Catalogue.tasks: ["name", "suites"],
        Catalogue.methods: ["name", "kind", "pair"],
        Catalogue.suites: ["name", "seeds"],
    }
    print(_table([[*(_text(row[column]) for column in shown[what]), row["summary"]] for row in rows]))


@app.command("run")
def run_command(
    suite: Annotated[str, typer.Option(help="Which suite, see `lrbench list suites`.")] = "quick",
    task: Annotated[
        list[str] | None, typer.Option(help="Task name, glob or FILE.py; repeatable. Default: the suite's.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Method name, glob or FILE.py; repeatable. Default: all.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Number of seeds. Default: the suite's.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the records.")] = Path("results"),
    workers: Annotated[int | None, typer.Option(help="Number of processes. Default: one per core.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    timeout: Annotated[float | None, typer.Option(help="Seconds that one cell may take.")] = None,
    memory: Annotated[float | None, typer.Option(help="GB that the process of one cell may hold.")] = None,
    certify: Annotated[bool, typer.Option("--certify", help="Store the theory's certificate in every record.")] = False,
) -> None:
    """Run every cell (task, method, seed) that has no record yet."""
    from lrbench import runner
    from lrbench.progress import RunProgress

    began = time.monotonic()
    progress = RunProgress()
    try:
        with progress:
            summary = runner.run(
                suite,
                task or (),
                method or (),
                seeds=seeds,
                out=out,
                workers=workers,
                device=device,
                timeout=timeout,
                memory_gb=memory,
                certify=certify,
                reporter=progress,
            )
    except KeyboardInterrupt:
        _interrupted(progress, out)
    print(_report(summary, out, time.monotonic() - began))
    raise typer.Exit(EXIT_FAILED_CELLS if summary.failed else EXIT_OK)


@app.command("leaderboard")
def leaderboard_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A results folder.")],
    output: Annotated[Path | None, typer.Option(help="The page to write. Default: DIR/LEADERBOARD.md.")] = None,
) -> None:
    """Compile records into a markdown page with figures."""
    from lrbench.leaderboard import write_leaderboard

    target = folder / "LEADERBOARD.md" if output is None else output
    if target.is_dir():
        raise LrbenchError(f"{target} is a folder, --output needs a file such as {target / 'LEADERBOARD.md'}")
    try:
        page = write_leaderboard(folder, target)
    except OSError as error:
        raise LrbenchError(f"cannot write {error.filename}: {error.strerror}") from error
    print(_standings(page.read_text(encoding="utf-8")))
    print(f"\npage     {page}\nfigures  {page.parent / 'figures'}")


@app.command("new")
def new_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The method's name, such as my_sae.")],
) -> None:
    """Write the first file of a method: into methods/ inside a clone, else into this folder."""
    from lrbench.scaffold import new_method

    path = new_method(name, Path.cwd())
    file = os.path.relpath(path)
    print(f"wrote {file}\nedit it, then\n  lrbench check {file}\n  lrbench run --suite quick --method {file}")


@app.command("check")
def check_command(
    method: Annotated[str, typer.Argument(metavar="NAME|FILE.py", help="A method of the catalogue, or its file.")],
) -> None:
    """Check that a method keeps the contract, one line a check; exit code 1 when it does not."""
    from lrbench.check import CHECKS, check_method
    from lrbench.registry import select_methods

    width = max(len(check.name) for check in CHECKS)
    broken = 0
    for info in select_methods([method]):
        statuses = []
        for verdict in check_method(info):
            print(f"{verdict.check:<{width}}  {verdict.status:<4}  {verdict.reason}", flush=True)
            statuses.append(verdict.status)
        failed = statuses.count("FAIL")
        broken += failed
        result = f"breaks the contract: {failed} of {len(statuses)} checks failed" if failed else "keeps the contract"
        print(f"{info.name} {result}")
    raise typer.Exit(EXIT_FAILED_CELLS if broken else EXIT_OK)


@app.command("certify")
def certify_command(
    dictionary: Annotated[Path, typer.Argument(metavar="DICTIONARY.safetensors", help="A file from Dictionary.save.")],
    task: Annotated[str, typer.Option(help="The task whose world it is held against.")],
    suite: Annotated[str, typer.Option(help="Which suite, see `lrbench list suites`.")] = "quick",
    seed: Annotated[int, typer.Option(help="The world's seed.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Say which of the theory's statements hold for a trained dictionary, by how much, and where they break."""
    from rich.console import Console

    from lrbench.dictionary import Dictionary
    from lrbench.registry import load_task
    from lrbench.theory import certify
    from lrbench.theory.report import as_tables

    certificate = certify(Dictionary.load(dictionary), load_task(task, suite, seed).world)
    if as_json:
        print(json.dumps(certificate.to_dict(), indent=1, allow_nan=False))
        return
    Console().print(as_tables(certificate, f"{dictionary.name} on {task}, suite {suite}, seed {seed}"))


@app.command("falsify")
def falsify_command(
    suite: Annotated[str, typer.Option(help="The scale, see `lrbench list suites`.")] = "quick",
    seeds: Annotated[int | None, typer.Option(help="Number of seeds. Default: 3.")] = None,
    out: Annotated[Path, typer.Option(help="The page to write; its figure goes to figures/ beside it.")] = Path(
        "docs/falsification.md"
    ),
    workers: Annotated[int | None, typer.Option(help="Number of processes. Default: one per core.")] = None,
) -> None:
    """Train every SDL method where the theory predicts an outcome, and write down which predictions hold."""
    from lrbench.falsify.report import shown, write_page
    from lrbench.falsify.run import check_arguments, train

    began = time.monotonic()
    seeds, workers = check_arguments(suite, seeds, workers)
    try:  # before the minutes of training
        (out.parent / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LrbenchError(f"cannot write into {out.parent}: {error.strerror}; name another --out") from error
    if out.is_dir():
        raise LrbenchError(f"{out} is a folder, --out needs a file such as {out / 'falsification.md'}")
    outcomes = train(suite, seeds, workers)
    try:
        results = write_page(suite, seeds, outcomes, out)
    except OSError as error:
        raise LrbenchError(f"cannot write {error.filename or out}: {error.strerror}; name another --out") from error
    rows = [["prediction", "observed", "verdict"]]
    print(_table(rows + [[r.prediction.title, shown(r.base.seen), r.base.verdict] for r in results]))
    print(f"\npage  {out}, {len(outcomes)} cells in {time.monotonic() - began:.0f} s")


@app.command("compare")
def compare_command(
    base: Annotated[str, typer.Argument(metavar="BASE", help="A results folder, or git REV or REV:FOLDER.")],
    head: Annotated[str, typer.Argument(metavar="HEAD", help="What is held against it, named the same way.")],
    metric: Annotated[
        list[str] | None, typer.Option(help="Score to compare; repeatable. Default: headline and f1.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option(help="Also write a markdown report.")] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Also write all of it as JSON.")] = None,
) -> None:
    """Say what got worse. Exit 0 nothing, 1 something, 2 bad input, 3 not comparable or no base, 4 nothing measured."""
    from lrbench.leaderboard import compare_report
    from lrbench.leaderboard.compare import compare
    from lrbench.leaderboard.compare_source import read_base, read_side

    new, old = read_side(head), read_base(base)
    comparison = compare(old.records, new.records, metric or ())
    for path, render in ((markdown, compare_report.as_markdown), (as_json, compare_report.as_json)):
        if path is not None:
            _write_text(path, render(comparison, old, new))
    print(compare_report.as_text(comparison, old, new))
    raise typer.Exit(comparison.exit_code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 fine, 1 a cell failed, 2 bad input, 130 interrupted."""
    try:
        code = app(arguments, prog_name="lrbench", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else EXIT_OK
    except UsageError as error:
        return _complain(error.format_message())
    except LrbenchError as error:
        return _complain(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `lrbench list tasks | head` is no error
        return EXIT_OK


def _write_text(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LrbenchError(f"cannot write {path}: {error.strerror}; name another file") from error


def _complain(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return EXIT_USAGE


def _interrupted(progress: RunProgress, out: Path) -> NoReturn:
    done, total = progress.stored + progress.ended, progress.stored + progress.total
    print(
        f"interrupted: {done} of {total} cells are stored in {out}; the same command goes on from there",
        file=sys.stderr,
    )
    raise typer.Exit(EXIT_INTERRUPTED)


def _report(summary: Summary, out: Path, seconds: float) -> str:
    """Say what a run came to: cells per status, then every reason behind what is not ok."""
    from lrbench.store import Store

    records = summary.records
    counts = Counter(record.status for record in records)
    lines = [f"{len(records)} cells in {out}: {summary.done} were stored already, {summary.ran} ran in {seconds:.0f} s"]
    lines.append(_table([[f"  {status}", str(counts[status])] for status in ("ok", "skipped", "failed")]))
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


def _standings(page: str) -> str:
    """Return the page's first table for a terminal: every method, without the columns that only paper has room for."""
    lines = itertools.dropwhile(lambda line: not line.startswith("|"), page.splitlines())
    table = [line.strip("| ").split(" | ") for line in itertools.takewhile(lambda line: line.startswith("|"), lines)]
    kept = [number for number, heading in enumerate(table[0]) if heading not in ("twin", "pair")]
    plain = str.maketrans("", "", "*`")
    return _table([[row[number].translate(plain) for number in kept] for row in [table[0], *table[2:]]])


def _table(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
    sys.exit(main())
