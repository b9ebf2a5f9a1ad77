from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from lrbench.record import SCHEMA_VERSION, Provenance, Record, Timing, cell_id


def make(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "task": "superposition/1.30x",
        "family": "superposition",
        "suite": "smoke",
        "seed": 0,
        "task_hash": "t",
        "world_hash": "w",
        "method": "topk_sae",
        "pair": "autoencoder",
        "kind": "sdl",
        "source_hash": "s",
        "status": "ok",
        "provenance": Provenance(
            lrbench="0", python="3", platform="p", packages={}, commit=None, dirty=None, device="cpu"
        ),
        "timing": Timing(seconds=1.0, finished="2024-01-01T00:00:00+00:00"),
    }
    return Record(**fields | changes)


def test_a_record_survives_json_exactly() -> None:
    record = make(
        scores={"f1": 0.1 + 0.2, "absorption": None},
        hyperparameters={"k": 3, "lr": 1.0, "tied": True, "name": "x", "none": None, "list": (1, 0.5)},
        curves={"threshold": [0.0, 1e-300]},
        parents=[{"parent": 1, "recall_alone": 0.5, "recall_with_child": None}],
        world={"extreme_sparsity": False, "dim": 96},
    )
    again = Record.model_validate_json(record.model_dump_json())
    assert again.content() == record.content()
    assert [type(value) for value in again.hyperparameters.values()] == [int, float, bool, str, type(None), list]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "place",
    [lambda x: {"scores": {"f1": x}}, lambda x: {"curves": {"t": [x]}}, lambda x: {"hyperparameters": {"lr": x}}],
)
def test_no_nan_enters_a_record(bad: float, place: Any) -> None:
    with pytest.raises(ValidationError, match="finite"):
        make(**place(bad))


def test_unknown_fields_other_versions_and_changes_are_refused() -> None:
    with pytest.raises(ValidationError, match="colour"):
        make(colour="red")
    with pytest.raises(ValidationError, match="schema_version"):
        make(schema_version=SCHEMA_VERSION + 1)
    with pytest.raises(ValidationError, match="frozen"):
        make().seed = 3


@pytest.mark.parametrize("changes", [{"status": "failed"}, {"reason": "why"}, {"status": "failed", "reason": "a\nb"}])
def test_a_one_line_reason_stands_exactly_when_not_ok(changes: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="reason"):
        make(**changes)
    assert make(status="failed", reason="boom").reason == "boom"


def test_content_ignores_time_and_place_only() -> None:
    moved = make(timing=Timing(seconds=9.0, finished="2025-01-01T00:00:00+00:00"))
    assert moved.content() == make().content()
    assert make(scores={"f1": 0.5}).content() != make(scores={"f1": 0.6}).content()
    assert "timing" not in make().content()


def test_names_of_a_cell() -> None:
    assert make().key == ("superposition/1.30x", "topk_sae", 0)
    assert make().id == cell_id(make().key) == "superposition/1.30x[topk_sae-seed0]"
