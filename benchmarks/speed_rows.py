"""The rows of `speed.py`, as a markdown table for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import lrbench  # isort: skip  # noqa: F401 (before torch: it tells OpenMP how threads wait)
import quick_steps

from lrbench.engine import processor

KEYS = ("work", "peer", "ours_s", "peer_s", "ratio", "times_encoder")


@dataclass(frozen=True)
class Row:
    """One line of the table; ``None`` where there is nothing to say, ``note`` says why."""

    work: str
    peer: str
    ours_s: float | None
    peer_s: float | None = None
    times_encoder: float | None = None
    note: str = ""
    comparable: bool = True

    @property
    def ratio(self) -> float | None:
        """How many times faster than the peer."""
        return self.peer_s / self.ours_s if self.comparable and self.ours_s and self.peer_s else None


def table(rows: list[Row]) -> str:
    """Return the rows as a markdown table."""
    lines = ["| work | peer | ours | peer's | ratio | times encoder | note |", "|---|---|---:|---:|---:|---:|---|"]
    for row in rows:
        times = [_seconds(row.ours_s), _seconds(row.peer_s)]
        factors = ["–" if value is None else f"{value:.1f}" for value in (row.ratio, row.times_encoder)]
        lines.append("| " + " | ".join([row.work, row.peer, *times, *factors, row.note]) + " |")
    return "\n".join(lines)


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value * 1e3:.1f} ms" if value < 1 else f"{value:.2f} s"


def instructions() -> str:
    """Return the line under the table: what the processor has, and in which numbers an encoder product was formed."""
    kind = "bfloat16" if processor.multiplies_bfloat16() else "float32"
    return f"Instructions: {processor.instructions()}; an encoder product is one in {kind}."


def as_json(rows: list[Row], steps: Sequence[quick_steps.StepRow] = ()) -> str:
    """Return the rows' numbers for programs."""
    found = [{key: getattr(row, key) for key in KEYS} for row in rows] + [row.values() for row in steps]
    return json.dumps(found, indent=1, allow_nan=False) + "\n"
