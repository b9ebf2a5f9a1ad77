"""The figure of the settling test: every measure along both axes, coloured by its verdict."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lrbench.falsify.findings import Finding, Result
from lrbench.falsify.predictions import Prediction
from lrbench.falsify.verdict import FAILS, HOLDS, OPEN
from lrbench.pages.style import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {HOLDS: "#1b7837", FAILS: "#b2182b", OPEN: "#777777"}
ACROSS = 3  # predictions per row, two panels each
LABEL_WIDTH = 27  # characters in a line of a label beside a panel


def save_figure(results: Sequence[Result], path: Path) -> None:
    """Draw two panels per prediction, against 1−S and against ε; the dashed line is the threshold."""
    import matplotlib.style
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    down = math.ceil(len(results) / ACROSS)
    # default style: a user's own matplotlibrc must not change the picture
    with matplotlib.style.context(style(7)):
        height = 1.9 * down + 0.5
        figure = Figure(figsize=(16, height))
        panels = figure.subplots(down, 2 * ACROSS, squeeze=False)
        figure.subplots_adjust(0.05, 0.8 / height, 0.99, 1 - 0.35 / height, wspace=0.42, hspace=0.65)
        for axes in panels.flat[2 * len(results) :]:
            axes.set_axis_off()
        for number, result in enumerate(results):
            left, right = panels.flat[2 * number], panels.flat[2 * number + 1]
            _panel(left, result.prediction, result.rates)
            _panel(right, result.prediction, result.bends)
            left.set_xscale("log")
            left.set_xticks([*result.rates], [f"{rate:.2g}" for rate in result.rates], fontsize=6)
            left.set_xticks([], minor=True)
            left.set(title=result.prediction.title, xlabel="1−S")
            left.set_ylabel(label(result.prediction.measure), fontsize=6)
            left.title.set(horizontalalignment="left", x=0.0)
            right.set(xlabel="ε", ylim=left.get_ylim())
            left.set_xlim(min(result.rates) / 1.3, 1.3 * max(result.rates))  # where nothing was seen, too
            right.set_xlim(min(result.bends) - 0.05, max(result.bends) + 0.05)
            low, high = (f(a.dataLim.intervaly[i] for a in (left, right)) for i, f in enumerate((min, max)))
            if math.isfinite(low + high):
                room = 0.08 * (high - low) or 0.1
                for axes in (left, right):
                    axes.set_ylim(low - room, high + room)
        marks = [Line2D([], [], color=colour, marker="o", linestyle="", label=name) for name, colour in COLOURS.items()]
        figure.legend(handles=marks, loc="lower right", ncols=len(marks), frameon=False)
        figure.savefig(path, dpi=110, metadata={"Software": None})


def label(measure: str) -> str:
    """Return what a panel shows, in lines beside its axis: the measure without what explains its parts.

    Examples
    --------
    >>> label("L̃ / L of the truth; 1 where there is none")
    'L̃ / L of the truth'
    """
    return textwrap.fill(re.split("[;,] ", measure)[0], LABEL_WIDTH)


def _panel(axes: Axes, prediction: Prediction, findings: Mapping[float, Finding]) -> None:
    axes.axhline(prediction.threshold, color="#999999", linestyle="--", linewidth=0.8)
    known = {place: found for place, found in findings.items() if math.isfinite(found.seen.mean)}
    axes.plot([*known], [found.seen.mean for found in known.values()], color="#bbbbbb", linewidth=0.8)
    for place, found in known.items():
        half = found.seen.half if math.isfinite(found.seen.half) else 0.0
        axes.errorbar(place, found.seen.mean, half, color=COLOURS[found.verdict], marker="o", markersize=3, capsize=2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
