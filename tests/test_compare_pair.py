"""One record on each side: `lrbench compare` and pytest with a baseline give one verdict."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lrbench.leaderboard.compare import compare
from lrbench.plugin import CellItem, hold_against
from lrbench.record import Provenance, Record, Timing
from lrbench.store import Store


def record(status: str, task_hash: str = "one", kind: str = "sdl", **scores: float | None) -> Record:
    fields: dict[str, Any] = {
        "task": "a/x", "family": "a", "suite": "quick", "seed": 0, "task_hash": task_hash, "world_hash": "w",
        "method": "m", "pair": "autoencoder", "kind": kind, "source_hash": "one",
        "status": status, "reason": None if status == "ok" else "ValueError: no",
        "scores": {"headline": 0.8, "f1": 0.7, "fvu": 0.2, **scores} if status == "ok" else {},
        "provenance": Provenance(lrbench="0", python="3", platform="p", packages={}, commit=None, dirty=None, device="cpu"),
        "timing": Timing(seconds=1.0, finished="2025-01-01T00:00:00+00:00"),
    }  # fmt: skip
    return Record(**fields)


BAD = {"headline": 0.7}
NONE: dict[str, Any] = {"headline": None, "f1": None}
ONE_PAIR = [  # base, head, the task's hash is the same, head's scores, what compare says, what pytest does
    ("ok", "ok", True, {}, "no regression", "passes"),
    ("ok", "ok", True, {"headline": 0.781}, "no regression", "passes"),
    ("ok", "ok", True, {"headline": 0.76}, "cannot tell", "skips"),
    ("ok", "ok", True, BAD, "regression", "fails"),
    ("ok", "ok", True, {"headline": 0.0}, "regression", "fails"),
    ("ok", "ok", True, {"f1": 0.6}, "regression", "fails"),
    ("ok", "ok", True, {"fvu": 0.9}, "regression", "fails"),
    ("ok", "ok", True, {"fvu": 0.25}, "no regression", "passes"),
    ("ok", "ok", True, {"headline": None}, "no regression", "passes"),
    ("ok", "ok", True, NONE, "nothing measured", "skips"),
    ("ok", "failed", True, {}, "regression", "fails"),
    ("ok", "skipped", True, {}, "regression", "fails"),
    ("failed", "ok", True, {}, "not comparable", "skips"),
    ("failed", "failed", True, {}, "nothing measured", "fails"),
    ("failed", "skipped", True, {}, "nothing measured", "skips"),
    ("skipped", "ok", True, BAD, "not comparable", "skips"),
    ("skipped", "failed", True, {}, "regression", "fails"),
    ("skipped", "skipped", True, {}, "nothing measured", "skips"),
    *[(base, "ok", False, BAD, "not comparable", "skips") for base in ("ok", "failed", "skipped", None)],
    *[(base, "failed", False, {}, "nothing measured", "fails") for base in ("ok", "failed", "skipped", None)],
    *[(base, "skipped", False, {}, "nothing measured", "skips") for base in ("ok", "failed", "skipped", None)],
]


@pytest.mark.parametrize(("base", "head", "same", "scores", "verdict", "outcome"), ONE_PAIR)
def test_compare_and_pytest_agree_on_one_pair_of_records(
    base: str | None, head: str, same: bool, scores: dict[str, Any], verdict: str, outcome: str, tmp_path: Path
) -> None:
    before = [] if base is None else [record(base)]
    after = record(head, "one" if same else "other", **scores)
    assert compare(before, [after]).verdict == verdict
    for old in before:
        Store(tmp_path).write(old)
    bench = SimpleNamespace(record=lambda cell: (after, False), baseline=Store(tmp_path))
    item: Any = SimpleNamespace(cell=after, bench=bench, _note=lambda **facts: None)
    try:
        CellItem.runtest(item)
        found = "passes"
    except pytest.fail.Exception:
        found = "fails"
    except pytest.skip.Exception:
        found = "skips"
    assert found == outcome


def test_a_cell_that_may_be_noise_is_skipped_with_the_reason(tmp_path: Path) -> None:
    Store(tmp_path).write(record("ok"))
    with pytest.raises(
        pytest.skip.Exception, match=r"^cannot tell: headline -0\.040, noise up to 0\.053: run more seeds"
    ):
        hold_against(Store(tmp_path), record("ok", headline=0.76))


def test_a_reference_that_moved_fails_no_test_either(tmp_path: Path) -> None:
    before, after = (record("ok", kind="reference", headline=value) for value in (1.0, 0.9))
    Store(tmp_path).write(before)
    hold_against(Store(tmp_path), after)
    assert compare([before], [after]).verdict == "no regression"
