"""Does the fast path learn what the reference path learns? The same task and seed on both, and the paired differences.

A training is chaotic: two paths that differ by rounding end in different places, as two seeds do. So the differences are set against
the spread between seeds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from lrbench.catalogue.methods import method_catalogue
from lrbench.pages.markdown import NONE, table
from lrbench.pages.terminal import as_text
from lrbench.record import Record
from lrbench.study import Block, Study, Trained

TASK = "superposition/1.30x"
SEEDS = 5
METRICS = ("matched_dec", "fvu")


def plan(suite: str, seeds: int | None) -> list[Block]:
    """Return every method of the one loop on one task; what has twins is of that loop."""
    looped = {info.name.partition("+")[0] for info in method_catalogue() if info.twin}
    return [Block([TASK], sorted(looped), range(SEEDS if seeds is None else seeds))]


def measure(trained: Trained) -> dict[str, float]:
    """Return the scores of the same training on the reference path."""
    import lrbench
    from lrbench.engine.mode import use

    with use("reference"):
        dictionary = trained.method.fit(trained.task.view(trained.method.pair), seed=trained.task.fit_seed)
    scores = lrbench.score(dictionary, trained.task)
    return {name: scores[name] for name in METRICS}


def write(records: Sequence[Record], suite: str, path: Path) -> str:
    """Write the table of paired differences, fast minus reference, and return it for the terminal."""
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for record in records:
        for name in METRICS:
            fast = record.scores.get(name)
            slow = record.measures["engine_quality"].values[name] if record.status == "ok" else None
            if fast is not None and slow is not None:
                pairs[record.method, name].append((fast, slow))
    rows = []
    for (method, name), values in pairs.items():
        fasts, slows = ([pair[side] for pair in values] for side in (0, 1))
        differences = " ".join(f"{fast - slow:+.4f}" for fast, slow in values)
        spread = f"{stdev(slows):.4f}" if len(slows) > 1 else NONE
        rows.append([method, name, differences, f"{mean(fasts):.4f}", f"{mean(slows):.4f}", spread])
    heads = ["method", "metric", "fast − reference, per seed", "fast", "reference", "between seeds, sd"]
    page = f"""# The fast path beside the reference path

Written by `lrbench study engine_quality --suite {suite}` from records: `{TASK}`, every method of the one loop, trained with the
compiled kernels and without, from the same seed.

"""
    path.write_text(page + table(heads, rows, left=3), encoding="utf-8")
    return as_text([heads, *rows])


STUDY = Study(plan=plan, write=write, measure=measure)
