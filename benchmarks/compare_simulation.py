"""How often `lrbench compare` calls a regression when there is none, and when there is one.

    python benchmarks/compare_simulation.py [--pairs N]

Pairs of runs of the quick suite are made from the noise that `lrbench study noise` measured, and go through the comparison as records. The table goes into ``docs/compare.md``; ``tests/test_compare_command.py`` runs the same simulation.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lrbench.catalogue.methods import method_catalogue
from lrbench.catalogue.studies import find_study
from lrbench.leaderboard.compare import DEFAULT_METRICS, compare
from lrbench.metric_table import METRICS
from lrbench.record import Provenance, Record, Timing
from lrbench.store import read_packed
from lrbench.studies.noise import Scores, noise_of

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "compare.md"
BEGIN, END = "<!-- written by benchmarks/compare_simulation.py -->\n", "<!-- end -->\n"
DROP = 3  # tolerances
Noise = dict[str, dict[str, Scores]]  # method → sort → metric → task → scores
SORTS = ("training", "seeds")


def load_noise() -> Noise:
    """Return what `lrbench study noise` measured, from its committed records."""
    return noise_of(read_packed(find_study("noise").packed("quick")))


def shares(
    noise: Noise, sort: str, pairs: int, metrics: tuple[str, ...], drop_in: str = "", tasks: int = 0
) -> tuple[float, float]:
    """Return the share of pairs of runs that are a regression, and of those that are or in which a task stands out.

    Parameters
    ----------
    sort
        Which noise: ``"training"`` draws from the trainings that were measured, each at most once in a pair of runs;
        ``"seeds"`` draws from a normal law with the standard deviation over seeds, cell by cell.
    drop_in
        A metric in which one method, drawn anew in each pair, is worse by three tolerances in head; none by default.
    tasks
        In how many of its tasks it is worse; 0 for all.
    """
    rng = random.Random(f"{sort} {metrics} {drop_in} {tasks}")
    kinds = {info.name: info.kind for info in method_catalogue()}
    blank = {
        method: {task: _records(method, kinds[method], task) for task in noise[method][sort][metrics[0]]}
        for method in noise
    }
    ranked = sorted(method for method in noise if kinds[method] != "reference")
    red = noticed = 0
    for _ in range(pairs):
        base: list[Record] = []
        head: list[Record] = []
        victim = rng.choice(ranked) if drop_in else ""
        for method in noise:
            names = sorted(blank[method])
            hit = set(rng.sample(names, tasks) if tasks else names) if method == victim else set()
            scores = _draw(noise[method][sort], sort, metrics, names, rng)
            for task, (old, new) in zip(names, scores, strict=True):
                for seed in (0, 1):
                    if task in hit:
                        new[seed][drop_in] += _worse(drop_in)
                    base.append(blank[method][task][seed].model_copy(update={"scores": old[seed]}))
                    head.append(blank[method][task][seed].model_copy(update={"scores": new[seed]}))
        comparison = compare(base, head, metrics)
        red += comparison.verdict == "regression"
        noticed += comparison.verdict == "regression" or any(change.worst_stands_out for change in comparison.changes)
    return red / pairs, noticed / pairs


def _worse(metric: str) -> float:
    loss = DROP * METRICS[metric].tolerance
    return -loss if METRICS[metric].direction == "higher" else loss


def _draw(
    scores: dict[str, dict[str, list[float]]], sort: str, metrics: tuple[str, ...], tasks: list[str], rng: random.Random
) -> Iterator[tuple[list[dict[str, float]], list[dict[str, float]]]]:
    """Yield for every task the scores of base and of head, a dict for each of two seeds."""
    picks = rng.sample(range(4), 4)  # one draw for all tasks and metrics, so that what they share stays shared
    for task in tasks:
        columns = {}
        for name in metrics:
            known = scores[name][task]
            if sort == "training":
                columns[name] = [known[i] for i in picks]
            else:
                mean = sum(known) / len(known)
                deviation = (sum((value - mean) ** 2 for value in known) / (len(known) - 1)) ** 0.5
                columns[name] = [rng.gauss(mean, deviation) for _ in range(4)]
        runs = [{name: column[i] for name, column in columns.items()} for i in range(4)]
        yield runs[:2], runs[2:]


def _records(method: str, kind: str, task: str) -> list[Record]:
    where: dict[str, Any] = {"lrbench": "0", "python": "3", "platform": "p", "packages": {}}
    return [
        Record(
            task=task,
            family=task.split("/")[0],
            suite="quick",
            seed=seed,
            task_hash=task,
            world_hash=f"{task} {seed}",
            method=method,
            pair="autoencoder",
            kind=kind,
            source_hash="s",
            status="ok",
            provenance=Provenance(**where, commit=None, dirty=None, device="cpu"),
            timing=Timing(seconds=1.0, finished="2025-01-01T00:00:00+00:00"),
        )
        for seed in (0, 1)
    ]


def report(noise: Noise, pairs: int) -> str:
    """Return the table of ``docs/compare.md``."""
    fvu = ("fvu",)
    cases = [
        ("nothing", DEFAULT_METRICS, "", 0),
        ("nothing", fvu, "", 0),
        *((f"{name}, three tolerances, every task", DEFAULT_METRICS, name, 0) for name in DEFAULT_METRICS),
        ("fvu, three tolerances, every task", fvu, "fvu", 0),
        *((f"{name}, three tolerances, one task", DEFAULT_METRICS, name, 1) for name in DEFAULT_METRICS),
    ]
    lines = [
        f"{pairs} pairs of runs per line and noise: {len(noise)} methods, {len(next(iter(noise.values()))['seeds']['f1'])} tasks,"
        " 2 seeds. Red: a regression. Noticed: red, or a task stands out.",
        "",
        "| worse in head, in one method | compared | trainings differ: red | noticed | trainings and worlds differ: red | noticed |",
        "|:--|:--|--:|--:|--:|--:|",
    ]
    for what, metrics, drop_in, tasks in cases:
        found = [share for sort in SORTS for share in shares(noise, sort, pairs, metrics, drop_in, tasks)]
        lines.append(f"| {what} | {', '.join(metrics)} | " + " | ".join(f"{share:.1%}" for share in found) + " |")
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Simulate and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1000)
    table = report(load_noise(), parser.parse_args().pairs)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}{table}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
