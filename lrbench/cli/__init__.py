"""The command line. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

from lrbench.cli import listing, methods, results, run  # noqa: F401 (they register their commands)
from lrbench.cli.app import EXIT_INTERRUPTED, EXIT_OK, app, complain
from lrbench.errors import LrbenchError

UsageError: Any = typer.BadParameter.__base__  # typer brings its own click or shares one, depending on the version


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 fine, 1 a cell failed, 2 bad input, 130 interrupted."""
    try:
        code = app(arguments, prog_name="lrbench", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else EXIT_OK
    except UsageError as error:
        return complain(error.format_message())
    except LrbenchError as error:
        return complain(str(error))
    except (typer.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `lrbench list tasks | head` is no error
        return EXIT_OK
