"""The application that the commands are registered with, and what they share."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from lrbench.errors import LrbenchError

EXIT_OK, EXIT_FAILED_CELLS, EXIT_USAGE = 0, 1, 2


class Interrupted(Exception):
    """Ctrl-C ended a command; the message says where that leaves the user."""


app = typer.Typer(
    help="Linear Representation Bench: which sparse dictionary learning method recovers the true features?",
    add_completion=False,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Without a command: the version, or the help."""
    if version:
        print(f"lrbench {metadata.version('linear-representation-bench')}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


def write_text(path: Path, text: str) -> None:
    """Write a file and the folders above it, or raise `LrbenchError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LrbenchError(f"cannot write {path}: {error.strerror}; name another file") from error


def complain(message: str) -> int:
    """Print an error in one line and return its exit code."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return EXIT_USAGE
