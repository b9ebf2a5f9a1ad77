"""Records into frames: who stands where, how sure that is, and which cells are missing from the sums.

Every mean here follows one rule. A task counts for a method, and for a metric, only if the method has the value on all
of its seeds; the mean over those tasks is taken inside each seed first, and the interval is over the seeds.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lrbench.metric_table import METRICS
from lrbench.pages.interval import interval

if TYPE_CHECKING:
    import pandas as pd

    from lrbench.record import Key, Record

ANCHORED = "+anchored"
VALUES_SHOWN = 10  # of one fact about where records come from
ABSORPTION_METRICS = ("recall_alone", "recall_with_child", "absorption")


@dataclass(frozen=True)
class Gap:
    """Cells that did not yield a score: one method, one status, one reason."""

    method: str
    status: str
    reason: str
    cells: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Board:
    """All that is said about one suite.

    Attributes
    ----------
    standings
        One row per method, in the order of the page: ``rank`` (NaN for references and for methods without a score),
        ``method, pair, kind, tasks, seeds``, every metric, ``seconds`` (mean of a cell) and ``half``, the half width of
        the headline's 95% interval (NaN with one seed).
    families
        Family → headline score, methods × tasks; NaN where a cell of the task is missing.
    absorption
        Family → ``method, tasks`` and mean and ``_half`` of each absorption metric.
    anchored
        ``method, difference, half, pairs``: the anchored twin minus the plain method.
    curves
        ``method, threshold, dec, enc``: mean recovery over the counted tasks and their seeds.
    worlds
        One row per task: what the records say about its worlds.
    commit
        The commit that every record was made at, None if they differ or had uncommitted changes.
    traps
        The cells of the families that start in a trap, which stand in no other table; one row per record, with ``escape``.
    counted_as
        Tasks that ask the same question as another one, which alone is counted: (name, the name it is counted under).
    gaps, set_aside
        Cells without a score; records left out because they do not compare with the others: (record's name, why).
    """

    suite: str
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    standings: pd.DataFrame
    families: dict[str, pd.DataFrame]
    absorption: dict[str, pd.DataFrame]
    anchored: pd.DataFrame
    curves: pd.DataFrame
    worlds: pd.DataFrame
    traps: pd.DataFrame
    counted_as: tuple[tuple[str, str], ...]
    gaps: tuple[Gap, ...]
    set_aside: tuple[tuple[str, str], ...]
    provenance: tuple[tuple[str, str], ...]
    commit: str | None


def compile_boards(records: Sequence[Record]) -> list[Board]:
    """One board per suite, in the order of the suites' names; what only a study asked for stands on none."""
    ranked = [record for record in records if record.study is None]
    suites = sorted({record.suite for record in ranked})
    return [_board(suite, [record for record in ranked if record.suite == suite]) for suite in suites]


def seed_means(cells: pd.DataFrame, column: str, seeds: Sequence[int]) -> tuple[list[float], list[str]]:
    """Mean over tasks inside each seed, for one method's cells, and the tasks that counted: those with every seed."""
    grid = cells.pivot(index="task", columns="seed", values=column).reindex(columns=list(seeds)).dropna(how="any")
    return [float(mean) for mean in grid.mean(axis=0)], list(grid.index)


def natural(name: str) -> list[tuple[int, float, str]]:
    """Sort key under which 0.8x, 1.04x, 2x, 10x stand in this order."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [(0, float(part), "") if i % 2 else (1, 0.0, part) for i, part in enumerate(parts)]


def _board(suite: str, records: list[Record]) -> Board:
    newest, set_aside = _comparable(records)
    kept, counted_as = _each_question_once(newest)
    cells, traps = _apart(_cells(kept))
    tasks, trap_tasks = (tuple(sorted(part["task"].unique(), key=natural)) for part in (cells, traps))
    gaps = _gaps(cells, list(cells["method"].unique()), tasks)
    if trap_tasks != tasks:
        gaps += _gaps(traps, list(traps["method"].unique()), trap_tasks)
    standings, counted = _standings(cells)
    order = list(standings["method"])
    sources = {(record.provenance.commit, record.provenance.dirty) for record in kept}
    commit, dirty = sources.pop() if len(sources) == 1 else (None, None)
    return Board(
        suite=suite,
        tasks=tasks,
        seeds=tuple(int(seed) for seed in sorted(cells["seed"].unique())),
        standings=standings,
        families=_families(cells, order, tasks),
        absorption=_absorption(cells, order),
        anchored=_anchored(cells, order),
        curves=_curves(kept, counted),
        worlds=_worlds(kept, tuple(dict.fromkeys(tasks + trap_tasks))),
        traps=traps,
        counted_as=counted_as,
        gaps=gaps,
        set_aside=set_aside,
        provenance=_provenance(kept),
        commit=None if dirty else commit,
    )


def _comparable(records: list[Record]) -> tuple[list[Record], tuple[tuple[str, str], ...]]:
    """Keep the newest version of every task and of every method; say why each other record is out."""
    aside: list[tuple[str, str]] = []

    def keep_newest(pool: list[Record], of: Callable[[Record], tuple[str, str]], why: str) -> list[Record]:
        newest = dict(map(of, pool))  # the pool is in order of time, so the last version stays
        old = [record for record in pool if newest[of(record)[0]] != of(record)[1]]
        aside.extend((f"{record.task} · {record.method} · seed {record.seed}", why) for record in old)
        return [record for record in pool if newest[of(record)[0]] == of(record)[1]]

    pool = sorted(records, key=lambda record: (record.timing.finished, record.key))
    pool = keep_newest(pool, lambda r: (r.task, r.task_hash), "not comparable: the task has changed since")
    pool = keep_newest(pool, lambda r: (r.method, r.source_hash), "the method's source has changed since")
    return sorted(pool, key=lambda record: record.key), tuple(sorted(aside))


def _each_question_once(records: list[Record]) -> tuple[list[Record], tuple[tuple[str, str], ...]]:
    """Put tasks with one hash under the first of their names, so that a mean counts each world once; say which those are."""
    first: dict[str, Record] = {}
    for record in sorted(records, key=lambda record: natural(record.task)):
        first.setdefault(record.task_hash, record)
    names = {record.task: first[record.task_hash].task for record in records}
    cells: dict[Key, Record] = {}
    for record in sorted(
        records, key=lambda record: record.task != names[record.task]
    ):  # its own record of a cell counts
        home = first[record.task_hash]
        renamed = record.model_copy(update={"task": home.task, "family": home.family})
        cells.setdefault(renamed.key, renamed)
    counted_as = tuple((name, names[name]) for name in sorted(names, key=natural) if names[name] != name)
    return [cells[key] for key in sorted(cells)], counted_as


def _cells(records: list[Record]) -> pd.DataFrame:
    """One row per record; every score is NaN unless the cell is ok and the metric applies."""
    import pandas as pd

    rows: list[dict[str, object]] = []
    for record in records:
        ok = record.status == "ok"
        scores = {name: record.scores.get(name) if ok else None for name in METRICS}
        facts = {name: getattr(record, name) for name in ("task", "family", "method", "pair", "kind", "seed", "status")}
        seconds = record.timing.seconds if ok else None
        reason = record.reason or "the headline does not apply"
        rows.append({**facts, "world": record.world_hash, "reason": reason, "seconds": seconds, **scores})
    frame: pd.DataFrame = pd.DataFrame(rows).astype({name: float for name in [*METRICS, "seconds"]})
    return frame


def _apart(cells: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the cells that are ranked and those of trap families, which ask something that does not average with the rest.

    A family is one of traps if any of its records has an escape. Where nothing but traps was run, they are ranked as well.
    """
    families = cells.loc[cells["escape"].notna(), "family"].unique()
    trapped = cells["family"].isin(families)
    return cells if trapped.all() else cells[~trapped], cells[trapped]


def _standings(cells: pd.DataFrame) -> tuple[pd.DataFrame, set[tuple[str, str]]]:
    """The headline table, and the (method, task) pairs that its scores rest on."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    counted: set[tuple[str, str]] = set()
    for method, own in cells.groupby("method"):
        seeds = sorted(own["seed"].unique())
        means, names = seed_means(own, "headline", seeds)
        counted |= {(str(method), task) for task in names}
        headline = interval(means)
        own = own[own["task"].isin(names)]
        row = {"method": method, "seeds": len(seeds), "tasks": len(names)}
        row |= {"headline": headline.mean, "half": headline.half}
        for name in ("pair", "kind"):
            row[name] = cells.loc[cells["method"] == method, name].iloc[0]
        for name in (*METRICS, "seconds"):
            if name != "headline":
                row[name] = interval(seed_means(own, name, seeds)[0]).mean
        rows.append(row)

    def place(row: dict[str, Any]) -> tuple[int, float]:
        return -row["tasks"], -row["headline"] if row["tasks"] else 0.0

    ranked = [row for row in rows if row["kind"] != "reference" and row["tasks"]]
    for row in rows:
        row["rank"] = math.nan
    for row in ranked:
        row["rank"] = 1.0 + sum(place(other) < place(row) for other in ranked)
    rows.sort(key=lambda row: (*place(row), row["kind"] != "reference", row["method"]))
    return pd.DataFrame(rows), counted


def _families(cells: pd.DataFrame, order: list[str], tasks: tuple[str, ...]) -> dict[str, pd.DataFrame]:
    tables = {}
    seeds = cells.groupby("method")["seed"].nunique()
    for family, part in cells.groupby("family"):
        full = part.groupby(["method", "task"])["headline"].agg(["mean", "count"]).reset_index()
        full = full[full["count"] == full["method"].map(seeds)]
        table = full.pivot(index="method", columns="task", values="mean")
        tables[str(family)] = table.reindex(index=order, columns=[task for task in tasks if task in set(part["task"])])
    return tables


def _absorption(cells: pd.DataFrame, order: list[str]) -> dict[str, pd.DataFrame]:
    import pandas as pd

    tables = {}
    for family, part in cells.groupby("family"):
        rows: list[dict[str, object]] = []
        for method in order:
            own = part[part["method"] == method]
            if own["absorption"].isna().all():
                continue
            seeds = sorted(cells.loc[cells["method"] == method, "seed"].unique())
            names = seed_means(own, "absorption", seeds)[1]  # the recalls rest on the same tasks as their difference
            row: dict[str, object] = {"method": method, "tasks": len(names)}
            for name in ABSORPTION_METRICS:
                span = interval(seed_means(own[own["task"].isin(names)], name, seeds)[0])
                row |= {name: span.mean, f"{name}_half": span.half}
            rows.append(row)
        if rows:
            tables[str(family)] = pd.DataFrame(rows)
    return tables


def _anchored(cells: pd.DataFrame, order: list[str]) -> pd.DataFrame:
    import pandas as pd

    rows: list[dict[str, object]] = []
    for method in (name for name in order if name + ANCHORED in order):
        sides = [cells[cells["method"] == name].dropna(subset=["headline"]) for name in (method, method + ANCHORED)]
        both = sides[0].merge(sides[1], on=["task", "seed", "world"], suffixes=("_plain", "_anchored"))
        span = interval(both["headline_anchored"] - both["headline_plain"])
        rows.append({"method": method, "difference": span.mean, "half": span.half, "pairs": span.count})
    frame: pd.DataFrame = pd.DataFrame(rows, columns=["method", "difference", "half", "pairs"])
    return frame


def _curves(records: list[Record], counted: set[tuple[str, str]]) -> pd.DataFrame:
    import pandas as pd

    names = ("threshold", "recovery_dec", "recovery_enc")
    points = [
        (record.method, *point)
        for record in records
        if (record.method, record.task) in counted and record.curves
        for point in zip(*(record.curves[name] for name in names), strict=True)
    ]
    frame = pd.DataFrame(points, columns=["method", "threshold", "dec", "enc"])
    means: pd.DataFrame = frame.groupby(["method", "threshold"], as_index=False).mean()
    return means


def _worlds(records: list[Record], tasks: tuple[str, ...]) -> pd.DataFrame:
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


def _gaps(cells: pd.DataFrame, order: list[str], tasks: tuple[str, ...]) -> tuple[Gap, ...]:
    gaps = []
    for method in sorted(order):
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


def _provenance(records: list[Record]) -> tuple[tuple[str, str], ...]:
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
