"""The figure of a tuning: scores against L0, a dot per setting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lrbench.catalogue.address import settings_text
from lrbench.pages.palette import palette
from lrbench.tuning.choice import Row

STYLE: dict[str, Any] = {"font.size": 8, "font.family": "DejaVu Sans"}
ACROSS = 2  # entries in a line of the legend
SIZES = 120, 60, 20  # of dots, in turn: where neighbours in the grid coincide both are seen
PANELS = {"headline": "headline", "f1": "F1"}


def save_figure(rows: Sequence[Row], chosen: Row, default: Row | None, told: float, path: Path) -> None:
    """Draw headline and F1 of every setting against its mean L0; the chosen one is a star, the default has a ring.

    Parameters
    ----------
    rows, chosen, default
        The settings, two of which stand out.
    told
        The mean L0 that the method is told, a dashed line.
    path
        A file that ends in ``.png``; the folders above it are made.
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    legend = math.ceil(len(rows) / ACROSS)
    # default style: a user's own matplotlibrc must not change the picture
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(9, 3.4 + 0.2 * legend), layout="constrained")
        for panel, (name, label) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
            panel.axvline(told, color="#999999", linestyle="--", linewidth=0.8, zorder=0)
            for place, (row, colour) in enumerate(zip(rows, palette(len(rows)), strict=True)):
                at, named = (row.scores["l0"], row.scores[name]), settings_text(row.setting)[1:-1].replace(",", ", ")
                marks = [mark for mark, marked in (("chosen", chosen), ("default", default)) if row is marked]
                size, marker = (220, "*") if row is chosen else (SIZES[place % len(SIZES)], "o")
                panel.scatter(
                    *at, s=size, marker=marker, color=colour, label=", ".join([named, *marks]), zorder=3 - size / 1000
                )
                if row is default:
                    panel.scatter(*at, s=280, facecolors="none", edgecolors="#444444", linewidths=0.9, zorder=1)
            panel.set(xlabel="mean L0 (dashed: as told)", ylabel=label)
            panel.margins(0.12)
            for side in ("top", "right"):
                panel.spines[side].set_visible(False)
        handles, labels = panel.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=ACROSS, frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110, metadata={"Software": None})
