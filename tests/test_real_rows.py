"""The section `real` of a published board."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrbench.catalogue.studies import find_study
from lrbench.errors import LrbenchError
from lrbench.leaderboard import write_leaderboard
from lrbench.leaderboard.compile import compile_boards
from lrbench.leaderboard.real_rows import with_real_rows
from lrbench.record import Record
from lrbench.store import Store, read_packed

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def board() -> list[Record]:
    records = read_packed(ROOT / "leaderboard" / "board.jsonl.xz")
    return [record for record in records if record.task == "noise/4.0" and record.method in ("topk_sae", "random")]


def test_a_published_board_has_the_rows_of_the_study_as_a_suite_of_their_own(board: list[Record]) -> None:
    found = {own.suite: own for own in compile_boards(with_real_rows(board))}
    assert found.keys() == {"board", "real"}
    (alone,) = compile_boards(board)
    assert found["board"].standings.equals(alone.standings)  # nothing is averaged with it
    committed = read_packed(find_study("real").packed("real"))
    assert set(found["real"].standings["method"]) <= {record.method for record in committed}
    assert not any("[" in method for method in found["real"].standings["method"])
    assert not any(task.endswith("/random") for task in found["real"].tasks)


def test_no_other_page_has_them_and_ones_own_count_before_the_committed(board: list[Record]) -> None:
    quick = [record.model_copy(update={"suite": "quick"}) for record in board]
    assert with_real_rows(quick) == quick
    study = [r for r in read_packed(find_study("real").packed("real")) if r.method == "topk_sae"]
    run = [record.model_copy(update={"study": None}) for record in study]
    assert with_real_rows([*board, *run]) == [*board, *run]
    known = [record for record in with_real_rows([*board, *study]) if record.suite == "real" and record.study is None]
    assert {record.method for record in known} == {"topk_sae"}


def test_a_folder_of_real_records_in_another_suite_says_so(tmp_path: Path) -> None:
    record = read_packed(find_study("real").packed("real"))[0]
    Store(tmp_path).write(record.model_copy(update={"suite": "quick", "study": None}))
    with pytest.raises(LrbenchError, match="1 records are of real tasks outside the suite real, or of others inside"):
        write_leaderboard(tmp_path)
