"""What is made of records: `lrbench leaderboard` and `lrbench compare`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lrbench.cli.app import app, write_text
from lrbench.errors import LrbenchError
from lrbench.pages.markdown import rows_of, unmarked
from lrbench.pages.terminal import as_text
from lrbench.store import lines_of


@app.command("leaderboard")
def leaderboard_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A results folder.")],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE.md", help="The page to write. Default: DIR/LEADERBOARD.md.")
    ] = None,
) -> None:
    """Compile records into a markdown page with figures."""
    from lrbench.leaderboard import write_leaderboard

    target = folder / "LEADERBOARD.md" if output is None else output
    if target.is_dir():
        raise LrbenchError(f"{target} is a folder, --output needs a file such as {target / 'LEADERBOARD.md'}")
    try:
        page, set_aside = write_leaderboard(folder, target)
    except OSError as error:
        raise LrbenchError(f"cannot write {error.filename}: {error.strerror}") from error
    for line in lines_of(set_aside, ", see the end of the page"):
        print(line, file=sys.stderr)
    print(standings(page.read_text(encoding="utf-8")))
    print(f"\npage     {page}\nfigures  {page.parent / 'figures'}")


@app.command("compare")
def compare_command(
    base: Annotated[str, typer.Argument(metavar="BASE", help="A results folder, or git REV or REV:FOLDER.")],
    head: Annotated[str, typer.Argument(metavar="HEAD", help="What is held against it, named the same way.")],
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Score to compare; repeatable. Default: all with a better direction."),
    ] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a markdown report.")] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write all of it as JSON.")
    ] = None,
    require_all: Annotated[
        bool, typer.Option("--require-all", help="Exit 1 too when head lacks a value that base has.")
    ] = False,
) -> None:
    """Say what got worse. Exit 0 nothing, 1 something, 2 bad input, 3 not comparable or cannot tell, 4 nothing measured."""
    from lrbench.leaderboard import compare_report
    from lrbench.leaderboard.compare import compare
    from lrbench.leaderboard.compare_source import read_base, read_side

    new, old = read_side(head), read_base(base)
    comparison = compare(old.records, new.records, metric or (), require_all)
    for path, render in ((markdown, compare_report.as_markdown), (as_json, compare_report.as_json)):
        if path is not None:
            write_text(path, render(comparison, old, new))
    print(compare_report.as_text(comparison, old, new))
    raise typer.Exit(comparison.exit_code)


def standings(page: str) -> str:
    """Return the page's first table for a terminal: every method, without the columns that only paper has room for."""
    rows = rows_of(page)
    kept = [column for column, heading in enumerate(rows[0]) if heading not in ("twin", "pair")]
    return as_text([[unmarked(row[column]) for column in kept] for row in rows])
