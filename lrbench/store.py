"""A folder of records: one JSON file per (suite, task, method, seed), written atomically."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import lzma
import os
import secrets
import time
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from lrbench.errors import LrbenchError, one_line
from lrbench.foreign import LARGEST, content_of, dated, files_below, parsed, read_record, replace_file
from lrbench.foreign import Problem as Problem
from lrbench.metric_table import METRICS
from lrbench.record import Key, Record

if TYPE_CHECKING:
    import pandas as pd

SET_ASIDE = ".set-aside"
HALF_WRITTEN = (".*.json.*.tmp", ".*.checkpoint.*.tmp", ".*.log.csv.*.tmp")
STALE_SECONDS = 60.0
LARGEST_PACKED = 200_000_000  # bytes of a packed file, compressed or not
XZ = b"\xfd7zXZ\0"  # what such a file begins with; any other is taken for one of gzip
XZ_MEMORY = (
    150_000_000  # bytes that unpacking may ask for: a file says itself how much it needs, the highest preset 65 MB
)
LONGEST_NAME = 200  # bytes: a file system takes 255, and what is half-written or set aside has a longer name
AGAIN = "take the file from the repository again"
FILES_NAMED = 5  # of those set aside, in a terminal
_FACTS = ["task", "family", "suite", "seed", "method", "pair", "kind", "status", "reason"]
_FACTS += ["task_hash", "world_hash", "source_hash", "task_source_hash", "hyperparameters", "study"]
_TIMING = ["seconds", "train_seconds", "samples_per_second", "peak_memory_mb", "finished"]


def lines_of(problems: Sequence[Problem], where: str) -> list[str]:
    """Return a line for each of the first `FILES_NAMED` problems, and one that counts the others and says where they are named.

    Examples
    --------
    >>> lines_of([Problem(Path("results/x.json"), "is a folder, not a file")], "")
    ['set aside results/x.json: is a folder, not a file']
    """
    more = len(problems) - FILES_NAMED
    return [*map(str, problems[:FILES_NAMED]), *([f"and {more} more files{where}"] if more > 0 else [])]


class Store:
    """Records in a folder. The folder need not exist: the first write makes it.

    Raises
    ------
    LrbenchError
        When ``folder`` is a file.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        if os.path.exists(self.folder) and not self.folder.is_dir():
            raise LrbenchError(f"{self.folder} is a file, but results need a folder: name another one")

    def path(self, suite: str, key: Key) -> Path:
        """Where the record of a cell lies: ``SUITE/TASK/METHOD.seedN.json``. A long name is cut and ends in its hash."""
        task, method, seed = key
        return self.folder.joinpath(
            *map(_safe, [suite, *task.split("/")]), f"{_safe(method, whole=False)}.seed{seed}.json"
        )

    def checkpoint(self, suite: str, key: Key) -> Path:
        """Where the checkpoint of a cell lies while it trains: beside its record to be."""
        return self.path(suite, key).with_suffix(".checkpoint")

    def log(self, suite: str, key: Key) -> Path:
        """Where the training log of a cell lies: beside its record."""
        return self.path(suite, key).with_suffix(".log.csv")

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

        A file in its place that is no record of the cell is renamed, never overwritten.

        Raises
        ------
        LrbenchError
            When the disk refuses, when a folder on the way is a link, or when the record could not be read again; nothing
            has changed then.
        """
        path = self.path(record.suite, record.key)
        try:
            text = json.dumps(record.model_dump(mode="json"), indent=1, allow_nan=False)
        except (ValueError, RecursionError) as error:
            raise LrbenchError(f"cannot write {path}: {one_line(f'{record.id} is no record: {error}')}") from None
        unread = parsed(path, text.encode())
        if isinstance(unread, Problem):
            raise LrbenchError(f"cannot write {path}: it {unread.reason}")
        self._refuse_links(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(path) and self.find(record.suite, record.key) is None:
                os.replace(path, _free(path))
            replace_file(path, f"{text}\n".encode())
        except OSError as error:
            raise LrbenchError(f"cannot write {path}: {error.strerror}") from error
        return path

    def write_beside(self, path: Path, content: bytes) -> None:
        """Store the file of `checkpoint` or `log`, as `write` does a record.

        Raises
        ------
        LrbenchError
            When the disk refuses, or when a folder on the way is a link.
        """
        self._refuse_links(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, content)
        except OSError as error:
            raise LrbenchError(f"cannot write {path}: {error.strerror}") from error

    def remove_beside(self, path: Path) -> None:
        """Remove the file of `checkpoint` or `log`, if there is one.

        Raises
        ------
        LrbenchError
            When the disk refuses, or when a folder stands there.
        """
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise LrbenchError(f"cannot remove {path}: {error.strerror}") from error

    def _refuse_links(self, path: Path) -> None:
        for folder in path.relative_to(self.folder).parents[:-1]:
            if (self.folder / folder).is_symlink():
                raise LrbenchError(
                    f"cannot write {path}: {self.folder / folder} is a link, which is not followed; remove it"
                )

    def put_aside(self, suite: str, key: Key) -> None:
        """Rename the record of a cell, so that another one can take its place and this one is not lost."""
        path = self.path(suite, key)
        os.replace(path, _free(path))

    def _sweep(self) -> None:
        """Remove what a killed run left half-written; another run's own files are younger."""
        for path in files_below(self.folder, ".tmp"):
            if isinstance(path, Path) and any(map(path.match, HALF_WRITTEN)):
                with contextlib.suppress(FileNotFoundError):  # that other run has just put it in its place
                    if time.time() - path.lstat().st_mtime > STALE_SECONDS:
                        path.unlink()

    def read(self) -> tuple[list[Record], list[Problem]]:
        """All records, sorted by suite, task, method and seed, and the files that could not be used.

        Whatever lies in the folder, this ends and raises nothing. Pipes and devices are not opened, links to folders are not
        followed, and a file of more than `LARGEST` bytes or `MOST_COMMAS` entries is not parsed.
        """
        found: dict[tuple[str, Key], list[tuple[Path, Record]]] = {}
        problems = []
        for file in files_below(self.folder, ".json"):
            if isinstance(file, Problem):
                problems.append(file)
                continue
            result = read_record(file)
            if isinstance(result, Problem):
                problems.append(result)
            else:
                found.setdefault((result.suite, result.key), []).append((file, result))
        records = []
        for cell in sorted(found):
            own = found[cell]
            if len(own) > 1:  # the one in its place counts
                own.sort(key=lambda pair: (pair[0] != self.path(pair[1].suite, pair[1].key), pair[0]))
            first, *others = own
            records.append(first[1])
            problems += [Problem(path, f"a second record of the cell in {first[0]}") for path, _ in others]
        return records, sorted(problems, key=lambda problem: problem.path)

    def find(self, suite: str, key: Key) -> Record | None:
        """The record of one cell, or None when there is none that can be read."""
        result = read_record(self.path(suite, key))
        return result if isinstance(result, Record) and (result.suite, result.key) == (suite, key) else None


def write_packed(path: Path, records: Sequence[Record]) -> None:
    """Write records into one compressed file of JSON lines; the same records give the same bytes.

    Parameters
    ----------
    path
        ``FILE.jsonl.xz``, or ``FILE.jsonl.gz`` for what is packed and read faster and half as large again.
    records
        In the order of the lines.

    Raises
    ------
    LrbenchError
        When the name ends in neither, or the disk refuses.
    """
    if path.suffix not in (".xz", ".gz"):
        raise LrbenchError(f"{path}: expected the name of a packed file, FILE.jsonl.xz or FILE.jsonl.gz")
    lines = (json.dumps(_short(record), allow_nan=False) for record in records)
    text = "".join(f"{line}\n" for line in lines).encode()
    content = lzma.compress(text, preset=9) if path.suffix == ".xz" else gzip.compress(text, mtime=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        raise LrbenchError(f"cannot write {path}: {error.strerror}") from error


def _short(record: Record) -> dict[str, Any]:
    return {"schema_version": record.schema_version, **record.model_dump(mode="json", exclude_defaults=True)}


def read_packed(path: Path) -> list[Record]:
    """Return the records of a file from `write_packed`, which is taken as a whole or not at all.

    Raises
    ------
    LrbenchError
        For a file that cannot be read or holds more than `LARGEST_PACKED` bytes, a line that is no record, or two records of a cell.
    """
    content = content_of(path, LARGEST_PACKED)
    if isinstance(content, Problem):
        raise LrbenchError(f"{path}: is no readable file of records: it {content.reason}; {AGAIN}")
    records: dict[tuple[str, Key], Record] = {}
    lines = io.BytesIO(_unpacked(path, content))
    while line := lines.readline(LARGEST + 1):
        found = dated(path, parsed(path, line))
        if isinstance(found, Record) and (found.suite, found.key) in records:
            found = Problem(path, f"is a second record of {found.id} in the suite {found.suite}")
        if isinstance(found, Problem):
            raise LrbenchError(f"{path}, line {len(records) + 1}: {found.reason}; {AGAIN}")
        records[found.suite, found.key] = found
    return [*records.values()]


def _unpacked(path: Path, content: bytes) -> bytes:
    """Return what a compressed file holds; a bomb is let grow to `LARGEST_PACKED` bytes."""
    is_xz = content.startswith(XZ)
    reader = lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY) if is_xz else zlib.decompressobj(wbits=31)
    try:
        text = reader.decompress(content, LARGEST_PACKED + 1)
    except (lzma.LZMAError, zlib.error) as error:
        raise LrbenchError(f"{path}: is no readable file of records ({error}); {AGAIN}") from None
    if len(text) > LARGEST_PACKED:
        raise LrbenchError(f"{path}: holds more than {LARGEST_PACKED} bytes of records; {AGAIN}")
    if not reader.eof or reader.unused_data:
        what = "something behind its end" if reader.eof else "no end: it is truncated"
        raise LrbenchError(f"{path}: is no readable file of records (it has {what}); {AGAIN}")
    return text


def read_results(place: Path) -> tuple[list[Record], list[Problem]]:
    """Return the records of a results folder, or of a packed file, and the files that are none.

    Raises
    ------
    LrbenchError
        When the place is neither.
    """
    if os.path.exists(place) and not place.is_dir():
        return read_packed(place), []
    return Store(place).read()


def load_records(folder: Path | str) -> pd.DataFrame:
    """Read a results folder, or a packed file of records, into a frame: one row per record, every score a column.

    Columns: task, family, suite, seed, method, pair, kind, status, reason, task_hash, world_hash, source_hash,
    task_source_hash, hyperparameters (a dict), study, device, commit, spent (the share of the budget, NaN where it is not known), the fields of
    ``Timing`` (seconds, megabytes), then one column of floats per score (NaN where it does not apply or the cell failed). Files that are no records are named in a warning.

    Raises
    ------
    LrbenchError
        When there is no such folder or file, or the file holds something else.

    Examples
    --------
    >>> frame = load_records("results")  # doctest: +SKIP
    >>> frame.groupby("method")["headline"].mean()  # doctest: +SKIP
    """
    import pandas as pd

    place = Path(folder)
    if not os.path.exists(place):
        raise LrbenchError(f"there is no folder {place}: `lrbench run --out {place}` makes one")
    records, problems = read_results(place)
    for line in lines_of(problems, f" of {len(problems)}, which `lrbench.store.Store.read` names"):
        warnings.warn(line, stacklevel=2)
    names = sorted({*METRICS, *(name for record in records for name in record.scores)})
    rows = [
        {name: getattr(record, name) for name in _FACTS}
        | {"device": record.provenance.device, "commit": record.provenance.commit}
        | {"spent": float("nan") if record.spent is None else record.spent.share}
        | {name: getattr(record.timing, name) for name in _TIMING}
        for record in records
    ]
    frame: pd.DataFrame = pd.DataFrame(rows, columns=[*_FACTS, "device", "commit", "spent", *_TIMING])
    scores = {name: pd.Series([record.scores.get(name) for record in records], dtype="float64") for name in names}
    whole: pd.DataFrame = pd.concat([frame, pd.DataFrame(scores)], axis=1)
    return whole


def _safe(part: str, whole: bool = True) -> str:
    """A file name for any string: readable for ordinary names, never too long, and never a step out of the folder."""
    name = quote(part, safe="+ []=,()", errors="surrogatepass")
    if whole and (not name.strip(".") or name.endswith(".json")):  # a folder that looks like a record is none
        name = name.replace(".", "%2E")
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 50]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return name


def _free(path: Path) -> Path:
    """A name beside ``path`` that nothing has yet."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}{SET_ASIDE}{number}")):
        number += 1
    return aside
