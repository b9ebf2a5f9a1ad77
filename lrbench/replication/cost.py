"""What table 1 took, from its records; and what it would take without bfloat16, as an estimate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

from lrbench.pages.markdown import code, number, table
from lrbench.record import Record
from lrbench.replication.reported import DEFAULT, LARGE, ROWS, SMALL, address

BFLOAT16_MS, AVX2_MS = 61.5, 450.0  # a step of topk/16000, from docs/performance.md


def cost_section(records: Sequence[Record], scales: Mapping[str, str]) -> str:
    """Return what the rows of table 1 took with one seed, at the scale of the suite, and where; nothing without one."""
    methods, task = dict.fromkeys(row.method for row in ROWS if row.table == 1), address(LARGE, DEFAULT)
    own = {r.method: r for r in records if (r.task, r.seed) == (task, 0) and r.status == "ok"}
    timed = [own[method] for method in methods if method in own]
    if not timed:
        return ""
    rows = [[code(r.method), *(_number(value) for value in _costs(r))] for r in timed]
    total = math.fsum(r.timing.seconds for r in timed)
    estimate = f"\n\n{_without_bfloat16(timed)}" if SMALL in scales else ""
    return f"""## Cost

Trained at {scales[LARGE]} with seed 0: {len(timed)} of the {len(methods)} rows of table 1. Their seconds add up to {total / 60:.1f} minutes; at least one of
them was running during {passed(timed) / 60:.1f} minutes of the clock. The records name {"; ".join(_places(timed))}.
They name neither the processor nor how many threads a cell had nor what else ran beside it: [studies.md](studies.md#the-replication) has that of the committed ones.{estimate}

{table(["row", "seconds", "of them training", "samples per second"], rows, left=1)}"""


def passed(records: Sequence[Record]) -> float:
    """Return the seconds of the clock during which at least one of the cells ran."""
    ends = [(datetime.fromisoformat(r.timing.finished).timestamp(), r.timing.seconds) for r in records]
    total, until = 0.0, -math.inf
    for begin, end in sorted((end - seconds, end) for end, seconds in ends):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def _costs(record: Record) -> tuple[float | None, ...]:
    timing = record.timing
    return timing.seconds, timing.train_seconds, timing.samples_per_second


def _number(value: float | None) -> str:
    return number(math.nan if value is None else value, 0)


def _places(records: Sequence[Record]) -> list[str]:
    origins = (r.provenance for r in records)
    return sorted(
        {
            f"{it.platform}, {it.device}, torch {it.packages.get('torch', '?')}, engine {it.engine or '?'}"
            for it in origins
        }
    )


def _without_bfloat16(records: Sequence[Record]) -> str:
    times = AVX2_MS / BFLOAT16_MS
    training = math.fsum(r.timing.train_seconds or 0.0 for r in records)
    total = math.fsum(r.timing.seconds for r in records) + training * (times - 1)
    return (
        f"An estimate, not a measurement, for a processor with AVX2 only: there a step of TopK with 16,000 latents took {AVX2_MS:g} ms on two busy cores, and "
        f"{BFLOAT16_MS:g} ms on two with AVX-512 and bfloat16 ([performance.md](performance.md#measured-beside-others)). If these rows were trained with bfloat16, as "
        f"the committed ones were, and every training took {times:.1f} times as long, the seconds would add up to {total / 60:.0f} minutes."
    )
