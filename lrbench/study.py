"""The contract of a study: which cells it runs, what it measures of each beyond the scores, and the page that the records become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lrbench.dictionary import Dictionary
    from lrbench.method import Method
    from lrbench.record import Record
    from lrbench.task import Task


@dataclass(frozen=True)
class Block:
    """Cells that a study asks for: every method on every task with every seed.

    Parameters
    ----------
    tasks, methods
        Addresses, as on the command line: ``"absorption/even"``, ``"superposition[1.45]"``, ``"topk_sae[l0=1|2]+anchored"``.
    seeds
        The seeds themselves. No suite uses those from 1000 on: settings are chosen on them.
    """

    tasks: Sequence[str]
    methods: Sequence[str]
    seeds: Sequence[int]


@dataclass(frozen=True)
class Trained:
    """What a study may measure: a dictionary, and how it came about.

    ``seed`` is the task's; training again with ``method.fit(task.view(method.pair), seed=task.fit_seed)`` gives the same dictionary.
    """

    dictionary: Dictionary
    task: Task
    method: Method
    seed: int


@dataclass(frozen=True)
class Study:
    """A declaration. A file assigns one to ``STUDY``; the file's name is the study's, its docstring's first line the summary.

    Parameters
    ----------
    plan
        From a suite's name and a number of seeds (None for the study's own) to the cells, those that share a world next to each other.
    write
        From the records that there are, in the order of the plan, the suite's name and the page's path: writes the page, with figures
        in ``figures/`` beside it, and returns what the terminal shows. It sees records and nothing else, so that the page can be
        written again at any time.
    measure
        What is seen of one trained dictionary beyond its scores: numbers by name, NaN where one does not apply. It runs in the
        worker, and a change to its file, or to what that imports, makes the records stale.
    next_round
        For a study whose cells depend on what came before: asked when a round has ended, with the suite's name, the number of seeds and
        the records of all rounds, in the order in which they were asked for. Returns further cells. The study ends when there is none
        that was not asked for already. A pure function of the records: a study that was killed goes on by asking it again.

    Examples
    --------
    >>> def plan(suite, seeds):
    ...     return [Block(["superposition[1.2|1.4]"], ["topk_sae[l0=1|2]"], range(seeds or 3))]
    >>> def write(records, suite, path):
    ...     path.write_text(f"{len(records)} cells\\n")
    ...     return "written"
    >>> STUDY = Study(plan, write)
    """

    plan: Callable[[str, int | None], Sequence[Block]]
    write: Callable[[Sequence[Record], str, Path], str]
    measure: Callable[[Trained], dict[str, float]] | None = None
    next_round: Callable[[str, int | None, Sequence[Record]], Sequence[Block]] | None = None
