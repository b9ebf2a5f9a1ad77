"""The three questions that the tables raise: what explains the encoder's numbers, the two that recover nothing, and what anchoring does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lrbench.pages.interval import LEVEL, Interval
from lrbench.pages.markdown import NONE, listed, number, table
from lrbench.replication.causes import NO_PENALTY, Cause
from lrbench.replication.findings import AS_REPORTED, SIDES, TOLERANCE, Cells, Found, change, find
from lrbench.replication.reported import ANCHORED, DEFAULT, NAMES, ROWS, TABLES, TOPK_FAMILY, Row, Scores, address
from lrbench.replication.schedule import causes_at, penalties_at
from lrbench.replication.words import NOT_RUN, cell_text, change_text

ENCODERS = (SIDES["enc"], SIDES["raw"])
CAUSE_HEADS = [
    "method", "in place of the bench's settings", *SIDES.values(), "L0", f"within {TOLERANCE:g} of M_IP",
]  # fmt: skip
MISSED = 0.25  # of the L0 that was aimed at: by more than that, steering has given out
TRAINED_SIDES = {"enc": "encoder", "dec": "decoder"}
SCORES = {"recovery": "M_GT", "mip": "M_IP"}


@dataclass(frozen=True)
class Explained:
    """What the search says of all three TopK-family SAEs.

    Parameters
    ----------
    asked
        Settings that are asked for all three.
    run
        How many of them have a score in all three.
    within
        Per way of scoring the encoder, the settings that bring M_IP within the tolerance of table 1 in all three.
    """

    asked: int
    run: int
    within: Mapping[str, Sequence[str]]


def target(method: str) -> Scores:
    """Return what table 1 reports of a plain method."""
    return next(row.reported for row in ROWS if (row.table, row.method) == (1, method))


def explaining(cells: Cells, family: str, causes: Sequence[Cause]) -> Explained:
    """Return what the search says of the settings that are asked for all three TopK-family SAEs."""
    methods: dict[str, list[Cause]] = {}
    for cause in causes:
        methods.setdefault(cause.words, []).append(cause)
    asked = {words: own for words, own in methods.items() if len(own) == len(TOPK_FAMILY)}
    run: dict[str, list[list[str]]] = {}
    for words, own in asked.items():
        near = [sides for cause in own if (sides := _near(cells, family, cause)) is not None]
        if len(near) == len(own):
            run[words] = near
    within = {side: [words for words, near in run.items() if all(side in each for each in near)] for side in ENCODERS}
    return Explained(len(asked), len(run), within)


def told(answer: Explained) -> str:
    """Return `explaining` in sentences."""
    if not answer.run:
        return f"Not yet run for all three TopK-family SAEs: none of the {answer.asked} settings that are asked for all three."
    under = [f"{'; '.join(answer.within[side]) or 'none of them'}" for side in ENCODERS]
    return (
        f"Run for all three TopK-family SAEs: {answer.run} of the {answer.asked} settings that are asked for all three. With rows brought to "
        f"unit length, all three come within {TOLERANCE:g} of M_IP under: {under[0]}. With rows as they are, under: {under[1]}."
    )


def causes_section(cells: Cells, scales: Mapping[str, str]) -> str:
    """Return the table of cause and effect: at the paper's scale, where the suite has it, and the whole search at the other."""
    parts = ["## What explains the encoder's numbers", _causes_prose()]
    for family, scale in scales.items():
        causes = causes_at(family, scales)
        known = [found for cause in causes if (found := find(cells, cause.task(family), cause.name)) is not None]
        trained = sum(len(found.records) for found in known)
        said = told(explaining(cells, family, causes))
        parts.append(
            f"### At {scale}\n\n{len(known)} of {len(causes)} lines are run, {trained} trained dictionaries. {said}\n\n"
            f"{table(CAUSE_HEADS, cause_rows(cells, family, causes))}"
        )
    return "\n\n".join(part.rstrip("\n") for part in parts)


def cause_rows(cells: Cells, family: str, causes: Sequence[Cause]) -> list[list[str]]:
    """Return a line for each setting of a search and method."""
    rows = []
    for cause in causes:
        found = find(cells, cause.task(family), cause.name)
        l0 = NOT_RUN if found is None else f"{found.l0:.1f}"
        sides = [cell_text(found, side) for side in SIDES]
        near = _near(cells, family, cause)
        rows.append([NAMES[cause.method], cause.words, *sides, l0, NOT_RUN if near is None else listed(near)])
    return rows


def _causes_prose() -> str:
    targets = listed([f"{NAMES[method]} {target(method).mip:g}" for method in TOPK_FAMILY])
    return f"""Table 1 reports M_IP of {targets}. A line is one method with one setting in the default
world: the mean over the dictionaries that were trained so, or "{NOT_RUN}". All that
is not named is as the bench trains (*the bench's own settings*): an encoder and a decoder of their own, both starting from the same unit rows; decoder rows
of unit length after every step; Adam at a learning rate of 0.01 that falls to 0 at the end; k at the mean L0. `reported_sae`, in
`lrbench/replication/reported_sae.py`, is that loop with these choices open; where none is made it trains what the bench's methods train, to the
bit. *Encoder as it is* is the inner product without bringing the row to unit length, which the paper's text allows; it can exceed 1. The last
column names the ways of scoring whose M_IP is within {TOLERANCE:g} of table 1's, whatever M_GT is."""


def _near(cells: Cells, family: str, cause: Cause) -> list[str] | None:
    """Return the ways of scoring whose M_IP is within the tolerance of table 1; None where the cell has no score."""
    found = find(cells, cause.task(family), cause.name)
    if found is None:
        return None
    reported = Scores(mip=target(cause.method).mip)
    return [name for side, name in SIDES.items() if found.sides[side].relation(reported) == AS_REPORTED]


def penalty_section(cells: Cells, scales: Mapping[str, str]) -> str:
    """Return the ReLU and the JumpReLU SAE with their own settings, and with other penalties."""
    heads = ["method", "penalty", "scale", *SIDES.values(), "aimed at L0", "L0"]
    rows, missed = [], []
    for family, scale in scales.items():
        for name in penalties_at(family, scales):
            method, found = name.partition("[")[0], find(cells, address(family, DEFAULT), name)
            aim = math.nan if found is None else aimed(found)
            ends = [NOT_RUN] * 2 if found is None else [NONE if math.isnan(aim) else f"{aim:g}", f"{found.l0:.1f}"]
            rows.append(
                [NAMES[method], _penalty(name), scale, *(cell_text(found, side) for side in SIDES), *ends],
            )
            if found is not None and abs(found.l0 - aim) > MISSED * aim:
                missed.append(f"{NAMES[method]} {_penalty(name)}, {scale}: {found.l0:.1f} instead of {aim:g}")
    reported = listed([f"{NAMES[method]} M_GT 0%, M_IP {target(method).mip:g}" for method in NO_PENALTY])
    gave_out = (
        f"\n\nSteering gave out, by more than {MISSED:.0%} of what was aimed at, in: {'; '.join(missed)}. "
        "Such a line says how far the penalty could be moved, and nothing of the L0 that was aimed at."
    )
    return f"""## "ReLU and JumpReLU recover nothing"

Reported: {reported}. The penalty's weight λ is not given. Here it is steered to a mean L0, so
a line names λ by the L0 that was aimed at, as a multiple of the world's; the last column is what came of it, after the thresholds are
calibrated.{gave_out if missed else ""}

{table(heads, rows, left=3)}"""


def aimed(found: Found) -> float:
    """Return the L0 that a method with a penalty was aimed at, NaN without a penalty."""
    first = found.records[0]
    if first.method.partition("[")[2].rstrip("]") in NO_PENALTY.values():
        return math.nan
    return float(first.hyperparameters["l0"]) * float(first.world["mean_l0"])  # type: ignore[arg-type]


def _penalty(name: str) -> str:
    inside = name.partition("[")[2].rstrip("]")
    if not inside:
        return "the bench's own: aimed at the world's mean L0"
    value = inside.partition("=")[2]
    return f"aimed at {value} × mean L0" if inside.startswith("l0=") else "none"


def anchoring_section(cells: Cells, scales: Mapping[str, str]) -> str:
    """Return what anchoring changes in the features that are not anchored, in table 1 and over all rows."""
    heads = ["method", "reported"]
    heads += [f"{side}, {scale}" for scale in scales.values() for side in TRAINED_SIDES.values()]
    rows = []
    for plain, anchored in _pairs(1):
        told_of = (
            Interval(after - before, math.nan, 1)
            for before, after in zip(_numbers(plain.reported), _numbers(anchored.reported), strict=True)
        )
        deltas = [change_text(*told_of)]
        for family in scales:
            for side in TRAINED_SIDES:
                seen = (_change(cells, family, plain, f"{score}_{side}") for score in SCORES)
                deltas.append(change_text(*seen))
        rows.append([NAMES[plain.method], *deltas])
    counts = [line for family, scale in scales.items() for line in _counted(cells, family, scale)]
    count_heads = ["scale", "side", "score", "pairs run", "with two seeds or more", "rises", "falls", "each by chance"]
    over_all = f"""

Over the distinct pairs of all tables. A pair *rises* or *falls* where its {LEVEL:.0%} interval over seeds leaves 0 out; *by chance* is how many
would do either if anchoring changed nothing. The largest changes are those of the means, whatever their intervals.

{table([*count_heads, "largest rise", "largest fall"], counts, left=3)}"""
    return f"""## "Anchoring raises every method"

The change from a plain method to its anchored twin, on the features that neither was given (λ_anchor = 0.1; about a tenth of the
features are anchored): M_GT in points / M_IP. Table 1:

{table(heads, rows, left=1).rstrip()}{over_all if counts else ""}"""


def _counted(cells: Cells, family: str, scale: str) -> list[list[str]]:
    """Return a line for each side and score: how many pairs of plain and anchored there are, and what they do."""
    distinct = {(plain.setting, plain.method): plain for number in reversed(TABLES) for plain, _ in _pairs(number)}
    lines = []
    for side, name in TRAINED_SIDES.items():
        for score, title in SCORES.items():
            seen = [(_change(cells, family, plain, f"{score}_{side}"), plain) for plain in distinct.values()]
            known = [(each, plain) for each, plain in seen if each.count]
            if not known:
                continue
            sure = [each for each, _ in known if each.count > 1]
            up, down = (sum(sign * each.mean > each.half for each in sure) for sign in (1, -1))
            ends = [_place(score, *max(known, key=_mean), sign=1), _place(score, *min(known, key=_mean), sign=-1)]
            expected = number((1 - LEVEL) / 2 * len(sure), 1)
            lines.append(
                [scale, name, title, *map(str, (len(known), len(sure), up, down)), expected, *ends],
            )
    return lines


def _mean(pair: tuple[Interval, Row]) -> float:
    return pair[0].mean


def _place(score: str, seen: Interval, row: Row, sign: int) -> str:
    """Return the change and where it is, a dash where nothing changes that way."""
    if sign * seen.mean <= 0:
        return NONE
    value = f"{100 * seen.mean:+.1f}" if score == "recovery" else f"{seen.mean:+.3f}"
    return f"{value}, table {row.table}: {row.label}"


def _change(cells: Cells, family: str, plain: Row, score: str) -> Interval:
    return change(cells, address(family, plain.setting), plain.method, ANCHORED, score)


def _numbers(reported: Scores) -> tuple[float, float]:
    return reported.recovery, reported.mip


def _pairs(table_number: int) -> list[tuple[Row, Row]]:
    rows = [row for row in ROWS if row.table == table_number]
    return list(zip(rows[::2], rows[1::2], strict=True))
