"""Which cells the ladder asks for: a coarse scan that all methods share, then halvings of every bracket; and the phase diagram's grid."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from lrbench.ladder.axes import AXES, phase_task
from lrbench.ladder.breakdown import next_rung
from lrbench.ladder.curves import REFERENCE, curves_of
from lrbench.record import Record
from lrbench.study import Block

METHODS = (
    "topk_sae", "batchtopk_sae", "matryoshka_sae", "relu_sae", "jumprelu_sae", "gated_sae", "acs_sae", "transcoder", "crosscoder",
    "ksvd", "dictionary_learning", "kmeans", "ica", REFERENCE,
)  # fmt: skip
SEEDS = 3
SCAN = 4  # rungs of the coarse scan
PHASE_METHODS = ("topk_sae", "batchtopk_sae", "jumprelu_sae", "matryoshka_sae", "ksvd")
PHASE_SEEDS = 1
UNDERSAMPLINGS = (0.064, 0.12, 0.208, 0.36, 0.608, 0.96)  # δ = d/n: 8 to 120 dimensions for 125 features
DENSITIES = (0.02, 0.036, 0.065, 0.117, 0.21, 0.38)  # ρ = mean L0 / d
DENSEST = 0.25  # of all features active in a sample: beyond, training takes long and no method finds anything


def plan(suite: str, seeds: int | None) -> list[Block]:
    """Return the coarse scan and the phase diagram, world by world."""
    count = SEEDS if seeds is None else seeds
    scan = [
        Block([axis.task(rung)], METHODS, [seed])
        for axis in AXES
        for rung in scanned(len(axis.levels))
        for seed in range(count)
    ]
    grid = [
        Block([phase_task(*place)], PHASE_METHODS, [seed])
        for place in phase_places()
        for seed in range(min(count, PHASE_SEEDS))
    ]
    return scan + grid


def next_round(suite: str, seeds: int | None, records: Sequence[Record]) -> list[Block]:
    """Return the middle of every bracket, per method and seed, those that share a world together."""
    curves, blocks = curves_of(records), []
    for axis in AXES:
        asked: dict[tuple[int, int], list[str]] = {}
        for method, of_seed in curves.get(axis.name, {}).items():
            for seed, points in of_seed.items():
                rung = next_rung(points)
                if rung is not None:
                    asked.setdefault((rung, seed), []).append(method)
        blocks += [Block([axis.task(rung)], methods, [seed]) for (rung, seed), methods in sorted(asked.items())]
    return blocks


def scanned(rungs: int) -> list[int]:
    """Return the rungs of the coarse scan, the first and the last among them.

    Examples
    --------
    >>> scanned(26)
    [0, 8, 17, 25]
    """
    return list(dict.fromkeys(round(place * (rungs - 1) / (SCAN - 1)) for place in range(SCAN)))


def phase_places() -> list[tuple[float, float]]:
    """Return the places (δ, ρ) of the phase diagram's grid where at most `DENSEST` of the features are active."""
    return [(delta, rho) for delta in UNDERSAMPLINGS for rho in DENSITIES if delta * rho <= DENSEST]


def most_cells(seeds: int = SEEDS) -> int:
    """Return how many cells the study asks for at most: where every bracket is halved to the end."""
    total = len(phase_places()) * len(PHASE_METHODS) * min(seeds, PHASE_SEEDS)
    for axis in AXES:
        scan = scanned(len(axis.levels))
        widest = max(high - low for low, high in itertools.pairwise(scan))
        total += len(METHODS) * seeds * (len(scan) + (widest - 1).bit_length())
    return total
