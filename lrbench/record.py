"""What one run leaves behind: a typed, versioned record without NaN."""

from __future__ import annotations

from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION = 3

Status = Literal["ok", "failed", "skipped"]
Key = tuple[str, str, int]
JsonScalar = bool | int | float | str | None


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ParentRecall(_Frozen):
    """How often a parent's matched latent fires: with the parent alone, and with one of its children (both in 0..1)."""

    parent: int
    recall_alone: float | None
    recall_with_child: float | None


class Provenance(_Frozen):
    """Where a record comes from. Two runs of the same thing may differ here.

    ``engine`` is the path that training took (``LRBENCH_ENGINE``), ``isolation`` where the method's ``fit`` ran: ``"none"`` beside the world,
    ``"process"`` in one that never held it, ``"sandbox"`` in one that is walled in too. Both are empty in records of an older lrbench.
    """

    lrbench: str
    python: str
    platform: str
    packages: dict[str, str]
    commit: str | None
    dirty: bool | None
    device: str
    engine: str = ""
    isolation: str = ""


class Timing(_Frozen):
    """What a run cost: wall-clock seconds, resident memory in MB, and when it ended (ISO 8601, UTC)."""

    seconds: float
    train_seconds: float | None = None
    samples_per_second: float | None = None
    peak_memory_mb: float | None = None
    finished: str


class Measures(_Frozen):
    """What a study measured of a cell: numbers by name, None where one does not apply; the hash is of the code that measured."""

    source_hash: str
    values: dict[str, float | None]


class Record(_Frozen):
    """The result of one cell: one method on one task with one seed.

    ``scores`` holds None where a metric does not apply; ``reason`` is one line and stands exactly when the status is
    not ``"ok"``; ``traceback`` is the method's own;
    ``certificate`` is that of the theory where the run was asked for it. ``study`` names the study that alone asked for the cell, which
    then stands on no leaderboard; ``measures`` holds what studies saw of it, by their names. ``salt_hash`` tells worlds of a salt
    apart from public ones, see `lrbench.seeds.salt_hash`. Building one with NaN, infinity or an unknown field raises
    ``pydantic.ValidationError``.
    """

    schema_version: Annotated[int, Field(ge=1, le=SCHEMA_VERSION)] = SCHEMA_VERSION
    task: str
    family: str
    suite: str
    seed: int
    task_hash: str
    world_hash: str
    method: str
    pair: str
    kind: str
    source_hash: str
    task_source_hash: str = ""
    hyperparameters: dict[str, JsonScalar | list[JsonScalar]] = {}
    status: Status
    reason: str | None = None
    traceback: str | None = None
    scores: dict[str, float | None] = {}
    curves: dict[str, list[float]] = {}
    parents: list[ParentRecall] = []
    world: dict[str, JsonScalar] = {}
    certificate: dict[str, Any] | None = None
    study: str | None = None
    measures: dict[str, Measures] = {}
    salt_hash: str | None = None
    provenance: Provenance
    timing: Timing

    @model_validator(mode="after")
    def _reason_exactly_when_not_ok(self) -> Record:
        if (self.status == "ok") != (self.reason is None):
            raise ValueError(f"a record with status {self.status!r} cannot have the reason {self.reason!r}")
        if self.reason is not None and "\n" in self.reason:
            raise ValueError(f"a reason is one line, got {self.reason!r}")
        return self

    @property
    def key(self) -> Key:
        """The cell within its suite: (task, method, seed)."""
        return (self.task, self.method, self.seed)

    @property
    def id(self) -> str:
        """The cell for a person: ``task[method-seed0]``."""
        return cell_id(self.key)

    def content(self) -> dict[str, Any]:
        """All that must be equal between two runs of the same thing: everything but ``timing`` and ``provenance``."""
        return self.model_dump(mode="json", exclude={"timing", "provenance"})


def recordable(value: object) -> bool:
    """Whether a hyper-parameter can be written down: None, a truth value, a finite number, a string, or a list of them."""
    items = value if isinstance(value, (list, tuple)) else [value]
    return all(
        item is None or isinstance(item, (bool, int, str)) or (isinstance(item, float) and isfinite(item))
        for item in items
    )


def cell_id(key: Key) -> str:
    """Return how a cell is called in tables and test reports: ``superposition/1.30x[topk_sae-seed0]``."""
    task, method, seed = key
    return f"{task}[{method}-seed{seed}]"
