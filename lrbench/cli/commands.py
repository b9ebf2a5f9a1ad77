"""All commands together, and what becomes of the errors they end in."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer

from lrbench.cli import listing, methods, results, run, show, tune  # noqa: F401 (they register their commands)
from lrbench.cli.app import EXIT_OK, Interrupted, app, complain
from lrbench.cli.interrupt import EXIT_INTERRUPTED
from lrbench.errors import LrbenchError

UsageError: Any = typer.BadParameter.__base__  # typer brings its own click or shares one, depending on the version


def run_command_line(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; ctrl-C is a `KeyboardInterrupt` where the command has nothing to say about it."""
    try:
        code = _command()(arguments, prog_name="lrbench", standalone_mode=False)
    except UsageError as error:
        return complain(error.format_message())
    except LrbenchError as error:
        return complain(str(error))
    except Interrupted as interrupted:
        print(f"interrupted: {interrupted}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except typer.Abort:
        raise KeyboardInterrupt from None
    if code == EXIT_INTERRUPTED:  # newer versions of typer make this of a KeyboardInterrupt
        raise KeyboardInterrupt
    return code if isinstance(code, int) else EXIT_OK


def _command() -> Any:
    """Return the application as one command whose help names arguments without the ``<str>`` that typer puts behind them."""
    group: Any = typer.main.get_command(app)
    for command in group.commands.values():
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                parameter.display_type_rich = lambda ctx: None
    return group
