"""The default hyper-parameters are level with the sweep's winners, and its page is what the committed records say."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrbench.catalogue.grid import settings_of
from lrbench.catalogue.methods import load_method, method_catalogue
from lrbench.catalogue.studies import find_study
from lrbench.catalogue.tasks import load_task, select_tasks
from lrbench.errors import LrbenchError
from lrbench.record import Record, Timing
from lrbench.running.provenance import provenance_of
from lrbench.store import read_packed
from lrbench.studies.sweep import METHODS, SETTINGS, TWIN, declared, grid, rows_by_method, write
from lrbench.task import SUITES
from lrbench.tuning.choice import FIRST_SEED, METRICS, SEEDS, TASKS, Row, best, level

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return read_packed(find_study("sweep").packed("quick"))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_defaults_are_level_with_the_winners(method: str, records: list[Record]) -> None:
    assert {record.task for record in records} == set(TASKS)
    rows = rows_by_method(records)[method]
    assert [row.setting for row in rows] == settings_of(grid(method)), "every setting of the grid has records"
    assert {row.cells for row in rows} == {len(TASKS) * SEEDS}
    assert level(declared(method, rows), rows)


def test_most_defaults_are_the_winners_themselves(records: list[Record]) -> None:
    found = rows_by_method(records)
    others = [method for method, rows in found.items() if declared(method, rows) is not best(rows)]
    assert others == ["topk_sae", "transcoder", "topk_sae+anchored", "kmeans", "pca"]


def test_a_default_is_level_within_the_tolerances_only() -> None:
    def row(headline: float, f1: float) -> Row:
        return Row({}, {"headline": headline, "f1": f1}, 1)

    winner = row(0.99, 0.9)
    assert level(winner, [winner])
    for other, expected in ((row(0.985, 0.8985), True), (row(0.985, 0.897), False), (row(0.97, 0.95), False)):
        assert level(other, [winner, other]) == expected


def test_a_default_outside_of_the_grid_is_named() -> None:
    with pytest.raises(LrbenchError, match="topk_sae: its default is not in the grid"):
        declared("topk_sae", [Row({"lr": 1.0}, {}, 1)])


def test_every_method_that_learns_is_swept_with_as_many_settings() -> None:
    learning = {info.name for info in method_catalogue() if info.kind != "reference" and not info.twin}
    assert set(METHODS) == learning | {TWIN}
    for method in METHODS:
        settings = settings_of(grid(method))
        assert len({tuple(setting.items()) for setting in settings}) == len(settings) == SETTINGS, method
        assert all(load_method(method, **setting) for setting in settings)


def test_no_task_of_the_sweep_is_on_a_leaderboard() -> None:
    for suite in set(SUITES) - {"standard"}:  # which runs every level
        swept = {load_task(name, suite).hash for name in TASKS}
        shown = {load_task(info.name, suite).hash: info.name for info in select_tasks(suite)}
        assert len(swept) == len(TASKS)
        assert not [shown[each] for each in swept & set(shown)]


def test_the_page_is_what_the_committed_records_say(records: list[Record], tmp_path: Path) -> None:
    write(records, "quick", tmp_path / "sweep.md")
    assert (ROOT / "docs" / "sweep.md").read_text(encoding="utf-8") == (tmp_path / "sweep.md").read_text(
        encoding="utf-8"
    )


def test_a_row_is_over_the_cells_that_all_settings_have() -> None:
    def cell(weight: float, task: str, f1: float) -> Record:
        return Record(
            task=task, family="f", suite="quick", seed=1000, task_hash="t", world_hash="w", source_hash="s", pair="autoencoder",
            method=f"topk_sae[anchor_weight={weight}]+anchored", kind="sdl", status="ok", hyperparameters={"anchor_weight": weight},
            scores={name: f1 for name in METRICS}, provenance=provenance_of("cpu"),
            timing=Timing(seconds=1.0, finished="2026-01-01T00:00:00+00:00"),
        )  # fmt: skip

    weights = grid(TWIN)["anchor_weight"]
    shares = [place / 10 for place in range(len(weights))]
    records = [cell(float(w), task, f1) for w, f1 in zip(weights, shares, strict=True) for task in ("a", "b")]
    rows = rows_by_method([*records, cell(1.0, "c", 0.0)])["topk_sae+anchored"]
    assert [(row.scores["f1"], row.cells) for row in rows] == [(f1, 2) for f1 in shares]


def test_the_winner_detects_best_among_those_that_recover_as_well() -> None:
    rows = [
        Row({"lr": float(place)}, {"headline": headline, "f1": f1}, 1)
        for place, (headline, f1) in enumerate([(0.99, 0.8), (0.985, 0.9), (0.97, 0.95)])
    ]
    assert best(rows) is rows[1]


def test_validation_seeds_are_no_suites_seeds() -> None:
    assert max(suite.seeds for suite in SUITES.values()) <= FIRST_SEED
