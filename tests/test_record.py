from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from lrbench.contract.faults import settings_fault
from lrbench.errors import describe
from lrbench.record import SCHEMA_VERSION, Provenance, Record, Timing, cell_id, recordable


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
        curves={"threshold": [0.0, 1e-300], "recovery_dec": [1.0, 0.1 + 0.2], "recovery_enc": [1.0, 0.0]},
        parents=[{"parent": 1, "recall_alone": 0.5, "recall_with_child": None}],
        world={"extreme_sparsity": False, "dim": 96},
    )
    again = Record.model_validate_json(record.model_dump_json())
    assert again.content() == record.content()
    assert [type(value) for value in again.hyperparameters.values()] == [int, float, bool, str, type(None), list]


def test_a_record_from_before_groups_was_trained_alone() -> None:
    assert make(schema_version=3).provenance.group == 1
    with pytest.raises(ValidationError, match="group"):
        Provenance(**vars(make().provenance) | {"group": 0})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "place",
    [
        lambda x: {"scores": {"f1": x}},
        lambda x: {"curves": {"threshold": [x]}},
        lambda x: {"hyperparameters": {"lr": x}},
    ],
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


LINES = {"threshold": [0.0, 0.5], "recovery_dec": [1.0, 0.5], "recovery_enc": [1.0, 0.5]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"suite": "../../x"}, "suite"), ({"suite": "a b"}, "suite"), ({"suite": ""}, "suite"),
        ({"task": "noise/../x"}, "dotted"), ({"task": "/etc/passwd"}, "empty"), ({"task": "a//b"}, "empty"),
        ({"task": "noise\\..\\x"}, "dotted"), ({"task": "noise/\x00"}, "printable"), ({"method": "../m"}, "slashes"),
        ({"method": ".."}, "dotted"), ({"method": "m" * 1001}, "printable"), ({"family": "a/b"}, "slashes"),
        ({"method": "\x1b[31mred"}, "method"), ({"method": "a\u202eb"}, "printable"), ({"pair": "a\nb"}, "pair"),
        ({"task_hash": "\udc80"}, "task_hash"), ({"kind": "best"}, "expected one of sdl, baseline, reference"),
        ({"seed": -1}, "seed"), ({"seed": 2**32}, "seed"), ({"seed": 10**400}, "seed"),
        ({"scores": {"f1": 1e308}}, "f1=1e\\+308: expected 0 to 1"), ({"scores": {"headline": -1e308}}, "headline"),
        ({"scores": {"fvu": 1e308}}, "fvu"), ({"scores": {"task": 1.0}}, "name of a score"),
        ({"scores": {"a score": 1.0}}, "name of a score"), ({"scores": {"mine": 1e200}}, "mine"),
        ({"curves": {"threshold": [0.5]}}, "curves"), ({"curves": LINES | {"other": [0.5, 0.5]}}, "curves"),
        ({"curves": LINES | {"recovery_dec": [0.5]}}, "one length"), ({"curves": LINES | {"recovery_dec": [2.0, 0.0]}}, "0 to 1"),
        ({"curves": dict.fromkeys(LINES, [0.5] * 1_000_000)}, "1000 points"), ({"curves": {name: [] for name in LINES}}, "points"),
        ({"hyperparameters": {"k": 2**63}}, "64 bits"), ({"hyperparameters": {"k": "x" * 1001}}, "printable"),
        ({"hyperparameters": {"k": [0] * 1001}}, "1000"), ({"hyperparameters": {"k": ["\x1b"]}}, "hyperparameters"),
        ({"hyperparameters": {str(i): i for i in range(1001)}}, "1000"), ({"world": {"task": 1}}, "fact"),
        ({"world": {"n\n": 1}}, "printable"), ({"certificate": {"a": math.nan}}, "certificate"),
        ({"certificate": {"a": {"\x00": 1}}}, "certificate"),
        ({"measures": {"s": {"source_hash": "h", "values": {"x": 1e200}}}}, "measures"),
        ({"status": "failed", "reason": "x" * 301}, "300 printable"), ({"status": "failed", "reason": "\u202e"}, "reason"),
        ({"status": "failed", "reason": "a\nb"}, "reason"),
        ({"status": "failed", "reason": "r", "traceback": "\x1b[31m"}, "traceback"),
        ({"status": "failed", "reason": "r", "traceback": "x" * 20_001}, "traceback"),
    ],
)  # fmt: skip
def test_what_nothing_could_show_is_no_record(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        make(**changes)


@pytest.mark.parametrize(
    "timing",
    [
        {"seconds": -1.0}, {"seconds": 1e16}, {"peak_memory_mb": -1.0}, {"finished": "yesterday"},
        {"finished": "2024-01-01T00:00:00"}, {"finished": "2024-01-01T00:00:00+02:00"}, {"finished": "2024-13-01T00:00:00+00:00"},
        {"finished": "٢024-01-01T00:00:00+00:00"},
    ],
)  # fmt: skip
def test_a_cost_is_a_number_and_a_time_is_utc(timing: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(timing))):
        make(timing=Timing(**{"seconds": 1.0, "finished": "2024-01-01T00:00:00+00:00"} | timing))


def test_what_is_unusual_but_can_be_shown_is_a_record() -> None:
    record = make(
        suite="later.suite-2",
        method="größe[path='../x',url='http://y']+anchored",
        task="noise[1|2]",
        scores={"of_a_later_version": -5.0, "headline": 1.0 + 1e-6, "fvu": 1e80},
        status="failed",
        reason="<script> | `x`",
        traceback="Traceback:\n\tline",
    )
    assert record.scores["of_a_later_version"] == -5.0


def test_a_hyper_parameter_that_no_record_holds_is_one_line() -> None:
    for value in (10**5000, 2**63, math.nan, "\udc80", "x" * 1001, [1] * 1001, [[1]], object()):
        assert not recordable(value)
        fault = settings_fault({"fine": 1, "k": value})
        assert fault is not None
        assert fault.startswith("k=")
        assert "cannot be recorded: expected a finite number" in fault
        assert fault.isprintable()
        assert len(fault) < 300
    for value in (2**63 - 1, -(2**63), 1e308, None, True, "x" * 1000, [1] * 1000, (1, "a")):
        assert recordable(value)
        assert settings_fault({"k": value}) is None


def test_an_exception_becomes_what_a_record_holds() -> None:
    for message in ("\udc80 \x1b[31m red \x00 \u202e", "x" * 10_000_000, "a\n" * 100_000, "\x00" * 30_000):
        reason, trace = describe(ValueError(message))
        record = make(status="failed", reason=reason, traceback=trace)
        assert len(str(record.traceback)) <= 20_000


def test_content_ignores_time_and_place_only() -> None:
    moved = make(timing=Timing(seconds=9.0, finished="2025-01-01T00:00:00+00:00"))
    assert moved.content() == make().content()
    assert make(scores={"f1": 0.5}).content() != make(scores={"f1": 0.6}).content()
    assert "timing" not in make().content()


def test_names_of_a_cell() -> None:
    assert make().key == ("superposition/1.30x", "topk_sae", 0)
    assert make().id == cell_id(make().key) == "superposition/1.30x[topk_sae-seed0]"
