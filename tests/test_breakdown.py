"""The board's one number from the ladder: whose it is, at which scale, and when it is not there."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from lrbench.ladder.axes import AXES, Axis
from lrbench.leaderboard import breakdown, write_leaderboard
from lrbench.leaderboard.breakdown import breakdowns, with_committed_ladder
from lrbench.leaderboard.compile import compile_boards
from lrbench.leaderboard.standing_tables import standing_tables
from lrbench.pages.markdown import rows_of
from lrbench.record import Provenance, Record, Timing
from lrbench.store import Store, write_packed

NOISE = next(axis for axis in AXES if axis.name == "noise")
LAST = len(NOISE.levels) - 1


def record(method: str, task: str, suite: str = "quick", source: str = "one", seed: int = 0, **scores: float) -> Record:
    return Record(
        task=task, family=task.split("/")[0].split("[")[0], suite=suite, seed=seed, task_hash=task, world_hash=f"{task} {seed}",
        method=method, pair="autoencoder", kind="sdl", source_hash=source, status="ok", scores=scores,
        study="ladder" if task.startswith("ladder") else None,
        provenance=Provenance(lrbench="0", python="3", platform="x", packages={}, commit=None, dirty=None, device="cpu"),
        timing=Timing(seconds=1.0, finished="2025-01-01T00:00:00+00:00"),
    )  # fmt: skip


def climb(method: str, rung: int, axis: Axis = NOISE, **how: str) -> list[Record]:
    """A method that finds everything up to a rung, and nothing beyond."""
    return [record(method, axis.task(place), found=float(place <= rung), **how) for place in range(len(axis.levels))]


def cells(suite: str, **sources: str) -> list[Record]:
    return [record(m, "a/1", suite, source, seed, headline=0.5) for m, source in sources.items() for seed in (0, 1, 2)]


LADDER = climb("topk_sae", 9) + climb("ksvd", 4) + climb("oracle", LAST)


def test_the_number_is_relative_to_the_best_method() -> None:
    found = breakdowns("board", cells("board", topk_sae="one", ksvd="one", ica="one") + LADDER)
    behind = sum(NOISE.hardnesses[4:6]) / 2 - sum(NOISE.hardnesses[9:11]) / 2
    assert found == {"topk_sae": 1.0, "ksvd": pytest.approx(math.exp(behind))}


def test_other_scales_and_other_sources_have_none() -> None:
    assert breakdowns("smoke", cells("smoke", topk_sae="one") + LADDER) == {}
    found = breakdowns("quick", cells("quick", topk_sae="two", ksvd="one") + LADDER)
    assert [*found] == ["ksvd"]
    assert found["ksvd"] < 0.7, "relative to the best of the ladder all the same"


def test_the_column_stands_in_the_table() -> None:
    (board,) = compile_boards(cells("board", topk_sae="one", ksvd="one", ica="one") + LADDER)
    heads, *rows = rows_of(standing_tables(board))
    place = heads.index("breakdown ↑")
    shown = {row[heads.index("method")].strip("`"): row[place] for row in rows}
    assert shown == {
        "topk_sae": "**1.00**",
        "ksvd": f"{board.standings.set_index('method')['breakdown']['ksvd']:.2f}",
        "ica": "–",
    }
    (without,) = compile_boards(cells("board", topk_sae="one", ksvd="one"))
    assert "breakdown" not in standing_tables(without)


def test_own_records_go_before_the_committed_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Info:
        packed: Callable[[str], Path] = staticmethod(lambda suite: tmp_path / f"{suite}.jsonl.gz")

    monkeypatch.setattr(breakdown, "find_study", lambda name: Info)
    write_packed(tmp_path / "quick.jsonl.gz", LADDER)
    mine = cells("board", topk_sae="one")
    assert len(with_committed_ladder(mine)) == len(mine) + len(LADDER)
    own = mine + climb("topk_sae", 2)
    assert with_committed_ladder(own) == own
    assert with_committed_ladder(cells("smoke", topk_sae="one")) == cells("smoke", topk_sae="one")
    for each in mine:
        Store(tmp_path / "results").write(each)
    page = write_leaderboard(tmp_path / "results").page.read_text(encoding="utf-8")
    assert "`breakdown`: worlds are made harder" in page
    assert "of studies" not in page, "what is committed elsewhere is none of the folder's records"
