"""Frames into markdown. Nothing here reads a clock, a path or a machine: the same boards give the same page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lrbench.pages.markdown import NONE, code, number, table, text, unbroken, varied, with_interval

from .compile import ABSORPTION_METRICS, Board
from .l0 import MATCHED
from .separation import FIRST, family_shares, told_apart
from .standing_tables import TOLERANCE, head, standing_tables, verdict, wins
from .stratified import ALPHA
from .traps import escapes, is_control, level_of, trap_columns

if TYPE_CHECKING:
    import pandas as pd

LOST = ("failed", "skipped", "missing")
ROWS_SHOWN = 100  # of what was left out
INTRO = """# Leaderboard

The **score** says how much of a known truth a dictionary found: which true features it has a latent for that points at the feature and
tells when it is there. In every task it is rescaled so that a random dictionary scores 0 and an oracle detector 1.
A method's score is the mean over the tasks of a family, then over families, which weigh equally; ± is the half width of a 95%
interval over seeds.
"""


def render(
    boards: Sequence[Board],
    problems: Sequence[tuple[str, str]],
    figures: Mapping[str, Mapping[str, str]],
    of_studies: int = 0,
) -> str:
    """The whole page.

    Parameters
    ----------
    boards
        One per suite.
    problems
        Files that the store could not use: (name, why).
    figures
        Suite → what `lrbench.leaderboard.figures.save_figures` returned.
    of_studies
        Number of records that only a study asked for, which are counted nowhere.
    """
    parts = [INTRO]
    for board in boards:
        parts.append(f"## Suite `{board.suite}`\n\n{_proxy(board)}{_size(board)}\n")
        drawn = figures[board.suite]
        parts += [
            standing_tables(board),
            _where(board, drawn["where"]),
            _over_l0(board, drawn.get("l0")),
            _recovery(drawn["recovery"]),
        ]
        parts += [_traps(board, drawn.get("traps")), _absorption(board), _anchored(board), _families(board)]
        parts += [_worlds(board), _gaps(board), _set_aside(board), _provenance(board)]
    if problems:
        rows = [[code(name), text(why)] for name, why in problems]
        parts.append("## Files set aside\n\nThey are no records that can be used.\n\n" + _first(["file", "why"], rows))
    if of_studies:
        parts.append(f"{_plural(of_studies, 'record')} of studies: on no leaderboard.\n")
    return "\n".join(part for part in parts if part).rstrip("\n") + "\n"


def _first(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of the first rows; a folder may hold any number of what is left out."""
    more = len(rows) - ROWS_SHOWN
    return table(header, rows[:ROWS_SHOWN]) + (f"\nAnd {more} more.\n" if more > 0 else "")


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _proxy(board: Board) -> str:
    """Say what stands for the truth where nobody knows it."""
    proxies = sorted({str(value) for own in board.worlds.get("proxy", []) if isinstance(own, list) for value in own})
    if not proxies:
        return ""
    return (
        f"**Truth is a proxy here**: {text(', '.join(proxies))} stand for features that nobody knows. The score's 1 is a linear probe for"
        " each class. No number of this section is averaged with one of another.\n\n"
    )


def _size(board: Board) -> str:
    sizes = [_plural(len(own), noun) for own, noun in ((board.tasks, "task"), (board.seeds, "seed"))]
    if not board.traps.empty:
        sizes.append(f"and {_plural(board.traps['method'].nunique(), 'method')} in traps")
    lost = [f"{sum(len(g.cells) for g in board.gaps if g.status == status)} {status}" for status in LOST]
    points = int(board.l0_curves["multiple"].notna().sum())
    if points:
        sizes.append(f"and {_plural(points, 'point')} of L0 curves")
    lines = [f"{_plural(len(board.standings), 'method')} on {', '.join(sizes)}; cells {', '.join(lost)}."]
    lines += [
        f"{code(name)} is the same world as {code(home)} and counts once, there." for name, home in board.counted_as
    ]
    return "\n\n".join(lines)


def _where(board: Board, file: str) -> str:
    return (
        "### Where methods break\n\n"
        f"![Score of each method on each task]({file})\n\n"
        "*Score of each method on each task, dark where it fails; lines part families, and autoencoders from the other pairings.*\n\n"
        + "".join(f"* {line}\n" for line in _separation(board))
    )


def _separation(board: Board) -> list[str]:
    """Say how many pairs of methods the board tells apart, and what each family adds."""
    lines = []
    for pair in sorted(board.standings["pair"].unique()):
        (apart, pairs), (few, among) = told_apart(board, pair), told_apart(board, pair, FIRST)
        if pairs > 1:  # one pair is no board
            first = f"; of the first {FIRST}, {few} of {among}" if among < pairs else ""
            lines.append(f"{text(pair).capitalize()}s told apart: {apart} of {_plural(pairs, 'pair')}{first}.")
        shares = family_shares(board, pair) if pairs > 1 else {}
        if shares:
            each = ", ".join(
                f"{text(family)} {share:.0%}" for family, share in sorted(shares.items(), key=lambda item: -item[1])
            )
            lines.append(f"What a family adds to the variance of the score between ranked {text(pair)}s: {each}.")
    return lines


def _recovery(file: str) -> str:
    return (
        f"### Recovery\n\n![Share of features recovered against the threshold on the cosine]({file})\n\n"
        "*Recovery against the threshold, mean over the tasks that count. A colour is a method; dashed: anchored, other dashes:"
        " other twins, grey dots: references, grey line: τ = 0.95.*\n"
    )


def _over_l0(board: Board, file: str | None) -> str:
    if file is None:
        return ""
    points = board.l0_curves
    multiples = sorted(points["multiple"].dropna().unique())
    rows = []
    for method, own in points.groupby("method", sort=False):
        cells = []
        for multiple in (math.nan, *multiples):
            found = own[own["multiple"].isna() if math.isnan(multiple) else own["multiple"] == multiple]
            texts = [
                f"{with_interval(p['headline'], p['half'])} at {number(p['reached'], 2)}"
                for p in found.to_dict("records")
            ]
            cells.append(unbroken(texts[0]) if texts else NONE)
        rows.append([code(str(method)), *cells])
    return (
        "### Score over L0\n\nScore, and the L0 reached in multiples of the L0 that the task tells, of methods that were also told another L0"
        f" (×). Compare at matched L0, within {MATCHED:.0%} of what was told.\n\n"
        + table(["method", "as in the standings", *(f"×{multiple:g}" for multiple in multiples)], rows, left=1)
        + f"\n![Score against the L0 reached]({file})\n\n"
        "*A panel per method, the others' curves in grey; dotted: the L0 that was told. The score's scale is stretched towards 1.*\n"
    )


def _anchored(board: Board) -> str:
    if board.anchored.empty:
        return ""
    families = list(dict.fromkeys(board.anchored["family"]))
    lines = []
    for method, own in board.anchored.groupby("method", sort=False):
        cells = {row["family"]: row for row in own.to_dict("records")}
        whole = cells[""]
        texts = [_gain(cells[family]) for family in families]
        lines.append([code(str(method)), verdict(whole["difference"], whole["p"]), *texts])
    return (
        "### Anchored minus plain\n\nDifference in score, each anchored twin against its plain method on the same task"
        " and seed, hence the same world; mean over the tasks of a family, and over families. ± is the half width of a 95% interval."
        f" Bold: significant at {ALPHA:.0%} after Holm's correction over all cells of the table, and beyond {TOLERANCE:g}, the score's"
        " tolerance. The score leaves out the anchored features for both.\n\n"
        + table(["method", "anchored is", "all families", *(text(name) for name in families if name)], lines)
    )


def _gain(row: Mapping[Any, Any]) -> str:
    if math.isnan(row["difference"]):
        return NONE
    sign = "+" if round(row["difference"], 3) > 0 else ""
    shown = unbroken(f"{sign}{with_interval(row['difference'], row['half'])}")
    return f"**{shown}**" if verdict(row["difference"], row["p"]) in ("better", "worse") else shown


def _families(board: Board) -> str:
    parts = ["### Score by task\n"]
    lost = {(gap.method, task): gap.status for gap in board.gaps for task, _ in gap.cells}
    kinds = dict(zip(board.standings["method"], board.standings["kind"], strict=True))
    for family, scores in board.families.items():
        ranked = scores[[kinds[method] != "reference" for method in scores.index]]
        texts = {task: [number(value) for value in ranked[task]] for task in scores.columns}
        best = {task: number(ranked[task].max()) for task in scores.columns}
        rows = []
        for method, values in zip(scores.index, scores.to_numpy(), strict=True):
            ranked_row = kinds[method] != "reference"
            row = [code(method) if ranked_row else f"*{code(method)}*"]
            for task, value in zip(scores.columns, values, strict=True):
                shown = lost.get((method, task), NONE) if math.isnan(value) else number(value)
                stands_out = ranked_row and wins(shown, best[task], texts[task])
                row.append(f"**{shown}**" if stands_out else shown)
            rows.append(row)
        heads = [text(str(task).removeprefix(f"{family}/")) for task in scores.columns]
        parts.append(f"#### {text(family)}\n\n" + table(["method", *heads], rows, left=1))
    return "\n".join(parts)


def _absorption(board: Board) -> str:
    if not board.absorption:
        return ""
    parts = [
        "### Absorption\n\nRecall of a parent's matched latent when the parent is active alone, and when one of its"
        " children is active too; absorption is the difference. ± as above. A low absorption counts for something only"
        " beside a high recall alone.\n"
    ]
    for family, rows in board.absorption.items():
        heads = ["method", "tasks", *map(head, ABSORPTION_METRICS)]
        lines = [
            [code(row["method"]), str(row["tasks"])]
            + [unbroken(with_interval(row[name], row[f"{name}_half"])) for name in ABSORPTION_METRICS]
            for row in rows.to_dict("records")
        ]
        parts.append(f"#### Absorption: {text(family)} tasks\n\n" + table(heads, lines, left=1))
    return "\n".join(parts)


def _traps(board: Board, figure: str | None) -> str:
    if board.traps.empty:
        return ""
    shown, columns = escapes(board.traps), trap_columns(board.traps)
    rows = []
    for method, own in shown.groupby("method", sort=False):
        texts = dict(zip(own["task"], map(unbroken, map(with_interval, own["mean"], own["half"])), strict=True))
        rows.append([code(str(method)), *(f"*{texts[task]}*" if is_control(task) else texts[task] for task in columns)])
    heads = [f"*{text(level_of(task))}*" if is_control(task) else text(level_of(task)) for task in columns]
    notes = [_ways_out(shown[shown["task"] == task], text(level_of(task))) for task in columns if not is_control(task)]
    alone = set(board.traps["task"]) == set(board.tasks)
    return (
        "### Traps\n\nTraining starts in a constructed minimum, and the **escape** is the share of the features trapped there that"
        " have a latent of their own at the end (↑; 0 at the start, 1 for the truth), ± as above. The *own start* columns, in"
        " italics, are the same share in the same worlds when the same method starts where it always does. "
        + (
            "No other task was run, so the standings rest on these.\n\n"
            if alone
            else "They count in no other table.\n\n"
        )
        + table(["method", *heads], rows, left=1)
        + "\n"
        + "".join(f"* {line}\n" for line in notes if line)
        + (f"\n![Escape by method and trap]({figure})\n" if figure else "")
    )


def _ways_out(shown: pd.DataFrame, trap: str) -> str:
    """Say how many methods get out of a trap, and how far the best of them gets."""
    means = shown["mean"].dropna().tolist()
    if not means:
        return ""
    out = sum(mean > 0.5 for mean in means)
    most = f"the most that one frees is {number(max(means))}"
    return f"{trap}: {out} of {_plural(len(means), 'method')} free more than half of the features, {most}."


def _worlds(board: Board) -> str:
    """Sizes of the worlds, and whether the condition of the paper's approximation holds."""

    def show(values: object) -> str:
        if not isinstance(values, list) or not values:
            return NONE
        texts = [("yes" if v else "no") if isinstance(v, bool) else f"{v:.4g}" if isinstance(v, float) else text(str(v))
                 for v in values]  # fmt: skip
        ends = dict.fromkeys([texts[0], texts[-1]])
        return unbroken(" to ".join(ends))

    heads = {"n_features": "n", "dim": "d", "n_latents": "n_q", "n_sites": "sites", "interference_reached": "M reached"}
    heads |= {"interference": "M", "mean_l0": "mean L0", "told_l0": "told (×)", "extreme_sparsity": "1 − S ≤ 1/n"}
    recorded = [name for name in board.worlds.columns if name != "task"]
    facts = [name for name in heads if name in recorded] + [name for name in recorded if name not in heads]
    rows = [[code(str(row["task"])), *(show(row[name]) for name in facts)] for row in board.worlds.to_dict("records")]
    header = ["task", *(heads.get(name, text(name.replace("_", " "))) for name in facts)]
    header, rows, same = varied(header, rows)
    shared = f" In every world {', '.join(f'{name} is {value}' for name, value in same.items())}." if same else ""
    return (
        "### Worlds\n\nOver seeds, smallest to largest. Where 1 − S ≤ 1/n does not hold, the theory's approximate loss"
        f" is not bounded by anything useful.{shared}\n\n" + table(header, rows, left=1)
    )


def _gaps(board: Board) -> str:
    if not board.gaps:
        return "### Cells without a score\n\nNone.\n"
    rows = []
    for gap in board.gaps:
        seeds: dict[str, list[str]] = {}
        for task, seed in gap.cells:
            seeds.setdefault(task, []).append(str(seed))
        where = "; ".join(f"{text(task)} (seed {', '.join(own)})" for task, own in seeds.items())
        rows.append([code(gap.method), gap.status, text(gap.reason), where])
    return "### Cells without a score\n\n" + table(["method", "status", "reason", "cells"], rows, left=4)


def _set_aside(board: Board) -> str:
    if not board.set_aside:
        return ""
    lead = "### Records left out\n\nThey were made by another version of the task or of the method than the newest.\n\n"
    return lead + _first(["record", "why"], [[text(name), why] for name, why in board.set_aside])


def _provenance(board: Board) -> str:
    lines = "\n".join(f"* {text(name)}: {text(facts)}" for name, facts in board.provenance)
    checkout = f"git checkout {board.commit}\n" if board.commit else ""
    seeds = max(board.seeds) + 1
    return (
        f"### Provenance\n\n{lines}\n\n### How to reproduce\n\n```sh\n{checkout}pip install .\n"
        f"lrbench run --suite {board.suite} --seeds {seeds} --out results\n"
        "lrbench leaderboard results --output LEADERBOARD.md\n```\n\n"
        "A method that is not in the catalogue needs `--method FILE.py`; where no commit is checked out above, the"
        " records come from several, or from uncommitted changes.\n"
    )
