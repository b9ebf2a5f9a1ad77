"""How far two runs of the same thing differ, in the quick suite.

    python benchmarks/compare_noise.py [METHOD ...] [--records DIR] [--workers N]

Two sorts of noise, task by task. "training": four trainings on one world that differ in their seed; this is what may differ between
two records that `lrbench compare` pairs. "seeds": the records of a results folder, whose seeds differ in their worlds too; a harsher
noise than any pair has. Results are merged into ``tests/data/quick_noise.json``; ``benchmarks/compare_simulation.py`` draws from it.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from itertools import product
from pathlib import Path

from joblib import Parallel, delayed

from lrbench.catalogue.methods import methods_for, select_methods
from lrbench.catalogue.tasks import load_task, select_tasks
from lrbench.store import Store

DATA = Path(__file__).parent.parent / "tests" / "data" / "quick_noise.json"
METRICS = ("headline", "f1", "fvu")
TRAININGS = 4
DIGITS = 5
Scores = dict[str, dict[str, list[float]]]  # metric → task → one score a training


def main() -> None:
    """Measure the methods named, all by default, and merge what they give."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="names or globs; default: all")
    parser.add_argument("--records", type=Path, default=Path("results"), help="folder with the quick suite's records")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    data = json.loads(DATA.read_text()) if DATA.exists() else {}
    data = {info.name: data.get(info.name, {}) for info in methods_for()}
    for method, scores in recorded(arguments.records).items():
        data[method]["seeds"] = scores
    save(data)
    for info in select_methods(arguments.methods) if arguments.methods else methods_for():
        data[info.name]["training"] = trained(info.name, arguments.workers)
        save(data)
        print(info.name, flush=True)


def save(data: dict[str, dict[str, Scores]]) -> None:
    """Write one line a method and sort of noise."""
    lines = [f'"{name}": {{{_lines(sorts)}}}' for name, sorts in sorted(data.items())]
    DATA.parent.mkdir(exist_ok=True)
    DATA.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _lines(sorts: dict[str, Scores]) -> str:
    return ",\n ".join(f'"{sort}": {json.dumps(scores, allow_nan=False)}' for sort, scores in sorted(sorts.items()))


def recorded(folder: Path) -> dict[str, Scores]:
    """Return the scores of the quick suite's records in a folder, the tasks' as they stand now."""
    hashes = {info.name: load_task(info.name, "quick").hash for info in select_tasks("quick")}
    found: dict[tuple[str, str], list[dict[str, float | None]]] = defaultdict(list)
    for record in Store(folder).read()[0]:
        if record.suite == "quick" and record.status == "ok" and record.task_hash == hashes.get(record.task):
            found[record.method, record.task].append(record.scores)
    methods: dict[str, Scores] = {}
    for (method, task), scores in found.items():
        for name in METRICS:
            values = [round(value, DIGITS) for own in scores if (value := own[name]) is not None]
            methods.setdefault(method, {}).setdefault(name, {})[task] = values
    return methods


def trained(method: str, workers: int) -> Scores:
    """Return the scores of a method's trainings on the world of seed 0 of every task."""
    tasks = [task.name for task in select_tasks("quick")]
    cells = list(product(tasks, range(TRAININGS)))
    found = Parallel(n_jobs=workers)(delayed(score)(method, *cell) for cell in cells)
    scores = dict(zip(cells, found, strict=True))
    return {name: {task: [scores[task, i][name] for i in range(TRAININGS)] for task in tasks} for name in METRICS}


def score(method: str, task_name: str, seed: int) -> dict[str, float]:
    """Train with a seed on the world of seed 0, and score."""
    import torch

    import lrbench

    torch.set_num_threads(1)
    task = lrbench.load_task(task_name, "quick", 0)
    learner = lrbench.load_method(method)
    scores = lrbench.score(learner.fit(task.view(learner.pair), seed=seed), task)
    return {name: round(scores[name], DIGITS) for name in METRICS}


if __name__ == "__main__":
    main()
