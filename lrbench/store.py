"""A folder of records: one JSON file per (suite, task, method, seed), written atomically."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import secrets
import time
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import ValidationError

from lrbench.errors import LrbenchError
from lrbench.metric_table import METRICS
from lrbench.record import SCHEMA_VERSION, Key, Record

if TYPE_CHECKING:
    import pandas as pd

SET_ASIDE = ".set-aside"
STALE_SECONDS = 60.0
_FACTS = ["task", "family", "suite", "seed", "method", "pair", "kind", "status", "reason"]
_FACTS += ["task_hash", "world_hash", "source_hash", "task_source_hash", "hyperparameters", "study"]
_TIMING = ["seconds", "train_seconds", "samples_per_second", "peak_memory_mb", "finished"]


@dataclass(frozen=True)
class Problem:
    """A file that could not be used as a record: it stays where it is, and the reason is one line."""

    path: Path
    reason: str


class Store:
    """Records in a folder. The folder need not exist: the first write makes it.

    Raises
    ------
    LrbenchError
        When ``folder`` is a file.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise LrbenchError(f"{self.folder} is a file, but results need a folder: name another one")

    def path(self, suite: str, key: Key) -> Path:
        """Where the record of a cell lies: ``SUITE/TASK/METHOD.seedN.json``."""
        task, method, seed = key
        return self.folder.joinpath(*map(_safe, [suite, *task.split("/"), f"{method}.seed{seed}.json"]))

    def prepare(self) -> None:
        """Make the folder and prove that it can be written to, before hours of work depend on it.

        Raises
        ------
        LrbenchError
            When it cannot.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = self.folder / f".probe.json.{secrets.token_hex(4)}.tmp"
            probe.touch()
            probe.unlink()
            self._sweep()
        except OSError as error:
            raise LrbenchError(f"cannot write to the folder {self.folder}: {error.strerror}; name another") from None

    def write(self, record: Record) -> Path:
        """Store a record; a reader sees the old file or the new one, never half of one.

        A file in its place that is no readable record is renamed, never overwritten.

        Raises
        ------
        LrbenchError
            When the disk refuses.
        """
        path = self.path(record.suite, record.key)
        try:
            self._write(path, record)
        except OSError as error:
            raise LrbenchError(f"cannot write {path}: {error.strerror}") from error
        return path

    def _write(self, path: Path, record: Record) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        text = json.dumps(record.model_dump(mode="json"), indent=1, allow_nan=False)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        if path.exists() and isinstance(_read(path), Problem):
            os.replace(path, _free(path))
        os.replace(temporary, path)

    def put_aside(self, suite: str, key: Key) -> None:
        """Rename the record of a cell, so that another one can take its place and this one is not lost."""
        path = self.path(suite, key)
        os.replace(path, _free(path))

    def _sweep(self) -> None:
        """Remove what a killed run left half-written; another run's own files are younger."""
        for path in self.folder.rglob(".*.json.*.tmp"):
            with contextlib.suppress(FileNotFoundError):  # that other run has just put it in its place
                if time.time() - path.stat().st_mtime > STALE_SECONDS:
                    path.unlink()

    def read(self) -> tuple[list[Record], list[Problem]]:
        """All records, sorted by suite, task, method and seed, and the files that could not be used."""
        found: dict[tuple[str, Key], tuple[Path, Record]] = {}
        problems = []
        for path in sorted(self.folder.rglob("*.json")):
            result = _read(path)
            if isinstance(result, Problem):
                problems.append(result)
                continue
            cell = (result.suite, result.key)
            home = self.path(*cell)
            if cell in found and path != home:
                problems.append(Problem(path, f"a second record of the cell in {found[cell][0]}"))
                continue
            if cell in found:
                problems.append(Problem(found[cell][0], f"a second record of the cell in {path}"))
            found[cell] = (path, result)
        return [found[cell][1] for cell in sorted(found)], sorted(problems, key=lambda problem: problem.path)

    def find(self, suite: str, key: Key) -> Record | None:
        """The record of one cell, or None when there is none that can be read."""
        path = self.path(suite, key)
        result = _read(path) if path.exists() else None
        return result if isinstance(result, Record) else None


def write_packed(path: Path, records: Sequence[Record]) -> None:
    """Write records into one compressed file of JSON lines; the same records give the same bytes.

    Raises
    ------
    LrbenchError
        When the disk refuses.
    """
    lines = (json.dumps(_short(record), allow_nan=False) for record in records)
    text = "".join(f"{line}\n" for line in lines)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        temporary.write_bytes(gzip.compress(text.encode(), mtime=0))
        os.replace(temporary, path)
    except OSError as error:
        raise LrbenchError(f"cannot write {path}: {error.strerror}") from error


def _short(record: Record) -> dict[str, Any]:
    return {"schema_version": record.schema_version, **record.model_dump(mode="json", exclude_defaults=True)}


def read_packed(path: Path) -> list[Record]:
    """Return the records of a file from `write_packed`.

    Raises
    ------
    LrbenchError
        For a file that cannot be read, or a line that is no record.
    """
    try:
        lines = gzip.decompress(path.read_bytes()).decode("utf-8").splitlines()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise LrbenchError(
            f"{path}: is no readable file of records ({error}); take it from the repository again"
        ) from None
    records = []
    for number, line in enumerate(lines, start=1):
        found = _parsed(path, line.encode())
        if isinstance(found, Problem):
            raise LrbenchError(f"{path}, line {number}: {found.reason}; take the file from the repository again")
        records.append(found)
    return records


def load_records(folder: Path | str) -> pd.DataFrame:
    """Read a results folder into a frame: one row per record, every score a column.

    Columns: task, family, suite, seed, method, pair, kind, status, reason, task_hash, world_hash, source_hash,
    task_source_hash, hyperparameters (a dict), study, device, commit, the fields of ``Timing`` (seconds, megabytes), then one column of floats
    per score (NaN where it does not apply or the cell failed). Files that are no records are named in a warning.

    Raises
    ------
    LrbenchError
        When there is no such folder.

    Examples
    --------
    >>> frame = load_records("results")  # doctest: +SKIP
    >>> frame.groupby("method")["headline"].mean()  # doctest: +SKIP
    """
    import pandas as pd

    store = Store(folder)
    if not store.folder.is_dir():
        raise LrbenchError(f"there is no folder {store.folder}: `lrbench run --out {store.folder}` makes one")
    records, problems = store.read()
    for problem in problems:
        warnings.warn(f"set aside {problem.path}: {problem.reason}", stacklevel=2)
    names = sorted({*METRICS, *(name for record in records for name in record.scores)})
    rows = [
        {name: getattr(record, name) for name in _FACTS}
        | {"device": record.provenance.device, "commit": record.provenance.commit}
        | {name: getattr(record.timing, name) for name in _TIMING}
        for record in records
    ]
    frame: pd.DataFrame = pd.DataFrame(rows, columns=[*_FACTS, "device", "commit", *_TIMING])
    for name in names:
        frame[name] = pd.Series([record.scores.get(name) for record in records], dtype="float64")
    return frame


def _safe(part: str) -> str:
    """A file name for any string: readable for ordinary names, and never a step out of the folder."""
    name = quote(part, safe="+ []=,()")
    return name.replace(".", "%2E") if not name.strip(".") else name


def _free(path: Path) -> Path:
    """A name beside ``path`` that nothing has yet."""
    number = 1
    while (aside := path.with_name(f"{path.name}{SET_ASIDE}{number}")).exists():
        number += 1
    return aside


def _read(path: Path) -> Record | Problem:
    try:
        return _parsed(path, path.read_bytes())
    except OSError as error:
        return Problem(path, f"cannot be read: {error.strerror}")


def _parsed(path: Path, content: bytes) -> Record | Problem:
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        return Problem(path, "is not complete JSON: truncated or foreign")
    if not isinstance(data, dict) or not isinstance(data.get("schema_version"), int):
        return Problem(path, "is not an lrbench record: it has no schema version")
    version = data["schema_version"]
    if version > SCHEMA_VERSION:
        return Problem(path, f"was written by a newer lrbench: schema {version}, this one reads {SCHEMA_VERSION}")
    try:
        return Record.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "record"
        return Problem(path, f"is not a valid record: {where}: {first['msg']}")
