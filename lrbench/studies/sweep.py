"""Where the default hyper-parameters come from: a grid per method, all of one size, on seeds and tasks for choosing.

The winner is the setting with the best F1 among those whose headline is within 0.01 of the best one: recover the directions, and
among equals detect the features. A default stays as long as it is level with the winner: which of two settings with the same F1 to
0.002 comes out first depends on the processor. A test holds the defaults in ``methods/`` to that on the committed records.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from lrbench.catalogue.address import settings_text
from lrbench.catalogue.methods import load_method, split
from lrbench.errors import LrbenchError
from lrbench.pages.markdown import table
from lrbench.pages.terminal import as_text
from lrbench.record import Record
from lrbench.study import Block, Study

TASKS = (  # of no suite that makes a leaderboard
    "superposition/1.82x",
    "hierarchy/depth2-overlapping",
    "correlation[0.65]",
    "absorption[0.25]",
    "frequency/zipf0.5",
    "noise[0.5]",
)
FIRST_SEED, SEEDS = 1000, 2  # no suite uses the seeds from 1000 on
LEVEL = 0.01  # half the headline's tolerance
TIE = 0.002  # of F1: two processors put an anchor weight of 1 at -0.0004 and at +0.0016 beside one of 0.1
METRICS = ("headline", "f1", "l0", "dead")
RATES = (3e-3, 1e-2, 3e-2)
REVIVING = (1 / 32, 1 / 4)  # weights of AuxK
SETTINGS = 6  # per method, whatever it is: who tries more often wins more often
GRIDS: dict[str, dict[str, tuple[float | str, ...]]] = {
    "relu_sae": {"lr": RATES, "l1_weight": (0.1, 0.3)},
    "gated_sae": {"lr": RATES, "gate_weight": (0.3, 0.8)},
    "jumprelu_sae": {"lr": RATES, "bandwidth": (0.1, 0.3)},
    "topk_sae": {"lr": RATES, "auxk_weight": REVIVING},
    "batchtopk_sae": {"lr": RATES, "auxk_weight": REVIVING},
    "matryoshka_sae": {"lr": RATES, "prefix_weight": (0.3, 1.0)},
    "transcoder": {"lr": RATES, "auxk_weight": REVIVING},
    "crosscoder": {"lr": RATES, "auxk_weight": REVIVING},
    "topk_sae+anchored": {"anchor_weight": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)},
    "acs_sae": {"passes": (9, 12, 18), "encoder_iterations": (2, 3)},
    "dictionary_learning": {"alpha": (0.05, 0.1, 0.2), "batches": (75, 150)},
    "ica": {"passes": (6, 10, 18), "contrast": ("logcosh", "cube")},
    "kmeans": {"batches": (38, 75, 150), "reassignment": (0.01, 0.1)},
    "ksvd": {"rounds": (9, 18, 36), "pursuit": (1.0, 1.5)},
    "nmf": {"passes": (10, 20, 40), "forget": (0.7, 0.9)},
    "pca": {"kept": (0.5, 0.75, 1.0), "whiten": (False, True)},
}


@dataclass(frozen=True)
class Row:
    """One setting of a method's grid with its mean scores over so many cells."""

    setting: dict[str, float | str]
    scores: dict[str, float]
    cells: int


def plan(suite: str, seeds: int | None) -> list[Block]:
    """Return every setting of every grid, task by task."""
    methods = [_address(method, setting) for method in GRIDS for setting in settings_of(method)]
    count = SEEDS if seeds is None else seeds
    return [Block([task], methods, range(FIRST_SEED, FIRST_SEED + count)) for task in TASKS]


def settings_of(method: str) -> list[dict[str, float | str]]:
    """Return the settings of a method's grid."""
    return [dict(zip(GRIDS[method], values, strict=True)) for values in product(*GRIDS[method].values())]


def rows_of(records: Sequence[Record]) -> dict[str, list[Row]]:
    """Return, per method, its settings in the order of its grid, over the tasks and seeds that all of them have records of."""
    scored = [record for record in records if record.status == "ok"]
    found: dict[str, list[Row]] = {}
    for method in GRIDS:
        own = [record for record in scored if _plain(record.method) == method]
        cells = [
            {(r.task, r.seed): r for r in own if all(r.hyperparameters[n] == v for n, v in setting.items())}
            for setting in settings_of(method)
        ]
        shared = set.intersection(*map(set, cells))
        for setting, of_setting in zip(settings_of(method), cells, strict=True):
            means = {name: _mean([of_setting[cell].scores[name] for cell in sorted(shared)]) for name in METRICS}
            if shared:
                found.setdefault(method, []).append(Row(setting, means, len(shared)))
    return found


def best(rows: Sequence[Row]) -> Row:
    """Return the winner: the best F1 among the settings that are level with the best headline."""
    level = max(row.scores["headline"] for row in rows) - LEVEL
    return max((row for row in rows if row.scores["headline"] >= level), key=lambda row: row.scores["f1"])


def level(row: Row, rows: Sequence[Row]) -> bool:
    """Whether a setting is as good as the winner: by headline, and with the same F1 up to `TIE`."""
    best_headline = max(each.scores["headline"] for each in rows)
    as_good = row.scores["headline"] >= best_headline - LEVEL
    return as_good and row.scores["f1"] >= best(rows).scores["f1"] - TIE


def declared(method: str, rows: Sequence[Row]) -> Row:
    """Return the row of the method's default, or raise `LrbenchError` where the grid does not hold it."""
    own = load_method(method).hyperparameters()
    for row in rows:
        if all(own[name] == value for name, value in row.setting.items()):
            return row
    raise LrbenchError(f"{method}: its default is not in the grid of the sweep; add it, or take a setting of the grid")


def write(records: Sequence[Record], suite: str, path: Path) -> str:
    """Write a table per method, the winner in bold, and return the winners."""
    found = rows_of(records)
    seeds = ", ".join(map(str, sorted({record.seed for record in records})))
    tasks = ", ".join(f"`{task}`" for task in TASKS if any(record.task == task for record in records))
    parts = [
        f"""# Where the default hyper-parameters come from

Written by `lrbench study sweep --suite {suite}` from records: every setting of a grid, trained in the `{suite}` suite on validation seeds
that no suite uses ({seeds}) and on {tasks}.
A row is the mean over the cells that all settings of the method have.

Every method has {SETTINGS} settings. None of the tasks is of a suite that makes a leaderboard.

In bold, the winner: the best F1 among the settings whose headline is within {LEVEL} of the best. *default* marks the method's own
values. They stay while they are level with the winner: their headline within {LEVEL} of the best, their F1 within {TIE} of the
winner's, which is what two processors differ by. Anchored twins take the plain method's setting; their anchor weight comes from the
TopK SAE's.
"""
    ]
    for method, rows in found.items():
        winner, default = best(rows), declared(method, rows)
        lines = []
        for row in rows:
            cells = [value if isinstance(value, str) else f"{value:g}" for value in row.setting.values()]
            cells += [f"{row.scores[name]:.3f}" for name in METRICS]
            cells = [f"**{cell}**" if row is winner else cell for cell in cells]
            lines.append([*cells, "*default*" if row is default else ""])
        heads = [*GRIDS[method], "headline", "F1", "L0", "dead", ""]
        parts.append(f"## {method}\n\nMean of {rows[0].cells} cells.\n\n{table(heads, lines, left=0)}")
    path.write_text("\n".join(parts), encoding="utf-8")
    winners = [
        [method, settings_text(best(rows).setting), _against_declared(declared(method, rows), rows)]
        for method, rows in found.items()
    ]
    return as_text([["method", "winner", "the default"], *winners])


def _against_declared(default: Row, rows: Sequence[Row]) -> str:
    if default is best(rows):
        return "is the winner"
    return f"{settings_text(default.setting)} is {'' if level(default, rows) else 'NOT '}level with it"


def _address(method: str, setting: dict[str, Any]) -> str:
    base, _, twin = split(method)
    return f"{base}{settings_text(setting)}{f'+{twin}' if twin else ''}"


def _plain(method: str) -> str:
    """The method without its settings."""
    base, _, twin = split(method)
    return f"{base}+{twin}" if twin else base


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else math.nan


STUDY = Study(plan=plan, write=write)
