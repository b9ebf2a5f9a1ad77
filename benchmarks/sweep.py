"""Where the default hyper-parameters come from: a grid per method on validation seeds of the quick suite.

    python benchmarks/sweep.py [METHOD ...] [--workers N]

Seeds from 1000 on are never used by a suite. The winner is the setting with the best F1 among those whose headline is within
0.01 of the best one: recover the directions, and among equals detect the features. Results are merged into
``benchmarks/sweep.json``; ``docs/sweep.md`` shows them, and a test holds the defaults in ``methods/`` to the winners. Settings that are stored already are not trained again: delete the file
to start afresh.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed

HERE = Path(__file__).parent
RESULTS = HERE / "sweep.json"
PAGE = HERE.parent / "docs" / "sweep.md"
TASKS = (
    "superposition/1.30x",
    "superposition/1.82x",
    "sparsity/0.05",
    "frequency/zipf1.0",
    "correlation/0.5",
    "absorption/even",
)
SEEDS = (1000, 1001)
LEVEL = 0.01  # half the headline's tolerance
RATES = (3e-3, 1e-2, 3e-2)
RATIOS = (1.0, 1.25, 1.5, 2.0)
GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "relu_sae": {"lr": RATES, "l1_weight": (0.05, 0.1, 0.2, 0.3, 0.4, 0.6)},
    "gated_sae": {"lr": RATES, "gate_weight": (0.2, 0.4, 0.6, 0.8, 1.2)},
    "jumprelu_sae": {"lr": RATES, "l0_weight": (0.02, 0.05, 0.1, 0.2), "bandwidth": (0.1, 0.3)},
    "topk_sae": {"lr": RATES, "ratio": RATIOS},
    "batchtopk_sae": {"lr": RATES, "ratio": RATIOS},
    "matryoshka_sae": {"lr": RATES, "ratio": RATIOS, "prefix_weight": (0.3, 1.0)},
    "transcoder": {"lr": RATES, "ratio": RATIOS},
    "crosscoder": {"lr": RATES, "ratio": RATIOS},
    "topk_sae+anchored": {"anchor_weight": (0.01, 0.1, 1.0)},
}


def main() -> None:
    """Run the grids, merge the results and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=f"default: all of {', '.join(GRIDS)}")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    unknown = set(arguments.methods) - set(GRIDS)
    if unknown:
        parser.error(f"no grid for {', '.join(sorted(unknown))}: expected some of {', '.join(GRIDS)}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for method in arguments.methods or GRIDS:
        results[method] = sweep(method, results.get(method, []), arguments.workers)
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        print(method, "->", best(results[method])["setting"], flush=True)
    PAGE.write_text(page(results))


def sweep(method: str, known: list[dict[str, Any]], workers: int) -> list[dict[str, Any]]:
    """Return every setting of a method's grid with its mean scores, training only those that are not known yet."""
    grid = GRIDS[method]
    wanted = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    rows = [row for row in known if row["setting"] in wanted]
    settings = [setting for setting in wanted if setting not in [row["setting"] for row in rows]]
    cells = list(product(range(len(settings)), TASKS, SEEDS))
    scores = Parallel(n_jobs=workers, verbose=1)(
        delayed(run)(method, settings[i], task, seed) for i, task, seed in cells
    )
    for i, setting in enumerate(settings):
        mine = [score for score, cell in zip(scores, cells, strict=True) if cell[0] == i]
        means = {
            name: round(sum(score[name] for score in mine) / len(mine), 4) for name in ("headline", "f1", "l0", "dead")
        }
        rows.append({"setting": setting, **means})
    return sorted(rows, key=lambda row: wanted.index(row["setting"]))


def run(method: str, setting: dict[str, Any], task_name: str, seed: int) -> dict[str, float]:
    """Train and score one cell."""
    import torch

    import lrbench

    torch.set_num_threads(1)
    task = lrbench.load_task(task_name, "quick", seed)
    learner = lrbench.load_method(method, **setting)
    return lrbench.score(learner.fit(task.view(learner.pair), seed=seed), task)


def best(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the winner: the best F1 among the settings that are level with the best headline."""
    level = max(row["headline"] for row in rows) - LEVEL
    return max((row for row in rows if row["headline"] >= level), key=lambda row: row["f1"])


def page(results: dict[str, list[dict[str, Any]]]) -> str:
    """Return the results as markdown, a table a method, the winner in bold."""
    lines = [
        "# Where the default hyper-parameters come from",
        "",
        "Written by `python benchmarks/sweep.py`: every setting of a grid, trained in the `quick` suite on validation seeds",
        f"{', '.join(map(str, SEEDS))} (no suite uses them) and {', '.join(TASKS)}. The default, in bold, is",
        f"the setting with the best F1 among those whose headline is within {LEVEL} of the best; `tests/test_sweep.py` checks it.",
        "Anchored twins take the plain method's setting; their anchor weight comes from the TopK SAE's.",
    ]
    for method in GRIDS:
        rows = results.get(method, [])
        if not rows:
            continue
        names = list(GRIDS[method])
        lines += ["", f"## {method}", "", "| " + " | ".join([*names, "headline", "F1", "L0", "dead"]) + " |"]
        lines.append("|" + "---:|" * (len(names) + 4))
        for row in rows:
            cells = [*(f"{row['setting'][name]:g}" for name in names)]
            cells += [f"{row[name]:.3f}" for name in ("headline", "f1", "l0", "dead")]
            mark = "**" if row is best(rows) else ""
            lines.append("| " + " | ".join(f"{mark}{cell}{mark}" for cell in cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
