"""What a group brings: N dictionaries in one program against the same N one after the other.

    python benchmarks/group.py [--group N] [--suite NAME] [--latents N] [--steps N] [--device cpu|cuda] [--rounds N]

Both sides are timed in turns, each from the start of its training to its end, and the medians are compared: wall-clock seconds, and
seconds of the processor, which are what counts on a machine that others use too. It prints one row of a Markdown table.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch

import lrbench
from lrbench.grouping.training import Member, fit_group
from lrbench.sdl import SDL

TASK = "superposition/1.30x"
HEAD = (
    "| device | methods | latents | batch | steps | alone, samples/s | group, samples/s | ratio | ratio of processor time |\n"
    "|---|---|---:|---:|---:|---:|---:|---:|---:|"
)


def members(names: list[str], args: argparse.Namespace) -> list[Member]:
    """Return ``args.group`` trainings: the methods in turn, each time around with another seed."""
    found = []
    for number in range(args.group):
        method, seed = lrbench.load_method(names[number % len(names)]), number // len(names)
        assert isinstance(method, SDL), f"{names[number % len(names)]}: expected an SDL method"
        view = lrbench.load_task(TASK, args.suite, seed).view(method.pair, args.device)
        budget = replace(view.budget, n_latents=args.latents or view.budget.n_latents)
        if args.steps:
            budget = replace(budget, n_samples=args.steps * budget.batch_size)
        found.append(Member(method, replace(view, budget=budget), seed))
    return found


def cost(train: Callable[[], object], device: str) -> tuple[float, float]:
    """Return the seconds on the wall and of the processor that a training takes."""
    wall, processor = time.perf_counter(), time.process_time()
    train()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--suite", default="quick")
    parser.add_argument("--method", action="append", metavar="NAME", help="repeatable; by default topk_sae")
    parser.add_argument("--latents", type=int, help="by default the suite's")
    parser.add_argument("--steps", type=int, help="by default the suite's")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    names = args.method or ["topk_sae"]
    group = members(names, args)
    sides = (lambda: [m.method.fit(m.view, m.seed) for m in group], lambda: fit_group(group))
    costs: list[list[tuple[float, float]]] = [[], []]
    for turn in range(args.rounds + 1):
        for side, found in zip(sides, costs, strict=True):
            spent = cost(side, args.device)
            if turn:  # the first round loads and compiles
                found.append(spent)
    (alone, alone_cpu), (together, together_cpu) = ([median(column) for column in zip(*c, strict=True)] for c in costs)
    budget = group[0].view.budget
    samples = len(group) * budget.n_samples
    print(HEAD)
    print(
        f"| {args.device} | {len(group)} × {', '.join(names)} | {budget.n_latents} | {budget.batch_size} |"
        f" {budget.n_samples // budget.batch_size} | {samples / alone:,.0f} | {samples / together:,.0f} |"
        f" {alone / together:.2f} | {alone_cpu / together_cpu:.2f} |"
    )


if __name__ == "__main__":
    main()
