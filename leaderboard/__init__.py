"""The leaderboard: a folder of records becomes one markdown page and its figures. No torch anywhere in this package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lrbench.foreign import Problem

__all__ = ["Written", "write_leaderboard"]


class Written(NamedTuple):
    """A leaderboard on the disk: its markdown file, and the files of the folder that are no usable records."""

    page: Path
    set_aside: tuple[Problem, ...]


def write_leaderboard(folder: Path, output: Path | None = None) -> Written:
    """Compile the records of a folder into a markdown page; figures lie beside it in ``figures/``.

    The same records give the same bytes, whatever the day, the machine or the folder's name. What is odd in the folder is set
    aside and named; a page or a figure replaces what was in its place, and follows no link.

    Parameters
    ----------
    folder
        A results folder, as ``lrbench run --out`` writes it, or a file of records from ``lrbench pack``.
    output
        The markdown file to write, by default ``LEADERBOARD.md`` in the folder, or beside the file. Its folder is made if needed.

    Raises
    ------
    LrbenchError
        If the folder does not exist or holds no usable record, or the output does not end in ``.md``.

    Examples
    --------
    >>> page, set_aside = write_leaderboard(Path("results"))  # doctest: +SKIP
    """
    # pandas and matplotlib take a second to load, so nothing below is imported until a page is asked for
    from lrbench.errors import LrbenchError
    from lrbench.foreign import replace_file
    from lrbench.store import read_results

    from .breakdown import with_committed_ladder
    from .compile import compile_boards
    from .figures import save_figures
    from .real_rows import with_real_rows
    from .render import render

    folder = Path(folder)
    output = (folder if folder.is_dir() else folder.parent) / "LEADERBOARD.md" if output is None else Path(output)
    if output.suffix.lower() != ".md":
        raise LrbenchError(f"{output}: the page is markdown, name a file such as {output.with_suffix('.md')}")
    if not folder.exists():
        raise LrbenchError(f"no results folder {str(folder)!r}: give the folder that `lrbench run --out` wrote")
    records, problems = read_results(folder)
    records = with_real_rows(records)
    of_studies = sum(record.study is not None for record in records)
    boards = compile_boards(with_committed_ladder(records))
    if not boards:
        asides = [f"{len(problems)} unreadable files were set aside, the first {problems[0]}"] if problems else []
        asides += [f"{of_studies} records are of studies, which stand on no leaderboard"] if of_studies else []
        elsewhere = len(records) - of_studies
        asides += (
            [f"{elsewhere} records are of real tasks outside the suite real, or of others inside"] if elsewhere else []
        )
        why = f" ({'; '.join(asides)})" if asides else ""
        raise LrbenchError(f"no usable record in {str(folder)!r}{why}: fill it with `lrbench run --out {folder}`")
    output.parent.mkdir(parents=True, exist_ok=True)
    figures = {board.suite: save_figures(board, output.parent / "figures") for board in boards}
    page = render(boards, [problem.inside(folder) for problem in problems], figures, of_studies)
    replace_file(output, page.encode())
    return Written(output, tuple(problems))
