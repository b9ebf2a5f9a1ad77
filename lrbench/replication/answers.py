"""The three questions that the tables raise: what explains the encoder's numbers, the two that recover nothing, and what anchoring does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lrbench.pages.markdown import table
from lrbench.replication.causes import NO_PENALTY, Cause, confirmed, penalties, search
from lrbench.replication.findings import AS_REPORTED, SIDES, TOLERANCE, Cells, change, find
from lrbench.replication.reported import ANCHORED, DEFAULT, NAMES, ROWS, TOPK_FAMILY, Row, Scores, address
from lrbench.replication.words import NOT_RUN, cell_text, change_text, listed

ENCODERS = (SIDES["enc"], SIDES["raw"])
CAUSE_HEADS = ["method", "in place of the bench's settings", *SIDES.values(), "L0", "as reported"]


def target(method: str) -> Scores:
    """Return what table 1 reports of a plain method."""
    return next(row.reported for row in ROWS if (row.table, row.method) == (1, method))


def paper_causes() -> list[Cause]:
    """Return what is trained at the paper's scale, with the rows of tables 1 and 7 that belong to it."""
    ks = [Cause("topk_sae", (("l0", value),)) for value in (3.2, 6.4, 12.8)]
    return [*(Cause(method, ()) for method in TOPK_FAMILY), *ks, *confirmed()]


def cause_rows(cells: Cells, family: str, causes: Sequence[Cause]) -> list[list[str]]:
    """Return a line for each cell of a search."""
    rows = []
    for cause in causes:
        found = find(cells, cause.task(family), cause.name)
        l0 = NOT_RUN if found is None else f"{found.l0:.1f}"
        sides = [cell_text(found, side) for side in SIDES]
        near = _near(cells, family, cause)
        rows.append([NAMES[cause.method], cause.words, *sides, l0, NOT_RUN if near is None else listed(near)])
    return rows


def explaining(cells: Cells, family: str, causes: Sequence[Cause]) -> dict[str, list[str]]:
    """Return, per way of scoring the encoder, the settings that bring M_IP within the tolerance in all three TopK-family SAEs."""
    found: dict[tuple[str, str], set[str]] = {}
    for cause in causes:
        for side in _near(cells, family, cause) or ():
            found.setdefault((side, cause.words), set()).add(cause.method)
    all_three = [key for key, methods in found.items() if len(methods) == len(TOPK_FAMILY)]
    return {side: [words for name, words in all_three if name == side] for side in ENCODERS}


def told(answer: Mapping[str, Sequence[str]]) -> str:
    """Return `explaining` in a sentence for each way of scoring."""
    said = {ENCODERS[0]: "With rows brought to unit length", ENCODERS[1]: "With rows as they are"}
    return " ".join(
        f"{words}, all three TopK-family SAEs come within {TOLERANCE:g} of M_IP under: {'; '.join(answer[side]) or 'no setting that was run for all three'}."
        for side, words in said.items()
    )


def causes_section(cells: Cells, paper: str | None, small: str) -> str:
    """Return the table of cause and effect: at the paper's scale, where the suite has it, and the whole search at the other."""
    parts = ["## What explains the encoder's numbers", _causes_prose()]
    for family, scale, causes in ((paper, "the paper's scale", paper_causes()), (small, "the small scale", search())):
        if family is None:
            continue
        rows = cause_rows(cells, family, causes)
        run = sum(row[-1] != NOT_RUN for row in rows)
        said = told(explaining(cells, family, causes))
        parts.append(f"### At {scale}\n\n{run} of {len(rows)} cells are measured. {said}\n\n{table(CAUSE_HEADS, rows)}")
    return "\n\n".join(part.rstrip("\n") for part in parts)


def _causes_prose() -> str:
    targets = listed([f"{NAMES[method]} {target(method).mip:g}" for method in TOPK_FAMILY])
    return f"""Table 1 reports M_IP of {targets}. Every line below is a trained dictionary in the default setting. All that
is not named is as the bench trains (the first line): an encoder and a decoder of their own, both starting from the same unit rows; decoder rows
of unit length after every step; Adam at a learning rate of 0.01 that falls to 0 at the end; k at the mean L0. `reported_sae`, in
`lrbench/replication/reported_sae.py`, is that loop with these choices open; where none is made it trains what the bench's methods train, to the
bit. *Encoder as it is* is the inner product without bringing the row to unit length, which the paper's text allows; it can exceed 1. The last
column names what is within {TOLERANCE:g} of table 1's M_IP."""


def penalty_section(cells: Cells, paper: str | None, small: str) -> str:
    """Return the ReLU and the JumpReLU SAE with their own settings, and with other penalties."""
    heads = ["method", "penalty", "scale", *SIDES.values(), "L0"]
    rows = []
    for method in NO_PENALTY:
        for name in (method, *(each for each in penalties() if each.startswith(method))):
            for family, scale in ((paper, "paper's"), (small, "small")):
                found = None if family is None else find(cells, address(family, DEFAULT), name)
                if found is not None:
                    sides = [cell_text(found, side) for side in SIDES]
                    rows.append([NAMES[method], _penalty(name), scale, *sides, f"{found.l0:.1f}"])
    reported = listed([f"{NAMES[method]} M_GT 0%, M_IP {target(method).mip:g}" for method in NO_PENALTY])
    return f"""## "ReLU and JumpReLU recover nothing"

Reported: {reported}. The penalty's weight λ is not given. Here it is steered to a mean L0, so
a line names λ by the L0 that it was steered to, as a multiple of the world's; the last column is what came of it, after the thresholds are
calibrated.

{table(heads, rows, left=3)}"""


def _penalty(name: str) -> str:
    inside = name.partition("[")[2].rstrip("]")
    if not inside:
        return "the bench's own: to the world's mean L0"
    value = inside.partition("=")[2]
    return f"to {value} × mean L0" if inside.startswith("l0=") else "none"


def anchoring_section(cells: Cells, paper: str | None, small: str) -> str:
    """Return what anchoring changes in M_IP of the features that are not anchored, in table 1 and over all rows."""
    heads = ["method", "reported"]
    heads += [f"{side}, {scale} scale" for scale in ("paper's", "small") for side in ("encoder", "decoder")]
    rows = []
    for plain, anchored in _pairs(1):
        deltas = []
        for family in (paper, small):
            for side in ("enc", "dec"):
                task = "" if family is None else address(family, plain.setting)
                deltas.append(change_text(change(cells, task, plain.method, ANCHORED, f"mip_{side}")))
        rows.append([NAMES[plain.method], f"{anchored.reported.mip - plain.reported.mip:+.3f}", *deltas])
    counts = [line for family in (paper, small) if family is not None and (line := _counted(cells, family))]
    return f"""## "Anchoring raises every method"

The change of M_IP from a plain method to its anchored twin, on the features that neither was given (λ_anchor = 0.1, 100 anchors of 1000
features), table 1:

{table(heads, rows, left=1)}
{" ".join(counts)}"""


def _counted(cells: Cells, family: str) -> str:
    seen = {(row.setting, row.method): row for table_number in (1, 4, 5, 6, 7) for row, _ in _pairs(table_number)}
    told: dict[str, list[str]] = {}
    for side, name in (("enc", "the encoder's"), ("dec", "the decoder's")):
        found = [change(cells, address(family, s), m, ANCHORED, f"mip_{side}") for s, m in seen]
        sure = [each for each in found if each.count > 1]
        up = sum(each.mean - each.half > 0 for each in sure)
        down = sum(each.mean + each.half < 0 for each in sure)
        if sure:
            told.setdefault(f"{len(sure)}", []).append(f"{name} M_IP rises in {up} and falls in {down}")
    return " ".join(
        f"Of the {count} pairs of all tables with more than one seed in `{family}`, {', and '.join(said)}; in the others the interval holds 0."
        for count, said in told.items()
    )


def _pairs(table_number: int) -> list[tuple[Row, Row]]:
    rows = [row for row in ROWS if row.table == table_number]
    return list(zip(rows[::2], rows[1::2], strict=True))


def _near(cells: Cells, family: str, cause: Cause) -> list[str] | None:
    """Return the ways of scoring whose M_IP is within the tolerance of table 1; None where the cell has no score."""
    found = find(cells, cause.task(family), cause.name)
    if found is None:
        return None
    reported = Scores(mip=target(cause.method).mip)
    return [name for side, name in SIDES.items() if found.sides[side].relation(reported) == AS_REPORTED]
