"""The phase diagram: scores over (δ, ρ), and for every δ the density at which half of the features are found."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from lrbench.ladder.axes import phase_task
from lrbench.ladder.breakdown import HALF, LACKING, Break
from lrbench.ladder.curves import score_of
from lrbench.ladder.schedule import DENSITIES, PHASE_METHODS, UNDERSAMPLINGS, phase_places
from lrbench.record import Record

Plane = Mapping[tuple[float, float], float]  # (δ, ρ) → score, mean over seeds


def planes_of(records: Sequence[Record]) -> dict[str, Plane]:
    """Return method → its plane, those of `PHASE_METHODS` first; a skipped cell counts as 0."""
    places = {phase_task(*place): place for place in phase_places()}
    found: dict[str, dict[tuple[float, float], list[float]]] = {}
    for record in records:
        score = score_of(record)
        if record.task in places and score is not None:
            scores = found.setdefault(record.method, defaultdict(list))[places[record.task]]
            scores.append(0.0 if score == LACKING else score)
    order = [*(name for name in PHASE_METHODS if name in found), *sorted(found.keys() - {*PHASE_METHODS})]
    return {
        method: {place: math.fsum(scores) / len(scores) for place, scores in found[method].items()} for method in order
    }


def edge_of(plane: Plane) -> dict[float, Break]:
    """Return δ → log ρ of the highest density at which half of the features are found, between two places by interpolation.

    A `Break` with side 1 says that even the densest place was found, one with side -1 that none was. The highest and not the first:
    very sparse worlds show a feature so rarely that a method may need more samples than it has.
    """
    edges: dict[float, Break] = {}
    for delta in UNDERSAMPLINGS:
        known = [(math.log(rho), plane[delta, rho]) for rho in DENSITIES if (delta, rho) in plane]
        passed = [place for place, (_, score) in enumerate(known) if score >= HALF]
        if not known:
            continue
        if not passed:
            edges[delta] = Break(known[0][0], -1)
        elif passed[-1] == len(known) - 1:
            edges[delta] = Break(known[-1][0], 1)
        else:
            (low, above), (high, below) = known[passed[-1]], known[passed[-1] + 1]
            edges[delta] = Break(low + (above - HALF) / (above - below) * (high - low), 0)
    return edges
