"""The standings in markdown: a table for each pairing, whose ranks are ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lrbench.metric_table import METRICS
from lrbench.pages.markdown import NONE, code, number, table, unbroken, unmarked, varied, with_interval

from .compile import NO_RANKING, Board
from .l0 import MATCHED
from .stratified import ALPHA

if TYPE_CHECKING:
    import pandas as pd

REFERENCES = {"oracle": "ceiling", "random": "floor"}
SHOWN = ("rare", "f1", "matched_dec", "recovery_dec", "l0", "fvu", "dead", "absorption", "seconds")
DIGITS = {"breakdown": 2, "l0": 2, "seconds": 1}
ARROWS = {"higher": " ↑", "lower": " ↓", "none": ""}
BEST, BREAKS, MISSED = "best over L0 ↑", "breakdown ↑", "L0 off by"
TOLERANCE = METRICS["headline"].tolerance
Row = Mapping[Any, Any]


def standing_tables(board: Board) -> str:
    """Return the section."""
    parts = ["### Standings\n"]
    same: dict[str, str] = {}
    for pair, rows in board.standings.groupby("pair"):
        lines, held = _table(board, rows)
        parts.append(f"#### {str(pair).capitalize()}s\n\n{lines}")
        same |= {f"{name.rstrip(' ↑↓')} of {pair}s": unmarked(value) for name, value in held.items()}
    return "\n".join(parts) + "\n" + "".join(f"* {note}\n" for note in _notes(board, same))


def head(name: str) -> str:
    """Return a column's heading, with an arrow to where better is."""
    if name == "seconds":  # the one column that is no score
        return "seconds ↓"
    return METRICS[name].label + ARROWS[METRICS[name].direction]


def verdict(difference: float, p: float) -> str:
    """Return what a corrected test says on a difference in score."""
    if math.isnan(p):
        return "too few pairs"
    if p > ALPHA:
        return "no clear difference"
    if abs(difference) <= TOLERANCE:
        return "the same within tolerance"
    return "better" if difference > 0 else "worse"


def wins(shown: str, best: str, column: Sequence[str]) -> bool:
    """Whether a number is the best of the ranked methods' column and stands out: neither all have it, nor is it a zero of several."""
    sharers = column.count(best)
    return shown == best != NONE and sharers < len(column) and (sharers == 1 or bool(shown.strip("-0.")))


def _table(board: Board, rows: pd.DataFrame) -> tuple[str, dict[str, str]]:
    """Return one pairing's table, and the columns left out because they hold one value."""
    names = [name for name in SHOWN if name == "seconds" or name in METRICS]
    entries = rows.to_dict("records")
    in_front = rows["ranked"] & (rows["tasks"] == rows["tasks"].max())
    best = {
        name: number(_best(rows[in_front], name), DIGITS.get(name, 3))
        for name in ("headline", "best", "breakdown", *names)
    }
    columns: dict[str, list[str]] = {"rank": [_rank(row) for row in entries]}
    columns["method"] = [_name(row, len(board.tasks)) for row in entries]

    def bold(name: str, texts: list[str], shown: list[str]) -> list[str]:
        column = [cell for cell, front in zip(texts, in_front, strict=True) if front]
        marks = [front and wins(cell, best[name], column) for cell, front in zip(texts, in_front, strict=True)]
        return [f"**{cell}**" if mark else cell for cell, mark in zip(shown, marks, strict=True)]

    scores = [number(row["headline"]) for row in entries]
    columns[head("headline")] = bold(
        "headline", scores, [unbroken(with_interval(row["headline"], row["half"])) for row in entries]
    )
    columns[BEST] = bold("best", [number(row["best"]) for row in entries], [_best_of_curve(row) for row in entries])
    levels = [number(row["breakdown"], DIGITS["breakdown"]) for row in entries]
    columns[BREAKS] = bold("breakdown", levels, levels)
    for name in names:
        texts = [number(row[name], DIGITS.get(name, 3)) for row in entries]
        columns[head(name)] = bold(name, texts, texts)
        if name == "l0":
            columns[MISSED] = [_missed(row) for row in entries]
    header, lines, held = varied([*columns], [*map(list, zip(*columns.values(), strict=True))], keep=3)
    if rows["rank_low"].isna().all():
        header, lines = header[1:], [line[1:] for line in lines]
    return table(header, lines, left=header.index("method") + 1), held


def _rank(row: Row) -> str:
    if math.isnan(row["rank_low"]):
        return NONE
    low, high = f"{row['rank_low']:.0f}", f"{row['rank_high']:.0f}"
    return low if low == high else f"{low}–{high}"


def _name(row: Row, tasks: int) -> str:
    name = code(row["method"])
    if row["kind"] == "reference":
        name = f"*{name} ({REFERENCES.get(row['method'], 'reference')})*"
    return unbroken(name if row["tasks"] == tasks else f"{name} ({row['tasks']}/{tasks} tasks)")


def _best(rows: pd.DataFrame, column: str) -> float:
    """The best value; NaN where no direction is better."""
    direction = METRICS[column].direction if column in METRICS else "lower" if column == "seconds" else "higher"
    if direction == "none" or rows[column].isna().all():
        return math.nan
    return float(rows[column].max() if direction == "higher" else rows[column].min())


def _best_of_curve(row: Row) -> str:
    """The best score of the curve, and at which multiple of the world's L0 if it is not the row's own."""
    at = "" if math.isnan(row["best_at"]) else f" (×{row['best_at']:g})"
    return unbroken(f"{number(row['best'])}{at}")


def _missed(row: Row) -> str:
    """How far the L0 is from what the method was told: the least and the most over tasks."""
    low, high = row["missed_low"], row["missed_high"]
    if math.isnan(low):
        return NONE
    if max(-low, high) <= MATCHED:
        return unbroken(f"within {MATCHED:.0%}")
    least, most = (f"{round(100 * share) + 0:+,d}" for share in (low, high))
    return unbroken(f"{most}%" if least == most else f"{least} to {most}%")


def _notes(board: Board, same: Mapping[str, str]) -> list[str]:
    rows = board.standings
    notes = _rank_notes(board) + _seed_notes(board)
    notes.append(
        "Bold: best of its column among the ranked methods that cover the most tasks. *Italic* rows are references, not ranked."
    )
    if rows["best"].notna().any():
        notes.append(
            f"`{BEST.rstrip(' ↑')}`: the best mean of the method's curve (see the figure), the multiple of the world's mean L0"
            " behind it where that is not the row's own. The best of several means flatters a little."
        )
    if rows["breakdown"].notna().any():
        notes.append(
            f"`{BREAKS.rstrip(' ↑')}`: worlds are made harder along ten axes until a method finds less than half of their features (the"
            " study `ladder`); the geometric mean of these levels relative to the best method's. It ends where an axis ends."
        )
    if rows["missed_low"].notna().any():
        notes.append(
            f"`{MISSED}`: how far the mean L0 is from what the method was told, by task. Beyond {MATCHED:.0%} the row"
            " is not at the same L0 as the others."
        )
    if same:
        notes.append(
            "The same in every row, hence no column: "
            + ", ".join(f"{name} {value}" for name, value in same.items())
            + "."
        )
    notes.append(
        "Recovery: share of features with cosine > 0.95. Absorption: mean over the families that have a hierarchy; it says"
        " little where recall alone is low (see below). Seconds: mean of a cell."
    )
    if (rows["tasks"] < len(board.tasks)).any():
        notes.append("A method marked `k/n tasks` lacks cells (see *Cells without a score*): its means are over k tasks"
                     " and do not compare with the others', so it stands after those that have more.")  # fmt: skip
    return notes


def _rank_notes(board: Board) -> list[str]:
    if board.suite in NO_RANKING:
        return [
            f"`{board.suite}` asks whether a method runs. Its worlds are toys: the order of the rows is no ranking."
        ]
    if board.standings["rank_low"].isna().all():
        return ["There are no ranks: with one seed no test is possible, and the order of the rows is no ranking."]
    return [
        "Ranks are ranges: a method of rank 2–5 has one ahead of it, and nothing tells whether it is second or fifth. One method is ahead of another if their difference on the same worlds (paired, stratified by task, families weighing"
        f" equally) is significant at {ALPHA:.0%} after Holm's correction over all pairs of the table, and exceeds the"
        f" tolerance, {TOLERANCE:g}. The order inside a range says nothing."
    ]


def _seed_notes(board: Board) -> list[str]:
    counts, notes = set(board.standings["seeds"]), []
    if 1 in counts:
        notes.append("With one seed there is no interval, and none is made up.")
    if 2 in counts:
        notes.append(
            "With two seeds a t-interval has one degree of freedom (t = 12.7): its width is itself mostly chance, and neither a"
            " narrow one nor a wide one says anything about a method."
        )
    return notes
