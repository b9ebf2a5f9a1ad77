"""Frames into figures. No pyplot and no date, so that the same board gives the same bytes."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrbench.errors import LrbenchError
from lrbench.foreign import replace_file

from .compile import ANCHORED, Board
from .traps import heat

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Tableau's colours for the methods, Dark2's for the baselines: far apart, and no grey, which is for the references
METHOD_COLOURS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22"]
BASELINE_COLOURS = ["#1b9e77", "#d95f02", "#7570b3", "#e6ab02", "#a6761d", "#e7298a", "#66a61e"]
REFERENCE_COLOUR = "#555555"
LONGEST_LABEL = 60
STRETCH = 0.005
SCORE_TICKS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
WIDE_RATIO = 20  # L0 values further apart than this need a logarithmic axis


def save_figures(board: Board, folder: Path) -> dict[str, str]:
    """Draw a board's figures into ``folder`` as SVG.

    Returns
    -------
    dict
        ``"recovery"``, ``"l0"`` and, where there are traps, ``"traps"`` → path of the file relative to the folder's parent, where the page lies.

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
        drawn = {"recovery": recovery_figure, "l0": l0_figure}
        drawn |= {} if board.traps.empty else {"traps": trap_figure}
        for name, draw in drawn.items():
            file = folder / f"{board.suite}-{name}.svg"
            nothing = {"Date": None, "Creator": None}
            drawing = io.BytesIO()
            draw(board).savefig(drawing, format="svg", bbox_inches="tight", metadata=nothing)
            replace_file(file, drawing.getvalue())
            files[name] = f"{folder.name}/{file.name}"
    return files


def recovery_figure(board: Board) -> Figure:
    """Mean recovery against the threshold, one panel per side, one line per method."""
    from matplotlib.figure import Figure

    styles = _styles(board)
    figure = Figure(figsize=(9.5, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, side, title in zip(panels, ("dec", "enc"), ("decoder", "encoder"), strict=True):
        for method in board.standings["method"]:
            curve = board.curves[board.curves["method"] == method]
            if len(curve):
                axes.plot(curve["threshold"], curve[side], label=_label(method), linewidth=1.3, **_line(styles[method]))
        axes.axvline(0.95, color="#bbbbbb", linewidth=0.8, zorder=0)
        axes.set(title=f"{title} directions", xlabel="threshold τ on the cosine", xlim=(0, 1), ylim=(-0.02, 1.02))
        _tidy(axes)
    panels[0].set_ylabel("share of features recovered above τ")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=7, handlelength=3)
    return figure


def l0_figure(board: Board) -> Figure:
    """Score against L0, one point per method; anchored twins are hollow and tied to their plain method."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    styles = _styles(board)
    points = board.standings.dropna(subset=["headline", "l0"]).set_index("method")
    figure = Figure(figsize=(7.5, max(4.5, 0.2 * len(points) + 0.6)), layout="constrained")
    axes = figure.subplots()
    for method, point in points.iterrows():
        style = styles[str(method)]
        face = "white" if style["anchored"] else style["color"]
        axes.plot(point["l0"], point["headline"], style["marker"], color=style["color"], markerfacecolor=face, zorder=3)
        if f"{method}{ANCHORED}" in points.index:
            twin = points.loc[f"{method}{ANCHORED}"]
            ends = [point["l0"], twin["l0"]], [point["headline"], twin["headline"]]
            axes.plot(*ends, color=style["color"], linewidth=1.0, zorder=2)
    _scale_l0(axes, list(points["l0"]))
    low = min([0.0, *points["headline"]]) - 0.1
    axes.set_yscale("function", functions=(_stretched, _unstretched))
    axes.set(
        xlabel="L0: mean number of active latents per sample", ylabel="score", ylim=(low, 1.001), yticks=SCORE_TICKS
    )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _tidy(axes)
    bottom, top = _stretched(low), _stretched(1.001)
    heights = [(_stretched(score) - bottom) / (top - bottom) for score in points["headline"]]
    places = _spread(heights, gap=0.93 / max(len(points), 12))
    for (method, point), place in zip(points.iterrows(), places, strict=True):
        colour = styles[str(method)]["color"]
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.45, "shrinkA": 0, "shrinkB": 3}
        axes.annotate(
            _label(str(method)),
            xy=(point["l0"], point["headline"]),
            xytext=(1.04, place),
            textcoords="axes fraction",
            va="center",
            fontsize=7,
            color=colour,
            arrowprops={**leader, "relpos": (0, 0.5)},
        )
    return figure


def trap_figure(board: Board) -> Figure:
    """A heat map of the escape: methods by traps, the own starts between lines."""
    from matplotlib.figure import Figure

    methods, columns, values = heat(board)
    figure = Figure(figsize=(1.6 + 0.85 * len(columns), 1.0 + 0.2 * len(methods)), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(values, cmap="viridis", vmin=0.0, vmax=1.0, aspect="auto")
    axes.set_xticks(range(len(columns)), list(map(_label, columns)), rotation=30, ha="right")
    axes.set_yticks(range(len(methods)), list(map(_label, methods)), fontsize=7)
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            if not math.isnan(value):
                colour = "white" if value < 0.6 else "black"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=colour)
    for column, name in enumerate(columns):
        if name.startswith("own"):
            for edge in (column - 0.5, column + 0.5):
                axes.axvline(edge, color="white", linewidth=2)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(picture, ax=axes, label="escape: share of the trapped features recovered", shrink=0.8)
    return figure


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


def _styles(board: Board) -> dict[str, dict[str, Any]]:
    """A colour for each method and its twin; the kind sets the marker and the line."""
    styles: dict[str, dict[str, Any]] = {}
    kinds = dict(zip(board.standings["method"], board.standings["kind"], strict=True))
    bases = sorted({name.removesuffix(ANCHORED) for name, kind in kinds.items() if kind == "sdl"})
    baselines = sorted(name for name, kind in kinds.items() if kind == "baseline")
    for name, kind in kinds.items():
        anchored = name.endswith(ANCHORED)
        if kind == "reference":
            colour, marker, dash = REFERENCE_COLOUR, "D", "-."
        elif kind == "baseline":
            colour, marker, dash = BASELINE_COLOURS[baselines.index(name) % len(BASELINE_COLOURS)], "s", ":"
        else:
            colour = METHOD_COLOURS[bases.index(name.removesuffix(ANCHORED)) % len(METHOD_COLOURS)]
            marker, dash = "o", "--" if anchored else "-"
        styles[name] = {"color": colour, "marker": marker, "dash": dash, "anchored": anchored}
    return styles


def _line(style: dict[str, Any]) -> dict[str, Any]:
    return {"color": style["color"], "linestyle": style["dash"]}


def _scale_l0(axes: Axes, values: list[float]) -> None:
    from matplotlib.ticker import FuncFormatter, SymmetricalLogLocator

    if values and max(values) > WIDE_RATIO * max(min(values), 1.0):
        axes.set_xscale("symlog", linthresh=1)  # linear below one, so that a dictionary that never fires has a place
        axes.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1, subs=[1, 2, 5]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.margins(x=0.08)


def _spread(places: list[float], gap: float) -> list[float]:
    """Move label places (fractions of the height, in any order) apart to at least ``gap``, inside 0..1 and in order."""
    order = sorted(range(len(places)), key=lambda i: (places[i], -i))
    moved = list(places)
    floor = -math.inf
    for i in order:
        moved[i] = floor = max(places[i], floor + gap)
    ceiling = 1.0 + gap
    for i in reversed(order):
        moved[i] = ceiling = min(moved[i], ceiling - gap)
    return moved


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#eeeeee", linewidth=0.8)
    axes.set_axisbelow(True)
