"""The replication's page: every number of ours in it comes from the records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from lrbench.catalogue.tasks import load_task
from lrbench.pages.interval import LEVEL
from lrbench.pages.markdown import NONE, code, listed, table, varied
from lrbench.pages.terminal import as_text
from lrbench.pages.unscored import unscored
from lrbench.record import Record
from lrbench.replication.answers import (
    anchoring_section,
    causes_section,
    explaining,
    penalty_section,
    told,
)
from lrbench.replication.causes import NO_PENALTY
from lrbench.replication.cost import cost_section
from lrbench.replication.figure import save_figure
from lrbench.replication.findings import AS_REPORTED, SIDES, TAU, TOLERANCE, Cells, cells_of, find, possible, spread
from lrbench.replication.reported import DEFAULT, LARGE, NAMES, ROWS, TABLES, Row, address
from lrbench.replication.schedule import causes_at, scales_of
from lrbench.replication.words import NOT_RUN, cell_text, reported_text, side_text

NOTES = {
    1: "k is not given. Here it is the mean L0; the search above varies it.",
    4: "The row n = 1000 disagrees with table 1, which has the same method in the same setting.",
    5: "M is a bound. At the paper's scale random directions keep M = 0.2 from the start, so M = 0.2 and 0.5 are one law there.",
    6: "The table's header calls 1−S S. k is the mean L0 of each row.",
    7: "k is told as a multiple of the mean L0, so that the small scale asks the same: 3.2, 6.4 and 12.8 times.",
}  # fmt: skip
IMPOSSIBLE = f"M_IP is at least {TAU:g} times M_GT, for a feature that counts has a cosine above {TAU:g}; rows with † break that."


def write(records: Sequence[Record], suite: str, path: Path) -> str:
    """Write the page and its figure (``figures/NAME.png`` beside it), and return the verdicts for a terminal."""
    cells, scales = cells_of(records), scales_of(suite)
    save_figure(cells, scales, path.parent / "figures" / f"{path.stem}.png")
    path.write_text(page(records, suite, path.stem), encoding="utf-8")
    rows = [[f"table {row.table}", row.label, _verdict(cells, row, next(iter(scales)))] for row in ROWS]
    return as_text([["", "row", "verdict"], *rows])


def page(records: Sequence[Record], suite: str, stem: str) -> str:
    """Return the page as markdown."""
    cells, scales = cells_of(records), scales_of(suite)
    parts = [_header(cells, suite), causes_section(cells, scales)]
    parts += [_table_section(cells, number, suite) for number in TABLES]
    parts.append(_figure_section(stem))
    parts += [penalty_section(cells, scales), anchoring_section(cells, scales)]
    parts += [_noise(cells, scales), _settings(records), cost_section(records, scales)]
    failed = unscored(records)
    parts += ["\n".join(["## Cells without a score", "", *failed])] if failed else []
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def _header(cells: Cells, suite: str) -> str:
    distinct, lines = {(row.setting, row.method) for row in ROWS}, []
    for family, scale in scales_of(suite).items():
        found = [(row, find(cells, address(family, row.setting), row.method)) for row in ROWS]
        known = [(row, each) for row, each in found if each is not None]
        run = len({(row.setting, row.method) for row, _ in known})
        told = f"* Run at {scale}: {run} of the {len(distinct)} distinct rows of tables {listed([*map(str, TABLES)])}"
        counts = [
            f"{sum(each.sides[side].relation(row.reported) == AS_REPORTED for row, each in known)} by {name}"
            for side, name in SIDES.items()
        ]
        as_reported = f"; of the {len(known)} places that they fill, {listed(counts)} come out as reported"
        lines.append(f"{told}{as_reported if known else ''}.")
    places = "\n".join(lines)
    return f"""# The paper's tables, run again

Written by `lrbench study replicate --suite {suite}` from records; no number of ours is typed by hand. Reported values are those of *A Unified
Theory of Sparse Dictionary Learning in Mechanistic Interpretability: Piecewise Biconvexity and Spurious Minima*, which scores the rows of the
encoder and leaves learning rate, steps, batch, start, λ and k open. Here a row is trained with the catalogue's own settings, which come from a
sweep on other worlds ([sweep.md](sweep.md)), and both sides are scored. A row that two tables share is trained once; one without a record is
shown as *{NOT_RUN}*.

{places}
{_answers(cells, suite)}

M_GT(0.95) is the share of features whose best row has a cosine above 0.95, M_IP the mean cosine of the best row; both over the features that are not
anchored, and not one-to-one: a row may serve several features. *Encoder as it is* is the inner product with the encoder's row at its own length. *As reported* means that every
number that the paper gives there, M_GT, M_IP or both, lies within {TOLERANCE:g}, which is {100 * TOLERANCE:g} points of M_GT; *higher* and *lower* that one does not, *mixed* that one lies above and the other below.
Intervals are Student's t at {LEVEL:.0%} over seeds; a value without one is of one seed.

{_scale_table(suite)}"""


def _answers(cells: Cells, suite: str) -> str:
    """Return the answers in short, each at the scales that have a record."""
    lines, scales = [], scales_of(suite)
    for family, scale in scales.items():
        causes = causes_at(family, scales)
        if any(find(cells, cause.task(family), cause.name) for cause in causes):
            answer = told(explaining(cells, family, causes))
            lines.append(
                f"* [What explains the encoder's numbers](#what-explains-the-encoders-numbers), at {scale}: {answer}"
            )
    for method in NO_PENALTY:
        for family, scale in scales.items():
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
    heads, rows, marked = ["row", "reported"], list[list[str]](), ""
    for family, scale in scales_of(suite).items():
        suffix = "" if family == LARGE else f", {scale}"
        heads += [f"{name}{suffix}" for name in SIDES.values()]
    for row in ROWS:
        if row.table == which:
            mark = "" if possible(row.reported) else " †"
            marked = marked or mark
            sides = [
                cell_text(find(cells, address(family, row.setting), row.method), side)
                for family in scales_of(suite)
                for side in SIDES
            ]
            verdict = _verdict(cells, row, next(iter(scales_of(suite))))
            rows.append([row.label, reported_text(row.reported) + mark, *sides, verdict])
    return f"## Table {which}\n\n{TABLES[which]}; M_GT / M_IP. {NOTES[which]}{f' {IMPOSSIBLE}' if marked else ''}\n\n{table([*heads, 'verdict'], rows, left=1)}"


def _verdict(cells: Cells, row: Row, family: str) -> str:
    found = find(cells, address(family, row.setting), row.method)
    return NOT_RUN if found is None else found.verdict(row.reported)


def _figure_section(stem: str) -> str:
    return f"""## Figure 6

The paper's figure 6: M_GT against the threshold, for the methods of table 1. Black marks are the reported M_GT at 0.95. The green line is the
same SAE with tied weights, whose encoder is its decoder. A panel names the trainings that are not yet run.

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


def _settings(records: Sequence[Record]) -> str:
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
