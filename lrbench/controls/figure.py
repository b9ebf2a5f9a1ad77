"""The figures of the study of real activations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lrbench.controls.prediction import base_of
from lrbench.controls.seen import mean_measured, methods_in, of
from lrbench.controls.watched import POINTS, SEEN
from lrbench.pages.palette import palette
from lrbench.pages.style import style
from lrbench.record import Record
from lrbench.scoring.causes import OUTCOMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TIMES = {"parent": "trained", "early_parent": "a tenth"}
COURSES = dict(zip(SEEN.values(), ("unexplained variance (FVU)", "dead latents, share"), strict=True))


def save_causes(records: Sequence[Record], path: Path) -> str:
    """Draw two bars per method, trained and undertrained, and return the file's name; the empty one where nothing was measured."""
    import matplotlib.style
    from matplotlib.figure import Figure

    learned = [record for record in records if record.kind != "reference"]
    found = {
        (method, time): [mean_measured(of(learned, method), f"{time}_{name}") for name in OUTCOMES]
        for method in methods_in(learned)
        for time in TIMES
    }
    bars = [(key, parts) for key, parts in found.items() if not any(map(math.isnan, parts))]
    if not bars:
        return ""
    with matplotlib.style.context(style(8)):
        figure = Figure(figsize=(7.5, 0.24 * len(bars) + 1.1), layout="constrained")
        panel = figure.subplots()
        left = [0.0] * len(bars)
        for place, (name, colour) in enumerate(zip(OUTCOMES, palette(len(OUTCOMES)), strict=True)):
            widths = [parts[place] for _, parts in bars]
            panel.barh(range(len(bars)), widths, left=left, color=colour, label=name, height=0.8)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        panel.set_yticks(range(len(bars)), [f"{method}, {TIMES[time]}" for (method, time), _ in bars])
        panel.invert_yaxis()
        panel.set_xlim(0, 1)
        panel.set_xlabel("share of a child's samples, mean over parents and children")
        figure.legend(loc="outside upper center", ncols=len(OUTCOMES), frameon=False)
        return _saved(figure, path)


def save_courses(records: Sequence[Record], methods: Sequence[str], path: Path) -> str:
    """Draw how the unexplained variance and the dead latents go along the steps, and return the file's name; empty without all methods."""
    import matplotlib.style
    from matplotlib.figure import Figure

    courses = {
        (method, name): [mean_measured(of(records, method), f"{name}_{place}") for place in range(1, POINTS + 1)]
        for method in methods
        for name in COURSES
    }
    if any(map(math.isnan, (value for course in courses.values() for value in course))):
        return ""
    share = [(place - 0.5) / POINTS for place in range(1, POINTS + 1)]
    with matplotlib.style.context(style(8)):
        figure = Figure(figsize=(7.2, 2.8), layout="constrained")
        panels = figure.subplots(1, len(COURSES))
        for panel, (name, label) in zip(panels, COURSES.items(), strict=True):
            for method, colour in zip(methods, palette(len(methods)), strict=True):
                own = courses[method, name]
                panel.plot(share, own, color=colour, label=method if panel is panels[0] else None)
            panel.set_xlabel("share of the steps")
            panel.set_ylabel(label)
            panel.set_ylim(bottom=0)
        figure.legend(loc="outside upper center", ncols=len(methods), frameon=False)
        return _saved(figure, path)


def save_scatter(board: Mapping[str, float], real: Mapping[str, Mapping[str, float]], path: Path) -> str:
    """Draw the score on real activations against the board's, a panel per task; a line leads from a plain method to a twin."""
    import matplotlib.style
    from matplotlib.figure import Figure

    bases = sorted({base_of(name) for scores in real.values() for name in scores.keys() & board.keys()})
    colours = dict(zip(bases, palette(len(bases)), strict=True))
    with matplotlib.style.context(style(8)):
        figure = Figure(figsize=(3.6 * len(real) + 1.6, 3.4), layout="constrained")
        panels = figure.subplots(1, len(real), squeeze=False)[0]
        for panel, (task, scores) in zip(panels, real.items(), strict=True):
            both = {name: (board[name], scores[name]) for name in sorted(board.keys() & scores.keys())}
            for name, point in both.items():
                base = base_of(name)
                plain = name == base
                panel.plot(*point, "o", color=colours[base], markersize=6, fillstyle="full" if plain else "none",
                           label=base if plain and panel is panels[0] else None)  # fmt: skip
                if not plain and base in both:
                    ends = [both[base], point]
                    panel.plot(*zip(*ends, strict=True), "-", color=colours[base], linewidth=0.8, alpha=0.6)
            panel.set_title(task)
            panel.set_xlabel("score on the board")
            panel.set_ylabel("score on class means")
        panels[-1].plot([], [], "o", color="#444444", fillstyle="none", label="twin")
        figure.legend(loc="outside right center", frameon=False)
        return _saved(figure, path)


def _saved(figure: Figure, path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    return path.name
