"""Where the default hyper-parameters come from: a grid per method, on seeds and tasks for choosing.

The winner is the setting with the best F1 among those whose headline is within 0.01 of the best one: recover the directions, and
among equals detect the features. A test holds the defaults in ``methods/`` to the winners of the committed records.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from lrbench.catalogue.address import settings_text
from lrbench.catalogue.methods import load_method, split
from lrbench.pages.markdown import table
from lrbench.pages.terminal import as_text
from lrbench.record import Record
from lrbench.study import Block, Study

TASKS = (
    "superposition/1.30x",
    "superposition/1.82x",
    "sparsity/0.05",
    "frequency/zipf1.0",
    "correlation/0.5",
    "absorption/even",
)
FIRST_SEED, SEEDS = 1000, 2  # no suite uses the seeds from 1000 on
LEVEL = 0.01  # half the headline's tolerance
METRICS = ("headline", "f1", "l0", "dead")
RATES = (3e-3, 1e-2, 3e-2)
RATIOS = (1.0, 1.25, 1.5, 2.0)
GRIDS: dict[str, dict[str, tuple[float, ...]]] = {
    "relu_sae": {"lr": RATES, "l1_weight": (0.05, 0.1, 0.2, 0.3, 0.4, 0.6)},
    "gated_sae": {"lr": RATES, "gate_weight": (0.2, 0.4, 0.6, 0.8, 1.2)},
    "jumprelu_sae": {"lr": RATES, "l0_weight": (0.02, 0.05, 0.1, 0.2), "bandwidth": (0.1, 0.3)},
    "topk_sae": {"lr": RATES, "ratio": RATIOS},
    "batchtopk_sae": {"lr": RATES, "ratio": RATIOS},
    "matryoshka_sae": {"lr": RATES, "ratio": RATIOS, "prefix_weight": (0.3, 1.0)},
    "transcoder": {"lr": RATES, "ratio": RATIOS},
    "crosscoder": {"lr": RATES, "ratio": RATIOS},
    "topk_sae+anchored": {"anchor_weight": (0.01, 0.1, 1.0)},
}


@dataclass(frozen=True)
class Row:
    """One setting of a method's grid with its mean scores, over the cells that have one."""

    setting: dict[str, float]
    scores: dict[str, float]
    cells: int


def plan(suite: str, seeds: int | None) -> list[Block]:
    """Return every setting of every grid, task by task."""
    methods = [_address(method, setting) for method in GRIDS for setting in settings_of(method)]
    count = SEEDS if seeds is None else seeds
    return [Block([task], methods, range(FIRST_SEED, FIRST_SEED + count)) for task in TASKS]


def settings_of(method: str) -> list[dict[str, float]]:
    """Return the settings of a method's grid."""
    return [dict(zip(GRIDS[method], values, strict=True)) for values in product(*GRIDS[method].values())]


def rows_of(records: Sequence[Record]) -> dict[str, list[Row]]:
    """Return, per method, the settings that have records, in the order of its grid."""
    scored = [record for record in records if record.status == "ok"]
    found: dict[str, list[Row]] = defaultdict(list)
    for method in GRIDS:
        own = [record for record in scored if _plain(record.method) == method]
        for setting in settings_of(method):
            cells = [r for r in own if all(r.hyperparameters[name] == value for name, value in setting.items())]
            if cells:
                means = {name: _mean([record.scores[name] for record in cells]) for name in METRICS}
                found[method].append(Row(setting, means, len(cells)))
    return found


def best(rows: Sequence[Row]) -> Row:
    """Return the winner: the best F1 among the settings that are level with the best headline."""
    level = max(row.scores["headline"] for row in rows) - LEVEL
    return max((row for row in rows if row.scores["headline"] >= level), key=lambda row: row.scores["f1"])


def write(records: Sequence[Record], suite: str, path: Path) -> str:
    """Write a table per method, the winner in bold, and return the winners."""
    found = rows_of(records)
    seeds = sorted({record.seed for record in records})
    parts = [
        f"""# Where the default hyper-parameters come from

Written by `lrbench study sweep --suite {suite}` from records: every setting of a grid, trained in the `{suite}` suite on the seeds
{", ".join(map(str, seeds))}, which no suite uses, and {", ".join(f"`{task}`" for task in TASKS)}. The default, in bold, is the setting with
the best F1 among those whose headline is within {LEVEL} of the best. Anchored twins take the plain method's setting; their anchor
weight comes from the TopK SAE's.
"""
    ]
    for method, rows in found.items():
        winner = best(rows)
        lines = []
        for row in rows:
            cells = [f"{value:g}" for value in row.setting.values()]
            cells += [f"{row.scores[name]:.3f}" for name in METRICS]
            lines.append([f"**{cell}**" if row is winner else cell for cell in cells])
        heads = [*GRIDS[method], "headline", "F1", "L0", "dead"]
        parts.append(f"## {method}\n\n{table(heads, lines, left=0)}")
    path.write_text("\n".join(parts), encoding="utf-8")
    winners = [
        [method, settings_text(best(rows).setting), _against_declared(method, rows)] for method, rows in found.items()
    ]
    return as_text([["method", "winner", ""], *winners])


def _against_declared(method: str, rows: Sequence[Row]) -> str:
    declared = load_method(method).hyperparameters()
    winner = best(rows).setting
    return "as declared" if all(declared[name] == value for name, value in winner.items()) else "declared otherwise"


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
