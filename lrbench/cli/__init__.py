"""The command line. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lrbench.cli.interrupt import EXIT_INTERRUPTED, STOPPED, end_at_once
from lrbench.cli.streams import finish, secure


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 fine, 1 a cell failed, 2 bad input, 130 interrupted."""
    if arguments is None:  # a process of our own
        secure()
        end_at_once()
    try:
        from lrbench.cli.commands import run_command_line

        return finish(run_command_line(arguments))
    except KeyboardInterrupt:
        sys.stderr.write(STOPPED)
        return EXIT_INTERRUPTED
