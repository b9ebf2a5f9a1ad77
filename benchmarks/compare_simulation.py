"""How often `lrbench compare` calls a regression when there is none, and when there is one, for every shape of a run.

    python benchmarks/compare_simulation.py [--pairs N]

Pairs of runs go through the comparison as records, with every score that has a better direction. Their noise is the one that
`lrbench study noise` measured, or a normal law. The table
goes into ``docs/compare.md``; ``tests/test_compare_simulation.py`` runs a small form of the same simulation.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from lrbench.catalogue.methods import method_catalogue
from lrbench.catalogue.studies import find_study
from lrbench.leaderboard.compare import Verdict, compare
from lrbench.leaderboard.judge import DROP, MAIN
from lrbench.metric_table import METRICS
from lrbench.record import Provenance, Record, Timing
from lrbench.store import read_packed
from lrbench.studies.noise import Scores, noise_of

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "compare.md"
BEGIN, END = "<!-- written by benchmarks/compare_simulation.py -->\n", "<!-- end -->\n"
LEVEL = 0.9  # of every score under normal noise
HIGH = 0.5  # headline of a cell from which on it has something to lose
FAMILY_LOSS = 0.15  # of the headline on one family
WORKERS = 2
QUIET = 2.5  # times as many pairs of runs where nothing is worse: the share of false alarms, 5% or not, needs more
Law = str
LAWS: dict[Law, str] = {
    "none": "none: same source, same machine",
    "training": "measured: trainings differ",
    "normal": "normal, sd one tolerance, each score by itself",
    "together": "normal, sd one tolerance, all scores together",
}
FALSE_ALARMS_ONLY = ("together",)  # a law that is asked for false alarms only
Noise = dict[str, Scores]  # method → metric → task → scores of trainings on one world
Values = list[dict[str, float]]  # one dict of scores per seed


class Shape(NamedTuple):
    """How much a run measures."""

    methods: int
    tasks: int
    seeds: int


SHAPES = tuple(Shape(*sizes) for sizes in ((1, 1, 1), (25, 1, 1), (5, 1, 3), (5, 3, 2), (5, 8, 1), (25, 8, 3)))
CASES = (
    "nothing",
    *(f"drop in {name}" for name in MAIN),
    "drop in another",
    "drop on a family",
    "one cell collapses",
    "one seed collapses",
)


def load_noise() -> Noise:
    """Return what `lrbench study noise` measured, from its committed records."""
    found = noise_of(read_packed(find_study("noise").packed("quick")))
    return {method: sorts["training"] for method, sorts in found.items()}


def verdicts(noise: Noise, shape: Shape, law: Law, case: str, pairs: int) -> Counter[Verdict]:
    """Return how often each verdict was given on pairs of runs.

    Parameters
    ----------
    law
        ``"training"`` takes each seed's two scores from two of the four trainings that were measured on one world, for methods and
        tasks drawn anew in each pair of runs; the normal laws draw all scores, ``"together"`` from one number per cell; with ``"none"`` the two runs are equal.
    case
        One of `CASES`. A drop is one of `DROP` tolerances on every task of one method, drawn anew, or one of `FAMILY_LOSS` in the
        headline on one task, which is a family's only one. A cell that collapses loses all of its scores; a seed that collapses does
        so on every task of its method.
    """
    rng = random.Random(f"{shape} {law} {case}")
    kinds = {info.name: info.kind for info in method_catalogue()}
    ranked = sorted(method for method in noise if kinds[method] != "reference")
    tasks = sorted(noise[ranked[0]]["f1"])
    blank = {(method, task): _record(method, kinds[method], task) for method in noise for task in tasks}
    cells = [(method, task) for method in ranked for task in tasks]
    if "collapses" in case:
        cells = [(method, task) for method, task in cells if min(noise[method]["headline"][task]) >= HIGH]
    found: Counter[Verdict] = Counter()
    for _ in range(pairs):
        victim, target = rng.choice(cells)
        others = [method for method in ranked if method != victim]
        on = [target, *rng.sample([task for task in tasks if task != target], shape.tasks - 1)]
        another = rng.choice([name for name in noise[victim] if name not in MAIN and target in noise[victim][name]])
        base: list[Record] = []
        head: list[Record] = []
        for method in [victim, *rng.sample(others, shape.methods - 1)]:
            for task in on:
                known = {name: by_task[task] for name, by_task in noise[method].items() if task in by_task}
                old, new = _draw(known, law, shape.seeds, rng)
                if method == victim:
                    _spoil(new, case, another, alone=task == target)
                for side, values in ((base, old), (head, new)):
                    record = blank[method, task]
                    side += [record.model_copy(update={"seed": i, "scores": value}) for i, value in enumerate(values)]
        found[compare(base, head).verdict] += 1
    return found


def _draw(known: dict[str, list[float]], law: Law, seeds: int, rng: random.Random) -> tuple[Values, Values]:
    """Return the scores of base and of head, a dict for each seed."""
    old: Values = []
    new: Values = []
    for _ in range(seeds):
        if law in ("normal", "together"):
            a, b = (_normal(known, rng, together=law == "together") for _ in range(2))
        else:
            i, j = rng.sample(range(min(map(len, known.values()))), 2)
            a, b = ({name: values[pick] for name, values in known.items()} for pick in (i, i if law == "none" else j))
        old.append(a)
        new.append(b)
    return old, new


def _normal(names: Iterable[str], rng: random.Random, *, together: bool) -> dict[str, float]:
    """Scores with a standard deviation of one tolerance; together, all are better or all are worse."""
    one = rng.gauss(0, 1)
    return {
        name: LEVEL + METRICS[name].tolerance * (_better(name) * one if together else rng.gauss(0, 1)) for name in names
    }


def _spoil(values: Values, case: str, another: str, *, alone: bool) -> None:
    """Make head's scores on a task worse, in place; ``alone`` is the task that is hit if only one is."""
    if case == "drop on a family":
        for value in values:
            value["headline"] -= FAMILY_LOSS * alone
    elif case.startswith("drop in "):
        name = another if case == "drop in another" else case.removeprefix("drop in ")
        for value in values:
            if name in value:
                value[name] -= _better(name) * DROP * METRICS[name].tolerance
    elif case == "one seed collapses" or (case == "one cell collapses" and alone):
        values[-1].update({name: 0.0 if _better(name) == 1 else 1.0 for name in values[-1]})


def _better(name: str) -> int:
    return 1 if METRICS[name].direction == "higher" else -1


def _record(method: str, kind: str, task: str) -> Record:
    where: dict[str, Any] = {"lrbench": "0", "python": "3", "platform": "p", "packages": {}}
    return Record(
        task=task,
        family=task.split("/")[0],
        suite="quick",
        seed=0,
        task_hash=task,
        world_hash=task,
        method=method,
        pair="autoencoder",
        kind=kind,
        source_hash="s",
        status="ok",
        provenance=Provenance(**where, commit=None, dirty=None, device="cpu"),
        timing=Timing(seconds=1.0, finished="2025-01-01T00:00:00+00:00"),
    )


def report(noise: Noise, pairs: int) -> str:
    """Return the table of ``docs/compare.md``."""
    heads = ["methods × tasks × seeds", "noise", *(case.replace("nothing", "nothing worse") for case in CASES)]
    lines = [
        f"{pairs} pairs of runs per entry, {QUIET * pairs:.0f} where nothing is worse, and a quarter of that for the largest shape;"
        " in %: red / cannot tell / green.",
        "",
    ]
    lines += ["| " + " | ".join(heads) + " |", "|:--|:--|" + "--:|" * len(CASES)]
    with ProcessPoolExecutor(max_workers=WORKERS) as pool:
        rows = {
            (shape, law): [
                pool.submit(verdicts, noise, shape, law, case, pairs_of(shape, case, pairs)) for case in cases_of(law)
            ]
            for shape in SHAPES
            for law in LAWS
        }
        for (shape, law), found in rows.items():
            entries = [_entry(future.result()) for future in found] + ["–"] * (len(CASES) - len(found))
            lines.append(f"| {' × '.join(map(str, shape))} | {LAWS[law]} | " + " | ".join(entries) + " |")
            print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def cases_of(law: Law) -> tuple[str, ...]:
    """Return the cases that are simulated with a law."""
    return CASES[:1] if law in FALSE_ALARMS_ONLY else CASES


def pairs_of(shape: Shape, case: str, pairs: int) -> int:
    """Return how many pairs of runs are simulated for an entry."""
    return round(pairs * (QUIET if case == "nothing" else 1) / (4 if shape == SHAPES[-1] else 1))


def _entry(found: Counter[Verdict]) -> str:
    shares = [found[name] / found.total() for name in ("regression", "cannot tell", "no regression")]
    return " / ".join(f"{100 * share:.1f}" for share in shares)


def main() -> None:
    """Simulate and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    table = report(load_noise(), parser.parse_args().pairs)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}{table}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
