"""Fits methods of the lrbench in a given folder, one for every line it reads; ``quick_steps.py`` starts it, once per checkout.

    python benchmarks/quick_fits.py FOLDER SUITE TASK

It prints lines of JSON: first a greeting, then for every method the processor time of one fit. It asks lrbench for public names only: the
checkout may be an old one.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from time import process_time
from typing import Any

import lrbench  # isort: skip (before torch: it tells OpenMP how threads wait)
import torch


def check_place(folder: Path) -> None:
    """Raise unless lrbench, its methods and its tasks are those of the folder."""
    for name in ("lrbench", "lrbench.methods", "lrbench.tasks"):
        spec = find_spec(name)
        places = [Path(place).resolve() for place in (spec and spec.submodule_search_locations) or ()]
        if not places or not all(place.is_relative_to(folder.resolve()) for place in places):
            raise RuntimeError(f"{name} was found in {', '.join(map(str, places)) or 'no folder'}, expected {folder}")


def one_fit(task: Any, name: str) -> dict[str, float]:
    """Fit a method and return the processor time of it (s), and the sizes that a step has."""
    method = lrbench.load_method(name)
    view = task.view(method.pair)
    budget = view.budget
    began = process_time()
    method.fit(view, seed=0)
    seconds = process_time() - began
    return {
        "seconds": seconds,
        "steps": budget.n_samples // budget.batch_size,
        "d_in": view.d_in,
        "width": budget.n_latents,
        "batch_size": budget.batch_size,
    }


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a method prints is no answer

    def answer(**content: Any) -> None:
        print(json.dumps(content), file=answers, flush=True)

    folder, suite, task_name = sys.argv[1:]
    torch.set_num_threads(1)
    try:
        check_place(Path(folder))
        task = lrbench.load_task(task_name, suite)
        answer()
        for line in sys.stdin:
            answer(**one_fit(task, line.strip()))
    except Exception as error:  # the other side says it, in one line
        answer(error=" ".join(f"{type(error).__name__}: {error}".split()))


if __name__ == "__main__":
    main()
