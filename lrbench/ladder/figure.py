"""The ladder's figures: small multiples of the curves, and the phase diagram."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lrbench.ladder.axes import Axis
from lrbench.ladder.breakdown import HALF, LACKING, Break
from lrbench.ladder.curves import REFERENCE, Curves, Ladder
from lrbench.ladder.limit import density_limit
from lrbench.ladder.plane import Plane, edge_of
from lrbench.ladder.schedule import DENSITIES, METHODS, UNDERSAMPLINGS
from lrbench.pages.palette import palette
from lrbench.pages.style import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY = "#444444"
ACROSS = 5


def colours_of(methods: Sequence[str]) -> dict[str, str]:
    """Return a colour for each method, that no other has; the reference's is grey."""
    others = [name for name in methods if name not in METHODS]
    every = [name for name in (*METHODS, *others) if name != REFERENCE]  # the same in every figure, whoever is in it
    colours = dict(zip(every, palette(len(every)), strict=True)) | {REFERENCE: GREY}
    return {name: colours[name] for name in methods}


def mean_curve(axis: Axis, seeds: Curves) -> tuple[list[float], list[float]]:
    """Return levels and the mean score over seeds there, each seed's own curve a straight line between its rungs.

    Levels that not all seeds reach are left out.
    """
    import numpy as np

    rows = []
    for points in seeds.values():
        rungs = [rung for rung in sorted(points) if points[rung] != LACKING]
        if rungs:
            known = [axis.hardnesses[rung] for rung in rungs], [points[rung] for rung in rungs]
            rows.append(np.interp(axis.hardnesses, *known, left=math.nan, right=math.nan))
    means = np.mean(rows, axis=0) if rows else np.array([])
    kept = [(level, float(mean)) for level, mean in zip(axis.levels, means, strict=False) if not math.isnan(mean)]
    return [level for level, _ in kept], [mean for _, mean in kept]


def save_curves(ladder: Ladder, path: Path) -> None:
    """Draw a panel per axis: the score against the level, a dot where the method breaks, with its interval."""
    import matplotlib.style
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    colours = colours_of(ladder.methods)
    down = math.ceil(len(ladder.axes) / ACROSS)
    # default style: a user's own matplotlibrc must not change the picture
    with matplotlib.style.context(style(7)):
        figure = Figure(figsize=(13, 2.6 * down + 0.7), layout="constrained")
        panels = figure.subplots(down, ACROSS, squeeze=False)
        for panel in panels.flat[len(ladder.axes) :]:
            panel.set_axis_off()
        for panel, axis in zip(panels.flat, ladder.axes, strict=False):
            _panel(panel, axis, ladder, colours)
        for panel in panels[:, 0]:
            panel.set_ylabel("score")
        lines = [
            Line2D([], [], color=colours[name], linestyle=":" if name == REFERENCE else "-", marker="o", markersize=3)
            for name in ladder.methods
        ]
        figure.legend(lines, ladder.methods, loc="outside lower center", ncols=7, frameon=False, fontsize=8)
        _save(figure, path)


def _panel(panel: Axes, axis: Axis, ladder: Ladder, colours: Mapping[str, str]) -> None:
    def place(level: float) -> float:
        return 1.0 - level if axis.remainder else level

    for method, seeds in ladder.curves[axis.name].items():
        levels, means = mean_curve(axis, seeds)
        dash = ":" if method == REFERENCE else "-"
        panel.plot([place(level) for level in levels], means, color=colours[method], linestyle=dash, linewidth=1.0)
        found = ladder.breaks[axis.name].get(method)
        if found is not None and not found.bound:
            ends = [found.hardness, found.hardness - found.half, found.hardness + found.half]
            at, *sides = (place(axis.level(end if math.isnan(end) else axis.within(end))) for end in ends)
            if not math.isnan(found.half):
                panel.plot(sides, [HALF, HALF], color=colours[method], linewidth=2.5, alpha=0.35, solid_capstyle="butt")
            panel.plot(at, HALF, "o", color=colours[method], markersize=3.5, zorder=3)
    panel.axhline(HALF, color="#bbbbbb", linewidth=0.8, zorder=0)
    panel.set_xscale("log")
    panel.set_xlim(place(axis.easy), place(axis.hard))
    panel.set_ylim(-0.05, 1.05)
    ticks = axis.levels[:: max(1, math.ceil((len(axis.levels) - 1) / 4))]
    panel.set_xticks([place(level) for level in ticks], [f"{level:.3g}" for level in ticks])
    panel.set_xticks([], minor=True)
    panel.set_title(axis.title + " (falling)" * axis.falls)
    _tidy(panel)


def save_planes(planes: Mapping[str, Plane], path: Path) -> None:
    """Draw a panel per method, its score as a colour with the edge of one half, and one with all edges beside the known-dictionary limit."""
    import matplotlib.style
    from matplotlib.figure import Figure

    colours = colours_of([*planes])
    with matplotlib.style.context(style(7)):
        figure = Figure(figsize=(10, 6.2), layout="constrained")
        panels = figure.subplots(2, 3, sharex=True, sharey=True)
        mesh = None
        for panel, (method, plane) in zip(panels.flat, planes.items(), strict=False):
            scores = [[plane.get((delta, rho), math.nan) for delta in UNDERSAMPLINGS] for rho in DENSITIES]
            mesh = panel.pcolormesh(
                _edges(UNDERSAMPLINGS), _edges(DENSITIES), scores, cmap="viridis", vmin=0.0, vmax=1.0
            )
            _edge(panel, edge_of(plane), "white", 2.0)
            _limit(panel, "#ff4040")
            panel.set_title(method)
        last = panels.flat[len(planes)]
        for method, plane in planes.items():
            _edge(last, edge_of(plane), colours[method], 1.5, method)
        _limit(last, GREY, "limit, dictionary known")
        last.set_title("where half of the features are found")
        figure.legend(loc="outside lower center", ncols=len(planes) + 1, frameon=False, fontsize=8)
        for panel in panels.flat[len(planes) + 1 :]:
            panel.set_axis_off()
        _log_scales(last)
        for panel in panels[-1]:
            panel.set_xlabel("δ = d / n")
        for panel in panels[:, 0]:
            panel.set_ylabel("ρ = mean L0 / d")
        if mesh is not None:
            figure.colorbar(mesh, ax=panels, label="score", shrink=0.6, pad=0.01)
        _save(figure, path)


def _edge(panel: Axes, edges: Mapping[float, Break], colour: str, width: float, label: str | None = None) -> None:
    """Draw a line through the densities at one half; arrows where the edge lies above or below what was tried."""
    panel.plot(
        [*edges], [math.exp(each.hardness) for each in edges.values()], color=colour, linewidth=width, label=label
    )
    for side, marker in ((-1, "v"), (0, "o"), (1, "^")):
        places = [delta for delta, each in edges.items() if each.side == side]
        panel.plot(places, [math.exp(edges[delta].hardness) for delta in places], marker, color=colour, markersize=4)


def _limit(panel: Axes, colour: str, label: str | None = None) -> None:
    low, high = UNDERSAMPLINGS[0], UNDERSAMPLINGS[-1]
    deltas = [low * (high / low) ** (place / 60) for place in range(61)]
    panel.plot(
        deltas, [density_limit(delta) for delta in deltas], color=colour, linestyle="--", linewidth=1.2, label=label
    )


def _log_scales(panel: Axes) -> None:
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlim(_edges(UNDERSAMPLINGS)[0], _edges(UNDERSAMPLINGS)[-1])
    panel.set_ylim(_edges(DENSITIES)[0], 1.0)
    panel.set_xticks(UNDERSAMPLINGS, [f"{delta:.2g}" for delta in UNDERSAMPLINGS])
    panel.set_yticks(DENSITIES, [f"{rho:.2g}" for rho in DENSITIES])
    panel.minorticks_off()


def _edges(values: Sequence[float]) -> list[float]:
    """Return the borders of cells around values that stand on a logarithmic scale."""
    middles = [math.sqrt(low * high) for low, high in itertools.pairwise(values)]
    return [values[0] ** 2 / middles[0], *middles, values[-1] ** 2 / middles[-1]]


def _tidy(panel: Axes) -> None:
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
