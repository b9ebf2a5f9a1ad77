"""The look of the figures that studies draw with matplotlib."""

from __future__ import annotations

from typing import Any


def style(size: float) -> list[str | dict[str, Any]]:
    """Return what ``matplotlib.style.context`` takes: no setting of the user's own, and letters of a size in points.

    Examples
    --------
    >>> style(8)[0]
    'default'
    """
    return ["default", {"font.size": size, "font.family": "DejaVu Sans"}]
