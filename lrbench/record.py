"""What one run leaves behind: a typed, versioned record without NaN."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import datetime
from functools import lru_cache
from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lrbench.errors import REASON_LENGTH, TRACEBACK_LENGTH, one_line
from lrbench.metric_table import HIGHEST, METRICS, range_faults
from lrbench.streaming.meter import Spent

SCHEMA_VERSION = 5
KINDS = ("sdl", "baseline", "reference")
CURVES = {"threshold", "recovery_dec", "recovery_enc"}
TEXT_LENGTH = 1000  # characters of any text but a reason and a traceback
LIST_LENGTH = 1000  # items of a list, and entries of a table
MOST_IN_GROUP = 1000  # cells that train in one program
SEEDS = 2**32  # NumPy's generator takes no larger seed
LARGEST_COST = 1e15  # seconds, samples per second or megabytes
DEEPEST = 20  # levels of a certificate
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}([.][0-9]{6})?[+]00:00")
WORD = re.compile(r"\w[\w.+-]*")

Status = Literal["ok", "failed", "skipped"]
Key = tuple[str, str, int]
JsonScalar = bool | int | float | str | None
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ParentRecall(_Frozen):
    """How often a parent's matched latent fires: with the parent alone, and with one of its children (both in 0..1)."""

    parent: int
    recall_alone: Share | None
    recall_with_child: Share | None


class Provenance(_Frozen):
    """Where a record comes from. Two runs of the same thing may differ here.

    ``engine`` is the path that training took (``LRBENCH_ENGINE``), ``isolation`` where the method's ``fit`` ran: ``"none"`` beside the world,
    ``"process"`` in one that never held it, ``"sandbox"`` in one that is walled in too. Both are empty in records of an older lrbench.
    ``group`` is how many cells trained in one program with this one, itself included.
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
    group: Annotated[int, Field(ge=1, le=MOST_IN_GROUP)] = 1


class Timing(_Frozen):
    """What a run cost: wall-clock seconds, resident memory in MB, and when it ended (ISO 8601, UTC).

    Where several cells trained in one program (`Provenance.group`) the seconds of it are shared out evenly; the memory is that of the
    process that held them all.
    """

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
    apart from public ones, see `lrbench.seeds.salt_hash`. ``spent`` is what the method took of its view; None where it did not run to its end,
    for a reference, and in records of an older lrbench.

    Building one raises ``pydantic.ValidationError`` for NaN, infinity, an unknown field, and all that a page, a terminal or a file
    name could not show: every text is printable and of bounded length, every score within its metric's range (a name that
    `METRICS` lacks is kept), no part of a name leads out of a folder, and the time is UTC.
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
    spent: Spent | None = None
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
    def _can_be_shown(self) -> Record:
        for fault in _faults(self):
            raise ValueError(fault)
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


def cell_id(key: Key) -> str:
    """Return how a cell is called in tables and test reports: ``superposition/1.30x[topk_sae-seed0]``."""
    task, method, seed = key
    return f"{task}[{method}-seed{seed}]"


def recordable(value: object) -> bool:
    """Whether a hyper-parameter can be written down.

    That is None, a truth value, an integer of 64 bits, a finite number, at most `TEXT_LENGTH` printable characters, or a list of
    at most `LIST_LENGTH` of them.
    """
    if isinstance(value, (list, tuple)):
        return len(value) <= LIST_LENGTH and all(map(_plain, value))
    return _plain(value)


def name_fault(kind: str, name: str) -> str | None:
    """Say why no record can have a name, or return None.

    Parameters
    ----------
    kind
        ``"task"``, whose parts stand between slashes, ``"suite"``, a word, or what else has one part: ``"method"``, ``"family"``.
        What stands in brackets may hold anything that prints.

    Examples
    --------
    >>> name_fault("task", "../x")
    "task='../x': expected a name without empty or dotted parts"
    >>> name_fault("task", "noise/0.3") is name_fault("method", "topk_sae[k=32]+anchored") is None
    True
    """
    return _name_fault(kind, name) if _printable([name]) else _unprintable(kind, name)


@lru_cache(maxsize=1024)  # the cells of a folder share their names
def _name_fault(kind: str, name: str) -> str | None:
    parts = re.split(r"[/\\]", name.partition("[")[0])
    if kind == "suite" and not WORD.fullmatch(name):
        expected = "letters, digits and _ . + -"
    elif kind != "task" and len(parts) > 1:
        expected = "a name without slashes"
    elif not all(part.strip(".") for part in parts):
        expected = "a name without empty or dotted parts"
    else:
        return None
    return f"{kind}={one_line(name, 80)!r}: expected {expected}"


def _printable(texts: Collection[str]) -> bool:
    joined = "".join(texts)
    return joined.isprintable() and (len(joined) <= TEXT_LENGTH or max(map(len, texts)) <= TEXT_LENGTH)


def _unprintable(place: str, text: str, longest: int = TEXT_LENGTH) -> str:
    return f"{place}={one_line(text, 80)!r}: expected at most {longest} printable characters"


def _plain(item: object) -> bool:
    if isinstance(item, int):
        return -(2**63) <= item < 2**63
    if isinstance(item, str):
        return _printable([item])
    return item is None or (isinstance(item, float) and isfinite(item))


def _faults(record: Record) -> Iterator[str]:
    """Say what is wrong with the values of a record whose types are right. Whoever reads a folder waits for this."""
    if record.reason is not None and len(record.reason) > REASON_LENGTH:
        yield _unprintable("reason", record.reason, REASON_LENGTH)
    texts = _texts(record)
    if not _printable(texts):
        odd = next(text for text in texts if not _printable([text]))
        fields = {**vars(record.timing), **vars(record.provenance), **vars(record)}
        yield _unprintable(next((name for name, value in fields.items() if value is odd), "a name or a value"), odd)
    if (record.status == "ok") != (record.reason is None):
        yield f"a record with status {record.status!r} cannot have the reason {record.reason!r:.80}"
    if record.traceback is not None:
        lines = record.traceback.replace("\n", " ").replace("\t", " ")
        if len(lines) > TRACEBACK_LENGTH or not lines.isprintable():
            yield _unprintable("traceback", lines, TRACEBACK_LENGTH)
    for kind in ("suite", "family", "task", "method"):
        fault = _name_fault(kind, getattr(record, kind))
        if fault is not None:
            yield fault
    if record.kind not in KINDS:
        yield f"kind={one_line(record.kind, 80)!r}: expected one of {', '.join(KINDS)}"
    if not 0 <= record.seed < SEEDS:
        yield f"seed={one_line(str(record.seed), 80)}: expected 0 to {SEEDS - 1}"
    commit = record.provenance.commit
    if commit is not None and not WORD.fullmatch(commit):  # a page shows it in a command
        yield f"commit={one_line(commit, 80)!r}: expected the name of a commit"
    yield from _timing_faults(record.timing)
    yield from _score_faults(record)
    yield from _table_faults(record)


def _texts(record: Record) -> list[str]:
    """Return all that is shown as it stands, but the traceback."""
    values: list[object] = [*vars(record.provenance).values(), *vars(record.timing).values()]
    values += {**vars(record), "traceback": None}.values()
    for table in (record.hyperparameters, record.world, record.provenance.packages):
        values += [*table, *table.values()]
    for study, measures in record.measures.items():
        values += [study, *measures.values]
    return [*record.scores, *(value for value in values if isinstance(value, str))]


def _timing_faults(timing: Timing) -> Iterator[str]:
    for name, value in vars(timing).items():
        if isinstance(value, float) and not 0.0 <= value <= LARGEST_COST:
            yield f"{name}={value:g}: expected 0 to {LARGEST_COST:g}"
    try:
        known = TIME.fullmatch(timing.finished) and datetime.fromisoformat(timing.finished)
    except ValueError:
        known = None
    if not known:
        yield f"finished={one_line(timing.finished, 80)!r}: expected a time in UTC such as 2025-01-31T12:00:00+00:00"


def _score_faults(record: Record) -> Iterator[str]:
    yield from range_faults(record.scores)
    if not record.scores.keys() <= METRICS.keys():
        for name in record.scores.keys() - METRICS.keys():
            if name in _TAKEN or not WORD.fullmatch(name):
                yield f"scores: {one_line(name, 80)!r} cannot be the name of a score"
    curves = record.curves
    if curves and curves.keys() != CURVES:
        yield f"curves: expected {', '.join(sorted(CURVES))}, got {one_line(', '.join(curves), 80)!r}"
    for values in curves.values():
        if not 0 < len(values) == len(curves["threshold"]) <= LIST_LENGTH:
            yield f"curves: expected one length of at most {LIST_LENGTH} points, got {len(values)}"
        elif min(values) < 0.0 or max(values) > 1.0:
            yield f"curves: expected 0 to 1, got {min(values):g} to {max(values):g}"
    for measures in record.measures.values():
        for name, value in measures.values.items():
            if value is not None and not -HIGHEST <= value <= HIGHEST:
                yield f"measures: {name}={value:g}: expected {-HIGHEST:g} to {HIGHEST:g}"


def _table_faults(record: Record) -> Iterator[str]:
    most = max(len(record.hyperparameters), len(record.world), len(record.scores), len(record.measures))
    if most > LIST_LENGTH:
        yield f"{most} hyper-parameters, facts of the world, scores or measures: expected at most {LIST_LENGTH}"
    for value in (*record.hyperparameters.values(), *record.world.values()):
        if isinstance(value, (int, list)) and not recordable(value):  # the others have been looked at
            yield f"hyperparameters or world: expected integers of 64 bits, and lists of at most {LIST_LENGTH} values"
    if "task" in record.world:
        yield "world: 'task' cannot be the name of a fact"
    if record.certificate is not None and not _shallow(record.certificate, DEEPEST):
        yield f"certificate: expected finite numbers and printable texts, at most {DEEPEST} levels deep"


def _shallow(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        return levels > 0 and _printable(value.keys()) and all(_shallow(item, levels - 1) for item in value.values())
    if isinstance(value, (list, tuple)):
        return levels > 0 and all(_shallow(item, levels - 1) for item in value)
    return _plain(value)


_TAKEN = {"commit", "device", *Record.model_fields, *Timing.model_fields}  # columns of `lrbench.load_records`
