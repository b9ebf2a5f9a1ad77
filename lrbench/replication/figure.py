"""The paper's figure 6: recovery against the threshold, every method of table 1, both sides, plain and anchored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrbench.replication.causes import Cause
from lrbench.replication.findings import TAU, Cells, find
from lrbench.replication.reported import ANCHORED, DEFAULT, NAMES, ROWS, TOPK_FAMILY, address

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"dec": "#1f77b4", "enc": "#d95f02", "tied": "#1b7837"}
LINES: dict[str, tuple[str, Any]] = {
    "decoder": (COLOURS["dec"], "-"),
    "decoder, anchored": (COLOURS["dec"], ":"),
    "encoder": (COLOURS["enc"], "-"),
    "encoder, anchored": (COLOURS["enc"], ":"),
    "tied weights": (COLOURS["tied"], "--"),
}


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
    with matplotlib.style.context(["default", {"font.size": 7, "font.family": "DejaVu Sans"}]):
        figure = Figure(figsize=(14, 2.1 * len(families) + 0.6), layout="constrained")
        panels = figure.subplots(len(families), len(NAMES), sharex=True, sharey=True, squeeze=False)
        for row, (family, scale) in zip(panels, families.items(), strict=True):
            for panel, method in zip(row, NAMES, strict=True):
                _panel(panel, cells, family, method)
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


def _panel(panel: Axes, cells: Cells, family: str, method: str) -> None:
    task = address(family, DEFAULT)
    drawn = False
    for twin in ("", ANCHORED):
        found = find(cells, task, method + twin)
        for side in COLOURS if found is not None else ():
            if side != "tied" and found is not None:
                panel.plot(*found.curve(side), color=COLOURS[side], linestyle=":" if twin else "-", linewidth=1.2)
                drawn = True
    tied = find(cells, task, Cause(method, (("tied", True),)).name) if method in TOPK_FAMILY else None
    if tied is not None:
        panel.plot(*tied.curve("enc"), color=COLOURS["tied"], linestyle="--", linewidth=1.2)
    for row in ROWS:
        if row.table == 1 and row.method.removesuffix(ANCHORED) == method:
            shape = "x" if row.method.endswith(ANCHORED) else "o"
            panel.plot([TAU], [row.reported.recovery], shape, color="black", markersize=4, zorder=3)
    if not drawn:
        panel.text(0.5, 0.5, "not yet run", ha="center", va="center", color="#777777")
    panel.set(xlim=(0.0, 1.02), ylim=(-0.03, 1.05))
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
