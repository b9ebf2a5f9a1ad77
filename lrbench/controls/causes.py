"""The sections on parents and their children: what a parent's latent loses on them, and to what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from lrbench.controls.figure import save_causes
from lrbench.controls.schedule import METHODS
from lrbench.controls.seen import NAME, NOT_YET, mean_measured, measured, methods_in, of
from lrbench.pages.markdown import code, number, table
from lrbench.real.items import classes
from lrbench.record import Record
from lrbench.scoring.causes import OUTCOMES

ONE_BY_ONE = (METHODS[0], f"{METHODS[0]}+anchored")  # the rows that are shown child by child
MEANS = """For every scored parent class with two children or more, the recall of its best latent on each child with at least five held-out items, and what the other samples are lost to: *missing*, a linear
probe does not find the parent there either; *absorbed*, the child's own latent fires and writes the parent; *unlearned*, the rest. The four
add up to 1, as means over children and then over parents. A latent that always fires loses nothing, so its F1 stands beside. *A tenth* is a
training of its own with a tenth of the budget, in which the learning rate rises and falls as it does in the whole one: what is less
in the whole one was undertraining, what is more was made by training.
"""
EACH = """The same child by child, for the uppermost of the scored classes at seed 0. *Probe* is the recall of the linear probe: what the layer itself
holds of the parent on this child.
"""


def causes(records: Sequence[Record], path: Path) -> str:
    """Return the sections of one task; the figure goes to a path."""
    if all(math.isnan(measured(record, "parent_recall")) for record in records):
        return f"### Parents and children\n\n{NOT_YET}"
    figure = save_causes(records, path)
    shown = f"\n![What becomes of a parent on its children](figures/{figure})\n" if figure else ""
    return f"### Parents and children\n\n{MEANS}\n{_over_all(records)}{shown}\n### Child by child\n\n{EACH}\n{_each(records)}"


def _over_all(records: Sequence[Record]) -> str:
    columns = {"parent_f1": "F1", **{f"parent_{name}": name for name in OUTCOMES}}
    columns |= {"parent_lowest_recall": "lowest child", "parent_lowest_probe": "lowest child, probe"}
    columns |= {f"early_parent_{name}": f"{'F1' if name == 'f1' else name}, a tenth" for name in ("f1", *OUTCOMES)}
    rows = [
        [code(method), *(number(mean_measured(of(records, method), name)) for name in columns)]
        for method in methods_in(records)
    ]
    return table(["method", *columns.values()], rows, left=1)


def _each(records: Sequence[Record]) -> str:
    found = {record.method: record for record in reversed(records) if _children(record) and record.method in ONE_BY_ONE}
    if not found:
        return NOT_YET
    methods, paths = [method for method in ONE_BY_ONE if method in found], classes()
    first = found[methods[0]]
    header = [
        "parent",
        "child",
        "items",
        "probe",
        *(f"{name}, {code(method)}" for method in methods for name in OUTCOMES),
    ]
    rows = []
    for child in _children(first):
        values = [measured(found[method], f"child_{child}_{name}") for method in methods for name in OUTCOMES]
        items, probe = (measured(first, f"child_{child}_{name}") for name in ("samples", "probe"))
        rows.append([*paths[child], number(items, 0), *map(number, (probe, *values))])
    return table(header, rows, left=2)


def _children(record: Record) -> list[int]:
    measures = record.measures.get(NAME)
    names = [] if measures is None else [name.split("_") for name in measures.values]
    return sorted({int(parts[1]) for parts in names if parts[0] == "child"})
