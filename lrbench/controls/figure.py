"""The figure of the study of real activations: where a parent's samples go on its children."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lrbench.pages.interval import interval
from lrbench.pages.palette import palette
from lrbench.record import Record

PARTS = ("recall", "absorbed", "missing", "unlearned")
TIMES = {"": "trained", "early_": "after a tenth"}
STYLE: dict[str, Any] = {"font.size": 8, "font.family": "DejaVu Sans"}


def save_causes(records: Sequence[Record], path: Path) -> str:
    """Draw two bars per method, trained and undertrained, and return the file's name; the empty one where nothing was measured."""
    import matplotlib.style
    from matplotlib.figure import Figure

    found = {(method, time): _parts(records, method, time) for method in _methods(records) for time in TIMES}
    bars = [(key, parts) for key, parts in found.items() if not any(map(math.isnan, parts))]
    if not bars:
        return ""
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(7.5, 0.24 * len(bars) + 1.1), layout="constrained")
        panel = figure.subplots()
        left = [0.0] * len(bars)
        for place, (name, colour) in enumerate(zip(PARTS, palette(len(PARTS)), strict=True)):
            widths = [parts[place] for _, parts in bars]
            panel.barh(range(len(bars)), widths, left=left, color=colour, label=name, height=0.8)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        panel.set_yticks(range(len(bars)), [f"{method}, {TIMES[time]}" for (method, time), _ in bars])
        panel.invert_yaxis()
        panel.set_xlim(0, 1)
        panel.set_xlabel("share of a child's samples, mean over parents and children")
        figure.legend(loc="outside upper center", ncols=len(PARTS), frameon=False)
        figure.savefig(path, dpi=120, metadata={"Software": None})
    return path.name


def _methods(records: Sequence[Record]) -> list[str]:
    return [*dict.fromkeys(record.method for record in records if record.kind != "reference")]


def _parts(records: Sequence[Record], method: str, time: str) -> list[float]:
    measured = [r.measures["real"].values for r in records if r.method == method and "real" in r.measures]
    return [interval(_known(values.get(f"{time}{name}")) for values in measured).mean for name in PARTS]


def _known(value: float | None) -> float:
    return math.nan if value is None else value
