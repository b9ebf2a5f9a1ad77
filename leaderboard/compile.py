"""Records into frames: who stands where, how sure that is, and which cells are missing from the sums.

Every mean here follows one rule. A task counts for a method, and for a metric, only if the method has the value on all
of its seeds; the mean, over the tasks of a family and then over families, is taken inside each seed first, and the interval is
over the seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrbench.metric_table import METRICS
from lrbench.pages.interval import interval

from .anchored import anchored_minus_plain
from .breakdown import breakdowns
from .facts import Gap, gaps_of, provenance_of, world_facts
from .l0 import curve_points, curves, reached
from .means import natural, seed_means
from .standing import standings

if TYPE_CHECKING:
    import pandas as pd

    from lrbench.record import Key, Record

OF_PROXIES = "real"  # the suite whose tasks have a proxy for their truth: no mean may hold both sorts
NO_RANKING = ("smoke",)  # toy worlds, which ask whether a method runs
NUMBERS = ("seconds", "reached", "missed")  # beside the metrics
ABSORPTION_METRICS = ("recall_alone", "recall_with_child", "absorption")


@dataclass(frozen=True)
class Board:
    """All that is said about one suite.

    Attributes
    ----------
    standings
        One row per method, best first: ``method, pair, kind, tasks, seeds``, every metric, ``seconds`` (mean of a cell) and
        ``half``, the half width of the headline's 95% interval (NaN with one seed). ``ranked`` is false for references and for
        methods without a score; ``rank_low, rank_high`` are the range among those of one pairing, NaN where no test is possible.
        ``best, best_at``: the best score of the method's L0 curve, and the multiple it was told (NaN: the row itself). ``missed_low, missed_high``: how far the L0 is
        from the target, as a share of it, on the tasks where that is least and most. ``breakdown``: see `lrbench.leaderboard.breakdown`.
    ahead
        The pairs (front, behind) of methods of one pairing that the test tells apart.
    families
        Family → headline score, methods × tasks; NaN where a cell of the task is missing.
    absorption
        Family → ``method, tasks`` and mean and ``_half`` of each absorption metric.
    anchored
        ``method, family, difference, half, p, pairs``: the anchored twin minus the plain method; no family: over all.
    curves
        ``method, threshold, dec, enc``: mean recovery over the counted tasks and their seeds, families weighing equally.
    l0_curves
        ``method, multiple, tasks, reached, headline, half``: the points of the methods that were run at other L0 too. A point
        is no row of another table.
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
    ahead: frozenset[tuple[str, str]]
    families: dict[str, pd.DataFrame]
    absorption: dict[str, pd.DataFrame]
    anchored: pd.DataFrame
    curves: pd.DataFrame
    l0_curves: pd.DataFrame
    worlds: pd.DataFrame
    traps: pd.DataFrame
    counted_as: tuple[tuple[str, str], ...]
    gaps: tuple[Gap, ...]
    set_aside: tuple[tuple[str, str], ...]
    provenance: tuple[tuple[str, str], ...]
    commit: str | None


def compile_boards(records: Sequence[Record]) -> list[Board]:
    """One board per suite, in the order of the suites' names; what only a study asked for is no cell of any."""
    ranked = [record for record in records if record.study is None]
    of_suite = {suite: [r for r in ranked if r.suite == suite] for suite in sorted({r.suite for r in ranked})}
    return [
        _board(suite, own, breakdowns(suite, records)) for suite, own in of_suite.items() if _one_sort(suite, own)[0]
    ]


def _board(suite: str, records: list[Record], broken: Mapping[str, float]) -> Board:
    alike, others = _one_sort(suite, records)
    newest, changed = _comparable(alike)
    set_aside = tuple(sorted(others + changed))
    kept, counted_as = _each_question_once(newest)
    everything, traps = _apart(_cells(kept))
    tasks, trap_tasks = (tuple(sorted(part["task"].unique(), key=natural)) for part in (everything, traps))
    gaps = gaps_of(everything, tasks)
    if trap_tasks != tasks:
        gaps += gaps_of(traps, trap_tasks)
    homes = curve_points(set(everything["method"]))
    l0_curves = curves(everything, homes)
    cells = everything[~everything["method"].isin(homes)]
    rows, counted, ahead = standings(cells, l0_curves, ranking=suite not in NO_RANKING)
    rows["breakdown"] = rows["method"].map(broken).astype(float)
    order = list(rows["method"])
    sources = {(record.provenance.commit, record.provenance.dirty) for record in kept}
    commit, dirty = sources.pop() if len(sources) == 1 else (None, None)
    return Board(
        suite=suite,
        tasks=tasks,
        seeds=tuple(int(seed) for seed in sorted(cells["seed"].unique())),
        standings=rows,
        ahead=frozenset(ahead),
        families=_families(cells, order, tasks),
        absorption=_absorption(cells, order),
        anchored=anchored_minus_plain(cells, order),
        curves=_curves(kept, counted),
        l0_curves=l0_curves,
        worlds=world_facts(kept, tuple(dict.fromkeys(tasks + trap_tasks))),
        traps=traps,
        counted_as=counted_as,
        gaps=gaps,
        set_aside=set_aside,
        provenance=provenance_of(kept),
        commit=None if dirty else commit,
    )


def _one_sort(suite: str, records: list[Record]) -> tuple[list[Record], tuple[tuple[str, str], ...]]:
    """Part records whose truth is a proxy from those whose truth is known; a suite shows one sort, and says why the others are out.

    Only a world of the first sort can be unavailable.
    """

    def of_proxy(record: Record) -> bool:
        return "proxy" in record.world or record.world.get("available") is False

    tasks = {record.task: of_proxy(record) for record in sorted(records, key=of_proxy)}
    why = "its truth is a proxy" if suite != OF_PROXIES else "its truth is known"
    kept = [record for record in records if tasks[record.task] == (suite == OF_PROXIES)]
    aside = [record for record in records if tasks[record.task] != (suite == OF_PROXIES)]
    return kept, tuple((f"{record.task} · {record.method} · seed {record.seed}", why) for record in aside)


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
        numbers = {"seconds": seconds, **reached(record), **scores}
        rows.append({**facts, "world": record.world_hash, "reason": reason, **numbers})
    frame: pd.DataFrame = pd.DataFrame(rows).astype(dict.fromkeys([*METRICS, *NUMBERS], float))
    return frame


def _apart(cells: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the cells that are ranked and those of trap families, which ask something that does not average with the rest.

    A family is one of traps if any of its records has an escape. Where nothing but traps was run, they are ranked as well.
    """
    families = cells.loc[cells["escape"].notna(), "family"].unique()
    trapped = cells["family"].isin(families)
    return cells if trapped.all() else cells[~trapped], cells[trapped]


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


def _curves(records: list[Record], counted: set[tuple[str, str]]) -> pd.DataFrame:
    import pandas as pd

    names = ("threshold", "recovery_dec", "recovery_enc")
    points = [
        (record.method, record.family, *point)
        for record in records
        if (record.method, record.task) in counted and record.curves
        for point in zip(*(record.curves[name] for name in names), strict=True)
    ]
    frame = pd.DataFrame(points, columns=["method", "family", "threshold", "dec", "enc"])
    by_family = frame.groupby(["method", "family", "threshold"], as_index=False).mean()
    means: pd.DataFrame = by_family.groupby(["method", "threshold"], as_index=False)[["dec", "enc"]].mean()
    return means
