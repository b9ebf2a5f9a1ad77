"""How far two runs of the same thing differ: the noise that `lrbench compare` has to tell from a change.

Two sorts, task by task. "training": trainings on one world that differ in their seed; this is what may differ between two records that
`lrbench compare` pairs. "seeds": the suite's own records, whose seeds differ in their worlds too; a harsher noise than any pair has.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from lrbench.metric_table import METRICS
from lrbench.pages.markdown import table
from lrbench.pages.terminal import as_text
from lrbench.record import Record
from lrbench.study import Block, Study, Trained
from lrbench.task import get_suite

SCORES = tuple(metric.name for metric in METRICS.values() if metric.direction != "none")
SORTS = ("training", "seeds")
TRAININGS = 4
Scores = dict[str, dict[str, list[float]]]  # metric → task → scores


def plan(suite: str, seeds: int | None) -> list[Block]:
    """Return the suite itself: its records serve as they are, the world of seed 0 is trained on again."""
    return [Block((), (), range(get_suite(suite).seeds if seeds is None else seeds))]


def measure(trained: Trained) -> dict[str, float]:
    """Return the scores of more trainings on the world of seed 0, as ``headline 1`` and so on."""
    import lrbench

    found: dict[str, float] = {}
    for seed in range(1, TRAININGS) if trained.seed == 0 else ():
        scores = lrbench.score(trained.method.fit(trained.task.view(trained.method.pair), seed=seed), trained.task)
        found |= {f"{name} {seed}": scores[name] for name in SCORES}
    return found


def noise_of(records: Sequence[Record]) -> dict[str, dict[str, Scores]]:
    """Return method → sort of noise → metric → task → scores, as far as they are known."""
    found: dict[str, dict[str, Scores]] = {}
    for record in records:
        if record.status != "ok":
            continue
        own = found.setdefault(record.method, {sort: defaultdict(lambda: defaultdict(list)) for sort in SORTS})
        again = record.measures["noise"].values
        for name in SCORES:
            scores = [record.scores.get(name)]
            own["seeds"][name][record.task] += _known(scores)
            if f"{name} 1" in again:  # a record may be older than the score
                scores += [again[f"{name} {seed}"] for seed in range(1, TRAININGS)]
                known = _known(scores)
                if len(known) == TRAININGS:
                    own["training"][name][record.task] = known
    return found


def _known(scores: Sequence[float | None]) -> list[float]:
    return [score for score in scores if score is not None]


def write(records: Sequence[Record], suite: str, path: Path) -> str:
    """Write the mean standard deviation per method and score, a table for each sort of noise, and return them for the terminal."""
    found = sorted(noise_of(records).items())
    tables = {
        sort: [[method, *(_spread([*sorts[sort][name].values()]) for name in SCORES)] for method, sorts in found]
        for sort in SORTS
    }
    page = f"""# How far two runs of the same thing differ

Written by `lrbench study noise --suite {suite}` from records: standard deviations, mean over tasks. *Training*: {TRAININGS} trainings on one
world that differ in their seed. *Seeds*: the suite's own seeds, which differ in their worlds too. [compare.md](compare.md) says what
`lrbench compare` makes of it.
"""
    for sort, rows in tables.items():
        page += f"\n## {sort.capitalize()}\n\n{table(['method', *SCORES], rows, left=1)}"
    path.write_text(page, encoding="utf-8")
    return "\n\n".join(f"{sort}\n{as_text([['method', *SCORES], *rows])}" for sort, rows in tables.items())


def _spread(tasks: Sequence[Sequence[float]]) -> str:
    """The mean over tasks, a dash where no task has two scores."""
    known = [stdev(values) for values in tasks if len(values) > 1]
    return f"{mean(known):.4f}" if known else "–"


STUDY = Study(plan=plan, write=write, measure=measure)
