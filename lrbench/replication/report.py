"""The replication's page: every number of ours in it comes from the records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from lrbench.catalogue.tasks import load_task
from lrbench.pages.interval import LEVEL
from lrbench.pages.markdown import NONE, code, number, table, varied
from lrbench.pages.terminal import as_text
from lrbench.record import Record
from lrbench.replication.answers import (
    anchoring_section,
    causes_section,
    explaining,
    paper_causes,
    penalty_section,
    told,
)
from lrbench.replication.causes import NO_PENALTY, search
from lrbench.replication.figure import save_figure
from lrbench.replication.findings import AS_REPORTED, SIDES, TOLERANCE, Cells, cells_of, find, possible, spread
from lrbench.replication.reported import DEFAULT, NAMES, ROWS, TABLES, Row, address
from lrbench.replication.schedule import PAPER
from lrbench.replication.words import NOT_RUN, cell_text, reported_text, side_text, without_score

LARGE, SMALL = "reported", "reported_small"
NOTES = {
    1: "k is not given. Here it is the mean L0, 10; the search above varies it.",
    4: "Reported values marked † contradict each other: if every feature is recovered above 0.95, M_IP is above 0.95. The row n = 1000 also "
    "disagrees with table 1, which has the same method in the same setting.",
    5: "M is a bound. At the paper's scale random directions keep M = 0.2 from the start, so M = 0.2 and 0.5 are one law there.",
    6: "The table's header calls 1−S S. k is the mean L0 of each row.",
    7: "k is told as a multiple of the mean L0, so that the small scale asks the same: 3.2, 6.4 and 12.8 times.",
}  # fmt: skip


def write(records: Sequence[Record], suite: str, path: Path) -> str:
    """Write the page and its figure (``figures/NAME.png`` beside it), and return the verdicts for a terminal."""
    cells, scales = cells_of(records), scales_of(suite)
    save_figure(cells, scales, path.parent / "figures" / f"{path.stem}.png")
    path.write_text(page(records, suite, path.stem), encoding="utf-8")
    rows = [[f"table {row.table}", row.label, _verdict(cells, row, next(iter(scales)))] for row in ROWS]
    return as_text([["", "row", "verdict"], *rows])


def scales_of(suite: str) -> dict[str, str]:
    """Return the families of tasks that a suite asks, with the name of their scale: two in the suite of the paper's scale."""
    return (
        {LARGE: "the paper's scale", SMALL: "the small scale"} if suite == PAPER else {LARGE: f"the scale of {suite}"}
    )


def page(records: Sequence[Record], suite: str, stem: str) -> str:
    """Return the page as markdown."""
    cells, scales = cells_of(records), scales_of(suite)
    paper, small = (LARGE, SMALL) if suite == PAPER else (None, LARGE)
    parts = [_header(cells, suite), causes_section(cells, paper, small)]
    parts += [_table_section(cells, number, suite) for number in TABLES]
    parts.append(_figure_section(stem))
    parts += [penalty_section(cells, paper, small), anchoring_section(cells, paper, small)]
    parts += [_noise(cells, scales), _settings(records, suite), _cost(records)]
    failed = without_score(records)
    parts += ["\n".join(["## Cells without a score", "", *failed])] if failed else []
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def _header(cells: Cells, suite: str) -> str:
    family = next(iter(scales_of(suite)))
    distinct = {(row.setting, row.method): row for row in ROWS}
    found = [find(cells, address(family, setting), method) for setting, method in distinct]
    run = sum(each is not None for each in found)
    tally = {
        side: sum(
            each.sides[side].relation(row.reported) == AS_REPORTED
            for row in ROWS
            if (each := find(cells, address(family, row.setting), row.method)) is not None
        )
        for side in SIDES
    }
    rows_run = sum(find(cells, address(family, row.setting), row.method) is not None for row in ROWS)
    counts = ", ".join(f"{count} by {SIDES[side]}" for side, count in tally.items())
    places = (
        f"* Of the {rows_run} places of the tables that they fill, so many come out as reported: {counts}.\n"
        if rows_run
        else ""
    )
    return f"""# The paper's tables, run again

Written by `lrbench study replicate --suite {suite}` from records; no number of ours is typed by hand. Reported values are those of *A Unified
Theory of Sparse Dictionary Learning in Mechanistic Interpretability: Piecewise Biconvexity and Spurious Minima*, which scores the rows of the
encoder and leaves learning rate, steps, batch, start, λ and k open. Here every row is trained with the catalogue's own settings, which come from a
sweep on other worlds ([sweep.md](sweep.md)), and both sides are scored.

* {run} of the {len(distinct)} distinct rows of tables 1, 4, 5, 6 and 7 are run at {scales_of(suite)[family]}; a row that two tables share is trained once.
{places}{_answers(cells, suite)}

M_GT(0.95) is the share of features whose best row has a cosine above 0.95, M_IP the mean cosine of the best row; both over the features that are not
anchored, and not one-to-one: a row may serve several features. *Encoder as it is* is the inner product with the encoder's row at its own length. *As reported* means within {TOLERANCE:g} of M_IP, or of M_GT where the paper gives no M_IP.
Intervals are Student's t at {LEVEL:.0%} over seeds; a value without one is of one seed.

{_scale_table(suite)}"""


def _answers(cells: Cells, suite: str) -> str:
    """Return the answers in short, each at the scales that have a record."""
    lines = []
    for family, scale in scales_of(suite).items():
        causes = paper_causes() if (family, suite) == (LARGE, PAPER) else search()
        if any(find(cells, cause.task(family), cause.name) for cause in causes):
            answer = told(explaining(cells, family, causes))
            lines.append(
                f"* [What explains the encoder's numbers](#what-explains-the-encoders-numbers), at {scale}: {answer}"
            )
    for method in NO_PENALTY:
        for family, scale in scales_of(suite).items():
            found = find(cells, address(family, DEFAULT), method)
            if found is not None:
                sides = [f"{side_text(found.sides[side])} by {name}" for side, name in SIDES.items()]
                lines.append(f"* {NAMES[method]}, steered to the world's mean L0, at {scale}: {', '.join(sides)}.")
    return "\n".join(lines)


def _scale_table(suite: str) -> str:
    rows = []
    for family, name in scales_of(suite).items():
        spec = load_task(address(family, DEFAULT), suite).spec
        steps = spec.n_samples // spec.batch_size
        numbers = [spec.world.n_features, spec.world.dims[0], spec.n_latents, spec.n_distinct, steps, spec.batch_size]
        rows.append([name, f"`{family}`", *map(str, numbers), f"{spec.world.mean_l0:g}", str(spec.n_anchors)])
    heads = ["scale", "tasks", "n", "d", "latents", "samples N", "steps", "batch", "mean L0", "anchors"]
    return table(heads, rows)


def _table_section(cells: Cells, which: int, suite: str) -> str:
    heads, rows = ["row", "reported"], []
    for family, scale in scales_of(suite).items():
        suffix = "" if family == LARGE else f", {scale}"
        heads += [f"{name}{suffix}" for name in SIDES.values()]
    for row in ROWS:
        if row.table == which:
            mark = "" if possible(row.reported) else " †"
            sides = [
                cell_text(find(cells, address(family, row.setting), row.method), side)
                for family in scales_of(suite)
                for side in SIDES
            ]
            verdict = _verdict(cells, row, next(iter(scales_of(suite))))
            rows.append([row.label, reported_text(row.reported) + mark, *sides, verdict])
    return f"## Table {which}\n\n{TABLES[which]}; M_GT / M_IP. {NOTES[which]}\n\n{table([*heads, 'verdict'], rows, left=1)}"


def _verdict(cells: Cells, row: Row, family: str) -> str:
    found = find(cells, address(family, row.setting), row.method)
    return NOT_RUN if found is None else found.verdict(row.reported)


def _figure_section(stem: str) -> str:
    return f"""## Figure 6

The paper's figure 6: M_GT against the threshold, for the methods of table 1. Black marks are the reported M_GT at 0.95. The green line is the
same SAE with tied weights, whose encoder is its decoder.

![Recovery against the threshold, a panel per method](figures/{stem}.png)"""


def _noise(cells: Cells, scales: dict[str, str]) -> str:
    rows = []
    for family, name in scales.items():
        for score in (f"{name}_{side}" for side in SIDES for name in ("recovery", "mip")):
            found = spread(cells, score, family)
            if found:
                rows.append([name, score, str(len(found)), f"{median(found):.4f}", f"{max(found):.4f}"])
    heads = ["scale", "score", "cells with two seeds or more", "median sd", "largest sd"]
    prose = "Standard deviation between seeds, each of which is another world, other data and another start; over all methods and settings."
    return f"## Seed noise\n\n{prose}\n\n{table(heads, rows)}" if rows else ""


def _settings(records: Sequence[Record], suite: str) -> str:
    """Return the hyper-parameters of every row of the tables, one line per method."""
    known = {record.method: record.hyperparameters for record in reversed(records) if record.status == "ok"}
    methods = [method for method in dict.fromkeys(row.method for row in ROWS) if method in known]
    names = list(dict.fromkeys(name for method in methods for name in known[method]))
    rows = [[code(method), *(_value(known[method].get(name, ...)) for name in names)] for method in methods]
    heads, rows, held = varied(["method", *names], rows)
    same = "; ".join(f"{name} {value}" for name, value in held.items())
    lacking = [code(method) for method in dict.fromkeys(row.method for row in ROWS) if method not in known]
    more = f" Without a record yet: {', '.join(lacking)}." if lacking else ""
    return f"""## Hyper-parameters of every row

As the records have them; what stands in the table of scales at the top is the same for all methods. `l0` is what a method aims at as a multiple of the world's mean L0: a TopK rule
rounds it to its k, the others steer their penalty to it. Everywhere: Adam with β = (0.9, 0.999), no weight decay; the learning rate rises over the
first 2% of the steps and falls to 0 over the last 30%; decoder rows start as unit Gaussian rows and keep length 1; encoder rows start equal
to them (not in a transcoder); biases start at 0.{f" The same for all: {same}." if same else ""}{more}

{table(heads, rows, left=1)}"""


def _value(value: object) -> str:
    if value is ...:
        return NONE
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cost(records: Sequence[Record]) -> str:
    """Return what table 1 took at the paper's scale, one seed, and where."""
    methods = dict.fromkeys(row.method for row in ROWS if row.table == 1)
    task = address(LARGE, DEFAULT)
    own = {
        record.method: record for record in records if (record.task, record.seed) == (task, 0) and record.status == "ok"
    }
    timed = [(method, own[method]) for method in methods if method in own]
    if not timed:
        return ""
    rows = [
        [code(method), number(record.timing.seconds, 0), number(record.timing.samples_per_second or math.nan, 0)]
        for method, record in timed
    ]
    total = math.fsum(record.timing.seconds for _, record in timed)
    places = sorted({f"{record.provenance.platform}, {record.provenance.device}" for _, record in timed})
    return f"""## Cost

{len(timed)} of the {len(methods)} rows of table 1, one seed, took {total / 60:.0f} minutes of processes with one thread each, so {total / 120:.0f} minutes of two
cores ({"; ".join(places)}).

{table(["row", "seconds", "samples per second"], rows, left=1)}"""
