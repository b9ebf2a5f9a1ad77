"""What anchors bring: each anchored twin minus its plain method, over all families and in each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .stratified import difference, holm, scores_of

if TYPE_CHECKING:
    import pandas as pd

ANCHORED = "+anchored"


def anchored_minus_plain(cells: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Return ``method, family, difference, half, p, pairs``; the family is empty where it is over all of them.

    ``p`` is corrected over all differences of the table, Holm's way.
    """
    import pandas as pd

    scores = scores_of(cells)
    families = sorted(cells["family"].unique())
    rows: list[dict[str, Any]] = []
    for method in methods:
        plain, anchored = scores.get(method), scores.get(method + ANCHORED)
        if method + ANCHORED not in methods or plain is None or anchored is None:
            continue
        for family in ("", *families):
            found = difference(anchored, plain, None if family == "" else [family])
            row = {"method": method, "family": family, "difference": found.mean, "half": found.half}
            rows.append(row | {"p": found.p, "pairs": found.pairs})
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p"] = p
    frame: pd.DataFrame = pd.DataFrame(rows, columns=["method", "family", "difference", "half", "p", "pairs"])
    return frame
