"""Frames into figures. No pyplot and no date, so that the same board gives the same bytes."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrbench.errors import LrbenchError
from lrbench.foreign import replace_file

from .compile import Board
from .styles import styles
from .traps import heat

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONGEST_LABEL = 60
STRETCH = 0.02
SCORE_TICKS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0)
COSINE_TICKS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
SHARE_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 1.0)
L0_TICKS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
ACROSS = 4  # panels in a row
OTHERS = "#d5d5d5"  # what is not the point of a panel


def save_figures(board: Board, folder: Path) -> dict[str, str]:
    """Draw a board's figures into ``folder`` as SVG.

    Returns
    -------
    dict
        ``"where"``, ``"recovery"``, where methods were run at several L0 ``"l0"``, and where there are traps ``"traps"`` → path of the
        file relative to the folder's parent, where the page lies.

    Raises
    ------
    LrbenchError
        When the folder is a link: what a foreign folder holds must not say where files are written.
    """
    import matplotlib.style

    if folder.is_symlink():
        raise LrbenchError(f"{folder} is a link, which is not followed: remove it, or write the page elsewhere")
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    # default style: a user's own matplotlibrc must not change the bytes; the salt makes the ids inside the SVG repeat;
    # and a name with a dollar in it is no formula
    style = {"svg.hashsalt": "lrbench", "font.size": 8, "text.parse_math": False}
    with matplotlib.style.context(["default", style]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a letter that the font lacks is drawn as a box
        drawn = {"where": where_figure, "recovery": recovery_figure}
        drawn |= {} if board.l0_curves.empty else {"l0": l0_figure}
        drawn |= {} if board.traps.empty else {"traps": trap_figure}
        for name, draw in drawn.items():
            file = folder / f"{board.suite}-{name}.svg"
            nothing = {"Date": None, "Creator": None}
            drawing = io.BytesIO()
            draw(board).savefig(drawing, format="svg", bbox_inches="tight", metadata=nothing)
            replace_file(file, drawing.getvalue())
            files[name] = f"{folder.name}/{file.name}"
    return files


def where_figure(board: Board) -> Figure:
    """A heat map of the score: methods by tasks, a line between families; dark is where a method breaks."""
    standings = board.standings.sort_values("pair", kind="stable")
    methods = list(standings["method"])
    columns = [(family, task) for family, table in board.families.items() for task in table.columns]
    values = [[float(board.families[family].loc[method, task]) for family, task in columns] for method in methods]
    figure, axes = _heat(methods, [task for _, task in columns], values, "score")
    for place in range(1, len(columns)):
        if columns[place][0] != columns[place - 1][0]:
            axes.axvline(place - 0.5, color="white", linewidth=3)
    pairs = list(standings["pair"])
    for place in range(1, len(pairs)):
        if pairs[place] != pairs[place - 1]:
            axes.axhline(place - 0.5, color="white", linewidth=3)
    return figure


def recovery_figure(board: Board) -> Figure:
    """Mean recovery against the threshold, one panel per side, one line per method.

    A share above τ = 1 is 0 for every dictionary, the true one too: no cosine exceeds 1. So the last threshold drawn is the last below 1;
    a line from there down to 1 would tell of a fall that no threshold saw.
    """
    from matplotlib.figure import Figure

    style = _styles(board)
    curves = board.curves[board.curves["threshold"] < 1.0]
    figure = Figure(figsize=(9.5, max(4.2, 0.6 + 0.15 * len(board.standings))), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, side, title in zip(panels, ("dec", "enc"), ("decoder", "encoder"), strict=True):
        for method in board.standings["method"]:
            curve = curves[curves["method"] == method]
            if len(curve):
                axes.plot(curve["threshold"], curve[side], label=_label(method), linewidth=1.3, **style[method])
        axes.axvline(0.95, color="#bbbbbb", linewidth=0.8, zorder=0)
        axes.set_xscale("function", functions=(_stretched, _unstretched))
        last = max([*curves["threshold"]], default=0.0) or 0.95
        ticks = [tick for tick in COSINE_TICKS if tick <= last]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_yscale("function", functions=(_stretched, _unstretched))
        axes.set_yticks(SHARE_TICKS, [f"{tick:g}" for tick in SHARE_TICKS])
        axes.set(title=f"{title} directions", xlim=(0.0, last), ylim=(-0.02, 1.003))
        _tidy(axes)
    figure.supxlabel("threshold τ on the cosine, scale stretched towards 1", fontsize=8)
    figure.supylabel("share of features recovered above τ, scale stretched towards 1", fontsize=8)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=7, handlelength=3)
    return figure


def l0_figure(board: Board) -> Figure:
    """Score against the L0 reached, a panel for each method that was run at several; the other curves are grey."""
    from matplotlib.figure import Figure

    points = board.l0_curves.dropna(subset=["headline", "reached"])
    points = points[points["reached"] > 0.0]
    curves = {str(method): own for method, own in points.groupby("method")}
    order = [method for method in board.standings["method"] if method in curves]
    style, down = _styles(board), max(1, math.ceil(len(order) / ACROSS))
    figure = Figure(figsize=(9.5, 2.2 * down + 0.4), layout="constrained")
    panels = figure.subplots(down, ACROSS, sharex=True, sharey=True, squeeze=False).flatten()
    for axes in panels[len(order) :]:
        axes.set_axis_off()
    for axes, method in zip(panels, order, strict=False):
        for other in order:
            if other != method:
                axes.plot(curves[other]["reached"], curves[other]["headline"], color=OTHERS, linewidth=0.8, zorder=1)
        own, colour = curves[method], style[method]["color"]
        axes.errorbar(own["reached"], own["headline"], own["half"].fillna(0.0), color=colour, marker="o", markersize=3.5,
                      linewidth=1.4, capsize=2, zorder=3)  # fmt: skip
        axes.set_title(_label(method), color=colour, fontsize=8)
        for target in (1.0, *own["multiple"].dropna()):
            axes.axvline(target, color="#888888", linewidth=0.8, linestyle=":", zorder=0.8)
        _l0_scales(axes, points)
    figure.supxlabel("L0 reached, in multiples of the L0 that the task tells", fontsize=8)
    figure.supylabel("score", fontsize=8)
    return figure


def _l0_scales(axes: Axes, points: Any) -> None:
    """A logarithm of the L0, and the score stretched where methods lie close below 1."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    low, high = float(points["reached"].min()) / 1.3, float(points["reached"].max()) * 1.3
    axes.set_xscale("log")
    ticks = [tick for tick in L0_TICKS if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(low, high)
    axes.set_yscale("function", functions=(_stretched, _unstretched))
    least, most = float(points["headline"].min()), float(points["headline"].max())
    room = 0.02 + 0.15 * (most - least)
    axes.set(ylim=(least - room, min(most + room, 1.003)))
    axes.set_yticks([tick for tick in SCORE_TICKS if least - room <= tick <= most + room])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _tidy(axes)


def trap_figure(board: Board) -> Figure:
    """A heat map of the escape: methods by traps, the own starts between lines."""
    methods, columns, values = heat(board)
    figure, axes = _heat(methods, columns, values, "escape: share of the trapped features recovered")
    for column, name in enumerate(columns):
        if name.startswith("own"):
            for edge in (column - 0.5, column + 0.5):
                axes.axvline(edge, color="white", linewidth=2)
    return figure


def _heat(methods: list[str], columns: list[str], values: list[list[float]], what: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    left, below = (max(len(_label(name)) for name in names) for names in (methods, columns))
    size = (1.2 + 0.06 * left + 0.75 * len(columns), 0.7 + 0.04 * below + 0.2 * len(methods))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(values, cmap="viridis", vmin=0.0, vmax=1.0, aspect="auto")
    axes.set_xticks(range(len(columns)), list(map(_label, columns)), rotation=30, ha="right")
    axes.set_yticks(range(len(methods)), list(map(_label, methods)), fontsize=7)
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            if not math.isnan(value):
                colour = "white" if value < 0.6 else "black"
                axes.text(
                    column, row, f"{round(value, 2) + 0.0:.2f}", ha="center", va="center", fontsize=6, color=colour
                )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(picture, ax=axes, label=what, shrink=0.8)
    return figure, axes


def _styles(board: Board) -> dict[str, dict[str, Any]]:
    return styles(dict(zip(board.standings["method"], board.standings["kind"], strict=True)))


def _label(name: str) -> str:
    """A name that leaves room for the figure, and that a legend does not leave out for its first character."""
    short = name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 1]}…"
    return f" {short}" if short.startswith("_") else short


def _stretched(score: Any) -> Any:
    """Give the scores close to 1, where good methods differ, as much room as the rest: a logarithm of what is missing."""
    import numpy as np

    return -np.log10(1.0 + STRETCH - np.minimum(score, 1.0 + 0.9 * STRETCH))


def _unstretched(height: Any) -> Any:
    return 1.0 + STRETCH - 10.0**-height


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#eeeeee", linewidth=0.8)
    axes.set_axisbelow(True)
