"""The default hyper-parameters are the sweep's winners, and its page is what the committed records say."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrbench.catalogue.methods import load_method, method_catalogue
from lrbench.catalogue.studies import find_study
from lrbench.record import Record
from lrbench.store import read_packed
from lrbench.studies.sweep import FIRST_SEED, GRIDS, Row, best, rows_of, settings_of, write
from lrbench.task import SUITES

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return read_packed(find_study("sweep").packed("quick"))


@pytest.mark.parametrize("method", sorted(GRIDS))
def test_defaults_are_the_winners(method: str, records: list[Record]) -> None:
    rows = rows_of(records)[method]
    assert [row.setting for row in rows] == settings_of(method), "every setting of the grid has records"
    assert len({row.cells for row in rows}) == 1
    declared = load_method(method).hyperparameters()
    winner = best(rows).setting
    assert {name: declared[name] for name in winner} == winner


def test_every_trained_method_was_swept() -> None:
    trained = {info.name.split("+")[0] for info in method_catalogue() if info.twin}
    assert trained <= set(GRIDS)


def test_the_page_is_what_the_committed_records_say(records: list[Record], tmp_path: Path) -> None:
    write(records, "quick", tmp_path / "sweep.md")
    assert (ROOT / "docs" / "sweep.md").read_text() == (tmp_path / "sweep.md").read_text()


def test_the_winner_detects_best_among_those_that_recover_as_well() -> None:
    rows = [
        Row({"lr": float(place)}, {"headline": headline, "f1": f1}, 1)
        for place, (headline, f1) in enumerate([(0.99, 0.8), (0.985, 0.9), (0.97, 0.95)])
    ]
    assert best(rows) is rows[1]


def test_validation_seeds_are_no_suites_seeds() -> None:
    assert max(suite.seeds for suite in SUITES.values()) <= FIRST_SEED
