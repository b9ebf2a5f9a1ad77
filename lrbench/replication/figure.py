"""The paper's figure 6: recovery against the threshold, every method of table 1, both sides, plain and anchored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrbench.pages.style import style
from lrbench.replication.causes import Cause
from lrbench.replication.findings import TAU, Cells, find
from lrbench.replication.reported import ANCHORED, DEFAULT, NAMES, ROWS, TOPK_FAMILY, address
from lrbench.replication.words import NOT_RUN

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DECODER, ENCODER, TIED = "#1f77b4", "#d95f02", "#1b7837"
SIDES = {"dec": "decoder", "enc": "encoder"}
LINES: dict[str, tuple[str, Any]] = {
    "decoder": (DECODER, "-"),
    "decoder, anchored": (DECODER, ":"),
    "encoder": (ENCODER, "-"),
    "encoder, anchored": (ENCODER, ":"),
    "tied weights": (TIED, "--"),
}
Curve = tuple[list[float], list[float]]  # thresholds, recovery


def save_figure(cells: Cells, families: Mapping[str, str], path: Path) -> None:
    """Draw a row of panels for each scale, a panel per method; dots are the reported M_GT at τ = 0.95.

    Parameters
    ----------
    cells
        From `lrbench.replication.findings.cells_of`.
    families
        The family of tasks of each scale, with its name for the reader.
    path
        Where the figure goes.
    """
    import matplotlib.style
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    # default style: a user's own matplotlibrc must not change the picture
    with matplotlib.style.context(style(7)):
        figure = Figure(figsize=(14, 2.1 * len(families) + 0.6), layout="constrained")
        panels = figure.subplots(len(families), len(NAMES), sharex=True, sharey=True, squeeze=False)
        for row, (family, scale) in zip(panels, families.items(), strict=True):
            for panel, method in zip(row, NAMES, strict=True):
                draw_panel(panel, cells, family, method)
            row[0].set_ylabel(f"M_GT(τ)\n{scale}")
        for panel, name in zip(panels[0], NAMES.values(), strict=True):
            panel.set_title(name)
        for panel in panels[-1]:
            panel.set_xlabel("threshold τ")
        marks = [Line2D([], [], color=colour, linestyle=dash) for colour, dash in LINES.values()]
        marks += [Line2D([], [], color="black", marker=shape, linestyle="", markersize=4) for shape in "ox"]
        names = [*LINES, "reported", "reported, anchored"]
        figure.legend(marks, names, loc="outside lower center", ncols=len(names), frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110, metadata={"Software": None})


def curves_of(cells: Cells, family: str, method: str) -> tuple[dict[str, Curve], list[str]]:
    """Return the curves that a method's panel has, by the names of `LINES`, and which of its trainings are not run yet."""
    task = address(family, DEFAULT)
    curves: dict[str, Curve] = {}
    missing = []
    for twin, suffix, words in (("", "", "plain"), (ANCHORED, ", anchored", "anchored")):
        found = find(cells, task, method + twin)
        if found is None:
            missing.append(words)
        else:
            curves |= {f"{name}{suffix}": found.curve(side) for side, name in SIDES.items()}
    if method in TOPK_FAMILY:
        tied = find(cells, task, Cause(method, (("tied", True),)).name)
        if tied is None:
            missing.append("tied weights")
        else:
            curves["tied weights"] = tied.curve("enc")
    return curves, missing


def draw_panel(panel: Axes, cells: Cells, family: str, method: str) -> None:
    """Draw what there is of a method at one scale, and name in its lower left corner what is not run yet, under all curves that fall late."""
    curves, missing = curves_of(cells, family, method)
    for name, (thresholds, shares) in curves.items():
        colour, dash = LINES[name]
        panel.plot(thresholds, shares, color=colour, linestyle=dash, linewidth=1.2)
    for row in ROWS:
        if row.table == 1 and row.method.removesuffix(ANCHORED) == method:
            shape = "x" if row.method.endswith(ANCHORED) else "o"
            panel.plot([TAU], [row.reported.recovery], shape, color="black", markersize=4, zorder=3)
    if missing:
        panel.text(0.04, 0.06, "\n".join([f"{NOT_RUN}:", *missing]), color="#777777", fontsize=6)
    panel.set(xlim=(0.0, 1.02), ylim=(-0.03, 1.05))
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
