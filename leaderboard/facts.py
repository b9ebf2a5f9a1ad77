"""What stands beside the scores: the worlds, the cells without a score, and where the records come from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .means import natural

if TYPE_CHECKING:
    import pandas as pd

    from lrbench.record import Record

VALUES_SHOWN = 10  # of one fact about where records come from


@dataclass(frozen=True)
class Gap:
    """Cells that did not yield a score: one method, one status, one reason."""

    method: str
    status: str
    reason: str
    cells: tuple[tuple[str, int], ...]


def world_facts(records: Sequence[Record], tasks: Sequence[str]) -> pd.DataFrame:
    """Facts of a task's worlds; a fact that differs by seed is given as its range."""
    import pandas as pd

    rows: list[dict[str, object]] = []
    for task in tasks:
        worlds = [record.world for record in records if record.task == task and record.world]
        row: dict[str, object] = {"task": task}
        for name in sorted({name for world in worlds for name in world}):
            values = {world[name] for world in worlds if world.get(name) is not None}
            row[name] = sorted(values, key=lambda value: natural(str(value)))
        rows.append(row)
    frame: pd.DataFrame = pd.DataFrame(rows)
    return frame


def gaps_of(cells: pd.DataFrame, tasks: Sequence[str]) -> tuple[Gap, ...]:
    """Return what each method of the cells lacks of the tasks, on the seeds that it was run with."""
    gaps = []
    for method in sorted(cells["method"].unique()):
        own = cells[cells["method"] == method]
        groups: dict[tuple[str, str], list[tuple[str, int]]] = {}
        present = {(row["task"], row["seed"]): row for row in own.to_dict("records")}
        for task in tasks:
            for seed in sorted(own["seed"].unique()):
                row = present.get((task, seed))
                if row is None:
                    groups.setdefault(("missing", "no record of this cell"), []).append((task, int(seed)))
                elif math.isnan(row["headline"]):
                    groups.setdefault((row["status"], row["reason"]), []).append((task, int(seed)))
        gaps += [
            Gap(method=method, status=status, reason=reason, cells=tuple(found))
            for (status, reason), found in sorted(groups.items())
        ]
    return tuple(gaps)


def provenance_of(records: Sequence[Record]) -> tuple[tuple[str, str], ...]:
    """Where the records come from; several values are all given, each with its number of cells."""
    facts: list[dict[str, str]] = []
    for record in records:
        source = record.provenance
        dirty = " with uncommitted changes" if source.dirty else ""
        commit = f"{source.commit}{dirty}" if source.commit else "unknown"
        own = {"lrbench": source.lrbench, "commit": commit, "device": source.device}
        own |= {"engine": source.engine or "unknown", "isolation of fit": source.isolation or "unknown"}
        own["worlds"] = f"salted, hash {record.salt_hash}" if record.salt_hash else "public"
        own |= {"python": source.python, "platform": source.platform, **dict(sorted(source.packages.items()))}
        facts.append(own)
    lines = []
    for name in dict.fromkeys(name for own in facts for name in own):
        found = Counter(own.get(name, "absent") for own in facts)
        distinct = sorted(found)
        counts = [f"{v} (×{found[v]})" for v in distinct] if len(distinct) > 1 else distinct
        if len(counts) > VALUES_SHOWN:
            counts = [*counts[:VALUES_SHOWN], f"and {len(counts) - VALUES_SHOWN} more"]
        lines.append((name, "; ".join(counts)))
    finished = sorted(record.timing.finished for record in records)
    lines.append(("cells", f"{len(records)}, finished between {finished[0]} and {finished[-1]}"))
    lines.append(("time", f"{sum(record.timing.seconds for record in records) / 60:.1f} minutes, summed over cells"))
    return tuple(lines)
