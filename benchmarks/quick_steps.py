"""What a training step of the suite ``quick`` takes here, and at another commit: processor time, the two fitting in turns.

Each side is a process of its own with one thread. After one untimed fit, which compiles, they fit the same method on the same task in the
order A B B A A B ..., and the fastest fit of each counts: what else runs on the machine only ever adds. A step is a fit over its number
of steps, so what a fit does besides is in it.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import torch

from lrbench.errors import LrbenchError

ROOT = Path(__file__).parent.parent
TASK = "superposition/1.30x"
PLAIN = (
    "topk_sae", "batchtopk_sae", "matryoshka_sae", "transcoder", "crosscoder", "relu_sae", "jumprelu_sae", "gated_sae",
)  # fmt: skip
METHODS = (*PLAIN, *(f"{name}+anchored" for name in PLAIN))
ROUNDS = 5
PRODUCTS = 300  # encoder products that are timed together
HEADS = ["work", "ms per step", "at {}", "new/old", "times encoder"]
Product = Callable[[int, int, int], Callable[[Any], object]]


@dataclass(frozen=True)
class StepRow:
    """One line of the table, in seconds of processor time per step; ``baseline_s`` is None where nothing is compared."""

    work: str
    ours_s: float
    baseline_s: float | None
    times_encoder: float

    @property
    def new_over_old(self) -> float | None:
        """The step here as a share of the baseline's."""
        return self.ours_s / self.baseline_s if self.baseline_s else None

    def values(self) -> dict[str, Any]:
        """Return the numbers for programs."""
        return {**vars(self), "new_over_old": self.new_over_old}


class Fitter:
    """A process that fits with the lrbench of one folder.

    Parameters
    ----------
    folder
        Holds ``lrbench/``, and within it ``methods`` and ``tasks`` unless lrbench is installed from that very folder.
    suite
        The scale.
    own
        Variables of the environment that are different there.
    name
        What errors call it.
    """

    def __init__(self, folder: Path, suite: str, own: dict[str, str], name: str) -> None:
        self.name = name
        script = Path(__file__).with_name("quick_fits.py")
        environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"} | own
        command = [sys.executable, str(script), str(folder), suite, TASK]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> Fitter:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def answer(self) -> dict[str, float]:
        """Return the next answer, or raise `LrbenchError` where there is none."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = json.loads(line) if line else {"error": "its process ended"}
        if "error" in found:
            raise LrbenchError(f"{self.name}: {found['error']}")
        return dict(found)

    def fit(self, method: str) -> dict[str, float]:
        """Fit a method, see `quick_fits.one_fit`."""
        assert self.process.stdin is not None
        print(method, file=self.process.stdin, flush=True)
        return self.answer()


def commit_of(name: str) -> str:
    """Return the short hash of a commit, or raise `LrbenchError` for one that this repository does not have."""
    command = ["git", "rev-parse", "--verify", "--quiet", "--short", "--end-of-options", f"{name}^{{commit}}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise LrbenchError(f"--against {name}: no commit of {ROOT}; expected a hash, a branch or a tag")
    return done.stdout.strip()


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """Lay the files of a commit into a temporary folder, its methods and tasks where Python looks for them first."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        packed = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(folder)
        for part in ("methods", "tasks", "leaderboard"):
            if (folder / part).is_dir():
                (folder / "lrbench" / part).symlink_to(folder / part)
        yield folder


def seconds_of(product: Callable[[Any], object]) -> float:
    """Return the processor time of one product (s)."""
    began = process_time()
    for _ in range(PRODUCTS):
        product(None)
    return (process_time() - began) / PRODUCTS


def measure(
    against: str | None,
    encoder_product: Product,
    tick: Callable[[str], object],
    methods: Sequence[str] = METHODS,
    suite: str = "quick",
) -> list[StepRow]:
    """Time the steps of methods.

    Parameters
    ----------
    against
        The commit to compare with, None for none.
    encoder_product
        From (d_in, width, batch_size) to a call of the product (batch x d_in) @ (d_in x width).
    tick
        Is told what is measured now.
    methods, suite
        Names of the catalogue, and the scale.

    Raises
    ------
    LrbenchError
        For a commit that does not exist, and where one of the processes cannot fit with the code it is meant to fit with.
    """
    torch.set_num_threads(1)
    with ExitStack() as stack:
        started: list[tuple[Path, dict[str, str], str]] = [(ROOT, {}, "here")]
        if against is not None:
            commit = commit_of(against)
            folder = stack.enter_context(checkout(commit))
            started.append((folder, {"NUMBA_CACHE_DIR": str(folder / "compiled")}, f"at {commit}"))
        sides = [stack.enter_context(Fitter(folder, suite, own, name)) for folder, own, name in started]
        for side in sides:
            side.answer()
        return [_row(method, sides, encoder_product, tick) for method in methods]


def _row(method: str, sides: list[Fitter], encoder_product: Product, tick: Callable[[str], object]) -> StepRow:
    for side in sides:
        tick(f"{method}, warming up")
        sizes = side.fit(method)
    shape = (int(sizes["d_in"]), int(sizes["width"]), int(sizes["batch_size"]))
    product, steps = encoder_product(*shape), sizes["steps"]
    seconds_of(product)
    fits: list[list[float]] = [[] for _ in sides]
    products = []
    for turn in range(ROUNDS):
        tick(f"{method}, {turn + 1} of {ROUNDS}")
        products.append(seconds_of(product))
        for place in range(len(sides)) if turn % 2 == 0 else reversed(range(len(sides))):
            fits[place].append(sides[place].fit(method)["seconds"] / steps)
    ours, *baseline = map(min, fits)
    return StepRow(f"quick/{method}", ours, baseline[0] if baseline else None, ours / min(products))


def table(rows: Sequence[StepRow], against: str | None) -> str:
    """Return the rows as a markdown table, times in milliseconds."""
    heads = [head.format(against or "no commit") for head in HEADS]
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    for row in rows:
        known = [
            "–" if value is None else f"{value * scale:.{digits}f}"
            for value, scale, digits in (
                (row.ours_s, 1e3, 3), (row.baseline_s, 1e3, 3), (row.new_over_old, 1, 3), (row.times_encoder, 1, 1),
            )
        ]  # fmt: skip
        lines.append("| " + " | ".join([row.work, *known]) + " |")
    return "\n".join(lines)
