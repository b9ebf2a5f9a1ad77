"""The leaderboard: a folder of records becomes one markdown page and its figures. No torch anywhere in this package."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["write_leaderboard"]


def write_leaderboard(folder: Path, output: Path | None = None) -> Path:
    """Compile the records of a folder into a markdown page; figures lie beside it in ``figures/``.

    The same records give the same bytes, whatever the day, the machine or the folder's name.

    Parameters
    ----------
    folder
        A results folder, as ``lrbench run --out`` writes it.
    output
        The markdown file to write, ``folder/LEADERBOARD.md`` by default. Its folder is made if needed.

    Returns
    -------
    Path
        The markdown file.

    Raises
    ------
    LrbenchError
        If the folder does not exist or holds no usable record.
    """
    # pandas and matplotlib take a second to load, so nothing below is imported until a page is asked for
    from lrbench.errors import LrbenchError
    from lrbench.store import Store

    from .compile import compile_boards
    from .figures import save_figures
    from .render import render

    folder = Path(folder)
    output = folder / "LEADERBOARD.md" if output is None else Path(output)
    if not folder.is_dir():
        raise LrbenchError(f"no results folder {str(folder)!r}: give the folder that `lrbench run --out` wrote")
    records, problems = Store(folder).read()
    if not records:
        aside = f" ({len(problems)} unreadable files were set aside)" if problems else ""
        raise LrbenchError(f"no usable record in {str(folder)!r}{aside}: fill it with `lrbench run --out {folder}`")
    boards = compile_boards(records)
    output.parent.mkdir(parents=True, exist_ok=True)
    figures = {board.suite: save_figures(board, output.parent / "figures") for board in boards}
    inside = [(p.path.relative_to(folder).as_posix(), p.reason.replace(f"{folder}{os.sep}", "")) for p in problems]
    page = render(boards, inside, figures)
    output.write_text(page, encoding="utf-8", newline="\n")
    return output
