"""Does the fast path learn what the reference path learns? The same task and seed on both, and the paired differences.

    python benchmarks/engine_quality.py [--suite quick] [--seeds 5] [--steps N] [--method NAME ...] [--threads N]

A training is chaotic: two paths that differ by rounding end in different places, as two seeds do. So the differences are set against
the spread between seeds. ``--steps`` shortens the run: a reference run at the paper's scale takes the better part of an hour.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import mean, stdev
from typing import Annotated

import lrbench  # isort: skip (before torch: it tells OpenMP how threads wait)
import torch
import typer
from rich.console import Console
from rich.progress import track

from lrbench.engine.mode import use

METHODS = ("topk_sae", "batchtopk_sae", "matryoshka_sae", "relu_sae", "jumprelu_sae", "gated_sae", "transcoder", "crosscoder")  # fmt: skip
METRICS = ("matched_dec", "fvu")
TASK = "superposition/1.30x"


def scores(method: str, suite: str, seed: int, steps: int | None, path: str) -> dict[str, float]:
    """Train on one path and score."""
    task, chosen = lrbench.load_task(TASK, suite, seed), lrbench.load_method(method)
    view = task.view(chosen.pair)
    if steps is not None:
        view = replace(view, budget=replace(view.budget, n_samples=steps * view.budget.batch_size))
    with use(path):
        return lrbench.score(chosen.fit(view, seed=seed), task)


def main(
    suite: str = "quick",
    seeds: int = 5,
    steps: Annotated[int | None, typer.Option(help="Length of the run, the suite's by default.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Repeat for several; all SDL methods by default.")] = None,
    threads: int = 2,
) -> None:
    """Print a markdown table of paired differences, fast minus reference."""
    torch.set_num_threads(threads)
    lines = [f"| method | metric | fast | reference | fast - reference, per seed | between seeds ({seeds}), sd |", "|---|---|---:|---:|---|---:|"]  # fmt: skip
    jobs = [(name, seed) for name in method or METHODS for seed in range(seeds)]
    found = {
        (name, seed, path): scores(name, suite, seed, steps, path)
        for name, seed in track(jobs, console=Console(stderr=True))
        for path in ("auto", "reference")
    }
    for name in method or METHODS:
        for metric in METRICS:
            fast, slow = ([found[name, seed, path][metric] for seed in range(seeds)] for path in ("auto", "reference"))
            differences = " ".join(f"{a - b:+.4f}" for a, b in zip(fast, slow, strict=True))
            spread = f"{stdev(slow):.4f}" if seeds > 1 else "–"
            lines.append(f"| {name} | {metric} | {mean(fast):.4f} | {mean(slow):.4f} | {differences} | {spread} |")
    print("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
