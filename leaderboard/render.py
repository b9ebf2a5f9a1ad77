"""Frames into markdown. Nothing here reads a clock, a path or a machine: the same boards give the same page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lrbench.metric_table import METRICS
from lrbench.pages.markdown import NONE, code, number, table, text, with_interval

from .compile import ABSORPTION_METRICS, ANCHORED, Board
from .traps import escapes, is_control, level_of, trap_columns

if TYPE_CHECKING:
    import pandas as pd

REFERENCES = {"oracle": "ceiling", "random": "floor"}
SCORES = ("headline", "recovery_dec", "recovery_enc", "matched_dec", "f1", "fvu", "l0", "dead", "absorption")
LOST = ("failed", "skipped", "missing")
STANDINGS = (*SCORES, "seconds")
ROWS_SHOWN = 100  # of what was left out
DIGITS = {"l0": 2, "seconds": 1}
ARROWS = {"higher": " ↑", "lower": " ↓", "none": ""}
INTRO = """# Leaderboard

The **score** says how much of a known truth a dictionary found: which true features it has a latent for that points at the feature and
tells when it is there. In every task it is rescaled so that a random dictionary scores 0 and an oracle detector 1.
A method's score is the mean over the tasks, ± the half width of a 95% interval over seeds.
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
        Suite → ``"recovery"``, ``"l0"`` and, where there are traps, ``"traps"`` → path of the figure relative to the page.
    of_studies
        Number of records that only a study asked for, which are counted nowhere.
    """
    parts = [INTRO]
    for board in boards:
        parts.append(f"## Suite `{board.suite}`\n\n{_size(board)}\n")
        parts += [_headline(board), _figures(figures[board.suite])]
        parts += [_traps(board, figures[board.suite].get("traps")), _absorption(board), _anchored(board)]
        parts += [_families(board), _worlds(board), _gaps(board), _set_aside(board), _provenance(board)]
    if problems:
        rows = [[code(name), text(why)] for name, why in problems]
        parts.append("## Files set aside\n\nThey are no records that can be used.\n\n" + _first(["file", "why"], rows))
    if of_studies:
        parts.append(f"{_plural(of_studies, 'record')} of studies: on no leaderboard.\n")
    return "\n".join(part for part in parts if part).rstrip("\n") + "\n"


def verdict(difference: float, half: float) -> str:
    """What an interval says on the sign of a difference."""
    if math.isnan(half):
        return "too few pairs"
    if abs(difference) <= half:
        return "no clear difference"
    if abs(difference) <= METRICS["headline"].tolerance:
        return "the same within tolerance"
    return "better" if difference > 0 else "worse"


def _first(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of the first rows; a folder may hold any number of what is left out."""
    more = len(rows) - ROWS_SHOWN
    return table(header, rows[:ROWS_SHOWN]) + (f"\nAnd {more} more.\n" if more > 0 else "")


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _size(board: Board) -> str:
    sizes = [_plural(len(own), noun) for own, noun in ((board.tasks, "task"), (board.seeds, "seed"))]
    if not board.traps.empty:
        sizes.append(f"and {_plural(board.traps['method'].nunique(), 'method')} in traps")
    lost = [f"{sum(len(g.cells) for g in board.gaps if g.status == status)} {status}" for status in LOST]
    lines = [f"{_plural(len(board.standings), 'method')} on {', '.join(sizes)}; cells {', '.join(lost)}."]
    lines += [
        f"{code(name)} is the same world as {code(home)} and counts once, there." for name, home in board.counted_as
    ]
    return "\n\n".join(lines)


def _name(row: Mapping[Any, Any], tasks: int) -> str:
    name = code(row["method"])
    if row["kind"] == "reference":
        name = f"*{name} ({REFERENCES.get(row['method'], 'reference')})*"
    return name if row["tasks"] == tasks else f"{name} ({row['tasks']}/{tasks} tasks)"


def _head(name: str) -> str:
    if name == "seconds":  # the one column that is no score
        return "seconds ↓"
    return METRICS[name].label + ARROWS[METRICS[name].direction]


def _rank(value: float) -> str:
    return NONE if math.isnan(value) else f"{value:.0f}"


def _twin(method: str, ranks: Mapping[str, float]) -> str:
    """Where the other half of a plain/anchored pair stands."""
    if method.endswith(ANCHORED):
        plain = method.removesuffix(ANCHORED)
        return f"plain: {_rank(ranks[plain])}" if plain in ranks else NONE
    return f"⚓ {_rank(ranks[method + ANCHORED])}" if method + ANCHORED in ranks else NONE


def _best(standings: pd.DataFrame, column: str) -> float:
    """The best value among ranked methods that cover the most tasks; NaN where no direction is better."""
    direction = METRICS[column].direction if column in METRICS else "lower"
    ranked = standings[standings["rank"].notna() & (standings["tasks"] == standings["tasks"].max())]
    if direction == "none" or ranked[column].isna().all():
        return math.nan
    return float(ranked[column].max() if direction == "higher" else ranked[column].min())


def _headline(board: Board) -> str:
    standings = board.standings
    best = {name: number(_best(standings, name), DIGITS.get(name, 3)) for name in STANDINGS}
    most = standings["tasks"].max()
    ranks = dict(zip(standings["method"], standings["rank"], strict=True))
    rows = []
    for row in standings.to_dict("records"):
        cells = []
        for name in STANDINGS:
            shown = number(row[name], DIGITS.get(name, 3))
            wins = shown == best[name] != NONE and not math.isnan(row["rank"]) and row["tasks"] == most
            shown = with_interval(row[name], row["half"]) if name == "headline" else shown
            cells.append(f"**{shown}**" if wins else shown)
        name, twin = _name(row, len(board.tasks)), _twin(row["method"], ranks)
        rows.append([_rank(row["rank"]), name, twin, text(row["pair"]), *cells])
    notes = [
        "Bold: best of its column among the ranked methods that cover the most tasks. *Italic* rows are references, not"
        " ranked. `twin`: the rank of the same method with (⚓) or without (plain) anchors.",
        "Recovery: share of features with cosine > 0.95, decoder and encoder side. Absorption: mean over the tasks that"
        " have a hierarchy; it says little where recall alone is low (see below). Seconds: mean of a cell.",
        *_seed_notes(board),
    ]
    if (standings["tasks"] < len(board.tasks)).any():
        notes.append("A method marked `k/n tasks` lacks cells (see *Cells without a score*): its means are over k tasks"
                     " and do not compare with the others', so it stands after those that have more.")  # fmt: skip
    heading = ["rank", "method", "twin", "pair", *map(_head, STANDINGS)]
    return "### Standings\n\n" + table(heading, rows, left=4) + "\n" + "\n".join(f"* {note}" for note in notes) + "\n"


def _seed_notes(board: Board) -> list[str]:
    counts = set(board.standings["seeds"])
    notes = []
    if 1 in counts:
        notes.append("With one seed there is no interval, and none is made up.")
    if 2 in counts:
        notes.append(
            "With two seeds a t-interval has one degree of freedom (t = 12.7): its width is itself mostly chance, and neither a"
            " narrow one nor a wide one says anything about a method."
        )
    return notes


def _figures(files: Mapping[str, str]) -> str:
    return (
        f"![Share of features recovered against the threshold on the cosine]({files['recovery']})\n\n"
        "*Recovery against the threshold, mean over the tasks that count; dashed: anchored, dotted: baselines,"
        " dash-dotted: references, grey line: τ = 0.95.*\n\n"
        f"![Score against L0]({files['l0']})\n\n"
        "*Score (scale stretched towards 1) against L0; hollow: anchored, tied to its plain twin, squares: baselines, diamonds: references.*\n"
    )


def _families(board: Board) -> str:
    parts = ["### Score by task\n"]
    lost = {(gap.method, task): gap.status for gap in board.gaps for task, _ in gap.cells}
    kinds = dict(zip(board.standings["method"], board.standings["kind"], strict=True))
    for family, scores in board.families.items():
        ranked = scores[[kinds[method] != "reference" for method in scores.index]]
        best = {task: number(ranked[task].max()) for task in scores.columns}
        rows = []
        for method, values in zip(scores.index, scores.to_numpy(), strict=True):
            ranked_row = kinds[method] != "reference"
            row = [code(method) if ranked_row else f"*{code(method)}*"]
            for task, value in zip(scores.columns, values, strict=True):
                shown = lost.get((method, task), NONE) if math.isnan(value) else number(value)
                row.append(f"**{shown}**" if ranked_row and shown == best[task] != NONE else shown)
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
        heads = ["method", "tasks", *map(_head, ABSORPTION_METRICS)]
        lines = [
            [code(row["method"]), str(row["tasks"])]
            + [with_interval(row[name], row[f"{name}_half"]) for name in ABSORPTION_METRICS]
            for row in rows.to_dict("records")
        ]
        parts.append(f"#### Absorption: {text(family)} tasks\n\n" + table(heads, lines, left=1))
    return "\n".join(parts)


def _anchored(board: Board) -> str:
    if board.anchored.empty:
        return ""
    lines = []
    for row in board.anchored.to_dict("records"):
        known = not math.isnan(row["half"])
        low, high = row["difference"] - row["half"], row["difference"] + row["half"]
        span = f"{number(low)} to {number(high)}" if known else NONE
        says = verdict(row["difference"], row["half"])
        lines.append([code(row["method"]), says, number(row["difference"]), span, str(row["pairs"])])
    return (
        "### Anchored minus plain\n\nDifference in score, each anchored twin against its plain method on the same task"
        " and seed, hence the same world. The 95% t-interval takes each such pair as one observation, whatever its"
        f" task; over many rows one in twenty excludes 0 by chance. A difference up to {METRICS['headline'].tolerance:g}, the"
        " score's tolerance, is no effect. The score leaves out the"
        " anchored features for both.\n\n"
        + table(["method", "anchored is", "mean difference", "95% interval", "pairs"], lines)
    )


def _traps(board: Board, figure: str | None) -> str:
    if board.traps.empty:
        return ""
    shown, columns = escapes(board.traps), trap_columns(board.traps)
    rows = []
    for method, own in shown.groupby("method", sort=False):
        texts = dict(zip(own["task"], map(with_interval, own["mean"], own["half"]), strict=True))
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
        return " to ".join(ends)

    heads = {"n_features": "n", "dim": "d", "n_latents": "n_q", "n_sites": "sites", "interference_reached": "M reached"}
    heads |= {"interference": "M", "mean_l0": "mean L0", "extreme_sparsity": "1 − S ≤ 1/n"}
    recorded = [name for name in board.worlds.columns if name != "task"]
    facts = [name for name in heads if name in recorded] + [name for name in recorded if name not in heads]
    rows = [[code(str(row["task"])), *(show(row[name]) for name in facts)] for row in board.worlds.to_dict("records")]
    header = ["task", *(heads.get(name, text(name.replace("_", " "))) for name in facts)]
    return (
        "### Worlds\n\nOver seeds, smallest to largest. Where 1 − S ≤ 1/n does not hold, the theory's approximate loss"
        " is not bounded by anything useful.\n\n" + table(header, rows, left=1)
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
