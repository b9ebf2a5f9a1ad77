"""The default hyper-parameters are level with the sweep's winners, and its page shows what is stored.

``benchmarks/sweep_means.json`` holds means over the sweep's 12 cells of each setting. They were measured before the sweep was a study.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lrbench.catalogue.methods import method_catalogue
from lrbench.errors import LrbenchError
from lrbench.record import Record, Timing
from lrbench.running.provenance import provenance_of
from lrbench.studies.sweep import (
    FIRST_SEED,
    GRIDS,
    METRICS,
    SEEDS,
    TASKS,
    Row,
    best,
    declared,
    level,
    page,
    rows_of,
    settings_of,
)
from lrbench.task import SUITES

ROOT = Path(__file__).parent.parent


STORED = json.loads((ROOT / "benchmarks" / "sweep_means.json").read_text())
SEEDS_USED = range(FIRST_SEED, FIRST_SEED + SEEDS)
ROWS = {
    method: [Row(row["setting"], {name: row[name] for name in METRICS}, len(TASKS) * SEEDS) for row in STORED[method]]
    for method in GRIDS
}
ROWS = {
    method: [Row({name: row.setting[name] for name in GRIDS[method]}, row.scores, row.cells) for row in rows]
    for method, rows in ROWS.items()
}


@pytest.mark.parametrize("method", sorted(GRIDS))
def test_defaults_are_level_with_the_winners(method: str) -> None:
    rows = ROWS[method]
    assert [row.setting for row in rows] == settings_of(method), "every setting of the grid is there"
    assert level(declared(method, rows), rows)


def test_a_default_is_level_within_the_tolerances_only() -> None:
    def row(headline: float, f1: float) -> Row:
        return Row({}, {"headline": headline, "f1": f1}, 1)

    winner = row(0.99, 0.9)
    assert level(winner, [winner])
    for other, expected in ((row(0.985, 0.88), True), (row(0.985, 0.86), False), (row(0.97, 0.95), False)):
        assert level(other, [winner, other]) == expected


def test_a_default_outside_of_the_grid_is_named() -> None:
    with pytest.raises(LrbenchError, match="topk_sae: its default is not in the grid"):
        declared("topk_sae", ROWS["topk_sae"][:1])


def test_every_trained_method_was_swept() -> None:
    trained = {info.name.split("+")[0] for info in method_catalogue() if info.twin}
    assert trained <= set(GRIDS)


def test_the_page_shows_what_is_stored() -> None:
    assert (ROOT / "docs" / "sweep.md").read_text(encoding="utf-8") == page(ROWS, "quick", SEEDS_USED, TASKS)


def test_a_row_is_over_the_cells_that_all_settings_have() -> None:
    def cell(weight: float, task: str, f1: float) -> Record:
        return Record(
            task=task, family="f", suite="quick", seed=1000, task_hash="t", world_hash="w", source_hash="s", pair="autoencoder",
            method=f"topk_sae[anchor_weight={weight}]+anchored", kind="sdl", status="ok", hyperparameters={"anchor_weight": weight},
            scores={name: f1 for name in METRICS}, provenance=provenance_of("cpu"),
            timing=Timing(seconds=1.0, finished="2026-01-01T00:00:00+00:00"),
        )  # fmt: skip

    records = [cell(weight, task, weight) for weight in (0.01, 0.1, 1.0) for task in ("a", "b")]
    rows = rows_of([*records, cell(1.0, "c", 0.0)])["topk_sae+anchored"]
    assert [(row.scores["f1"], row.cells) for row in rows] == [(0.01, 2), (0.1, 2), (1.0, 2)]


def test_the_winner_detects_best_among_those_that_recover_as_well() -> None:
    rows = [
        Row({"lr": float(place)}, {"headline": headline, "f1": f1}, 1)
        for place, (headline, f1) in enumerate([(0.99, 0.8), (0.985, 0.9), (0.97, 0.95)])
    ]
    assert best(rows) is rows[1]


def test_validation_seeds_are_no_suites_seeds() -> None:
    assert max(suite.seeds for suite in SUITES.values()) <= FIRST_SEED
