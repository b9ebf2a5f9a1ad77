"""What is made of records: `lrbench leaderboard`, `lrbench pack` and `lrbench compare`."""

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
    folder: Annotated[Path, typer.Argument(metavar="DIR|FILE", help="A results folder, or a packed file.")],
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE.md", help="The page to write. Default: LEADERBOARD.md in DIR, or beside FILE."),
    ] = None,
) -> None:
    """Compile records into a markdown page with figures."""
    from lrbench.leaderboard import write_leaderboard

    if output is not None and output.is_dir():
        raise LrbenchError(f"{output} is a folder, --output needs a file such as {output / 'LEADERBOARD.md'}")
    try:
        page, set_aside = write_leaderboard(folder, output)
    except OSError as error:
        raise LrbenchError(f"cannot write {error.filename}: {error.strerror}") from error
    for line in lines_of(set_aside, ", see the end of the page"):
        print(line, file=sys.stderr)
    print(standings(page.read_text(encoding="utf-8")))
    print(f"\npage     {page}\nfigures  {page.parent / 'figures'}")


@app.command("pack")
def pack_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A results folder, or a suite's folder in one.")],
    output: Annotated[
        Path, typer.Option(metavar="FILE.jsonl.xz", help="The file to write; .jsonl.gz is packed faster, and larger.")
    ],
) -> None:
    """Pack the records of a folder into one file, for a repository; `leaderboard` and `compare` read it like the folder."""
    from lrbench.store import Store, write_packed

    records, set_aside = Store(folder).read()
    for line in lines_of(set_aside, f" below {folder}"):
        print(line, file=sys.stderr)
    if not records:
        raise LrbenchError(f"no usable record in {str(folder)!r}: fill it with `lrbench run --out`")
    write_packed(output, records)
    print(f"{len(records)} records in {output}, {output.stat().st_size:,} bytes")


@app.command("compare")
def compare_command(
    base: Annotated[
        str, typer.Argument(metavar="BASE", help="A results folder or packed file, or git REV or REV:PATH.")
    ],
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
    """Return the tables of the page's first standings for a terminal, one for each pairing; where they rank nobody, why."""
    section = page.partition("\n### Standings\n")[2].partition("\n### ")[0]
    parts = [part.partition("\n") for part in section.split("\n#### ")[1:]]
    tables = [[[unmarked(cell) for cell in row] for row in rows_of(lines)] for _, _, lines in parts]
    shown = [f"{title}\n{as_text(rows)}" for (title, _, _), rows in zip(parts, tables, strict=True)]
    notes = [unmarked(line.removeprefix("* ")) for line in section.splitlines() if line.startswith("* ")]
    return "\n\n".join(shown if any("rank" in rows[0] for rows in tables) else [*shown, *notes[:1]])
