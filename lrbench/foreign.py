"""Files that may be anything, with record written on them: what reads one ends, raises nothing and says in one line what is odd."""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from lrbench.errors import one_line
from lrbench.record import SCHEMA_VERSION, Record

AHEAD = timedelta(days=1)  # how far a record's time may be ahead of this clock
LARGEST = 10_000_000  # bytes of a record, of which the largest have a few hundred thousand
MOST_COMMAS = 100_000  # in a record: they bound what reading it costs, whatever else the file holds
MOST_FAULTS = 1000  # that are looked at one by one
GAP = re.compile(rb'"\s+:')
PLAIN = {str, int, float, bool, type(None)}


@dataclass(frozen=True)
class Problem:
    """A file that could not be used as a record, or a folder that could not be read: it stays where it is.

    The reason is one printable line; so is ``str(problem)``, whatever the file is called.
    """

    path: Path
    reason: str

    def __post_init__(self) -> None:
        """Make the reason printable: it may quote the file."""
        object.__setattr__(self, "reason", one_line(self.reason))

    def __str__(self) -> str:
        return f"set aside {one_line(str(self.path))}: {self.reason}"

    def inside(self, folder: Path) -> tuple[str, str]:
        """Return the file's name in its folder and the reason, both as one printable line without the folder's own name."""
        return one_line(self.path.relative_to(folder).as_posix()), self.reason.replace(f"{folder}{os.sep}", "")


def files_below(folder: Path, ending: str) -> Iterator[Path | Problem]:
    """Yield every file below a folder whose name ends so, and as problems the folders and names that are not looked at."""
    folders = [str(folder)] if os.path.isdir(folder) else []
    while folders:
        here = folders.pop()
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    fits = entry.name.endswith(ending)
                    is_folder = entry.is_dir(follow_symlinks=False)
                    if (is_folder or fits) and not _encodes(entry.name):
                        yield Problem(Path(entry.path), "its name is no UTF-8")
                    elif entry.is_symlink() and os.path.isdir(entry.path):
                        yield Problem(Path(entry.path), "is a link to a folder, which is not followed")
                    elif is_folder and fits:
                        yield Problem(Path(entry.path), "is a folder, not a file")
                    elif is_folder:
                        folders.append(entry.path)
                    elif fits and _opens_oddly(entry):
                        yield Problem(Path(entry.path), "is no regular file")
                    elif fits:
                        yield Path(entry.path)
        except OSError as error:
            yield Problem(Path(here), f"cannot be read, nor what lies in it: {error.strerror}")


def _opens_oddly(entry: os.DirEntry[str]) -> bool:
    """Whether it is a device, a pipe or a socket, or a link to one: opening it may do something."""
    if entry.is_symlink():
        return os.path.exists(entry.path) and not os.path.isfile(entry.path)
    return not entry.is_file(follow_symlinks=False)


def _encodes(name: str) -> bool:
    return name.isascii() or os.fsencode(name).decode(errors="ignore") == name


def read_record(path: Path) -> Record | Problem:
    """Return the record that a file holds."""
    content = content_of(path, LARGEST)
    return content if isinstance(content, Problem) else dated(path, parsed(path, content))


def dated(path: Path, found: Record | Problem) -> Record | Problem:
    """Return what was found, or as a problem a record from the future: it would count as newer than all others."""
    if isinstance(found, Record):
        latest = datetime.now(timezone.utc) + AHEAD
        if found.timing.finished > latest.isoformat():  # both are in UTC, in one form
            return Problem(path, f"is dated {found.timing.finished}, more than a day ahead of this computer's clock")
    return found


def content_of(path: Path, largest: int) -> bytes | Problem:
    """Return what a regular file holds, without waiting for a pipe or reading from a device."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            facts = os.fstat(handle)
            if not stat.S_ISREG(facts.st_mode):
                return Problem(path, "is no regular file")
            if facts.st_size > largest:
                return Problem(path, f"is of {facts.st_size} bytes, more than {largest}")
            content = os.read(handle, facts.st_size)
            while len(content) < facts.st_size and (more := os.read(handle, facts.st_size - len(content))):
                content += more
            return content
        finally:
            os.close(handle)
    except OSError as error:
        return Problem(path, f"cannot be read: {error.strerror}")


def parsed(path: Path, content: bytes) -> Record | Problem:
    """Return the record that a text stands for; ``path`` is where it was found."""
    if len(content) > LARGEST or (len(content) > MOST_COMMAS and content.count(b",") > MOST_COMMAS):
        return Problem(path, f"is no record: more than {LARGEST} bytes or {MOST_COMMAS} entries")
    try:
        record = Record.model_validate_json(content)
        # as many names as were read, none written in another way: no name stands twice
        if content.count(b'":') == _names(record) and not GAP.search(content):
            return record
        found = _slowly_parsed(content)
    except ValidationError as error:  # what is wrong, the slow way says
        many = error.error_count()
        found = _slowly_parsed(content) if many <= MOST_FAULTS else f"is not a valid record: it has {many} faults"
    return found if isinstance(found, Record) else Problem(path, found)


def _names(value: object) -> int:
    """How many names a text holds that a value was read from; too few for a list of numbers with something else in it."""
    parts: Collection[object] = ()
    count = 0
    if isinstance(value, BaseModel):
        count, parts = len(value.model_fields_set), vars(value).values()
    elif isinstance(value, dict):
        count, parts = len(value), value.values()
    elif isinstance(value, list) and value and type(value[0]) is not float:
        parts = value
    for part in parts:
        if part and type(part) not in PLAIN:
            count += _names(part)
    return count


def _slowly_parsed(content: bytes) -> Record | str:
    try:
        data = _JSON.decode(content.decode("utf-8-sig"))
    except _OddError as error:
        return str(error)
    except (ValueError, RecursionError):
        return "is not complete JSON: truncated or foreign"
    if not isinstance(data, dict) or not isinstance(data.get("schema_version"), int):
        return "is not an lrbench record: it has no schema version"
    version = data["schema_version"]
    if version > SCHEMA_VERSION:
        return f"was written by a newer lrbench: schema {version}, this one reads {SCHEMA_VERSION}"
    try:
        return Record.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        return f"is not a valid record: {where}{': ' if where else ''}{first['msg'].removeprefix('Value error, ')}"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _OddError("holds one name twice")
    return found


def _number(literal: str) -> Any:
    raise _OddError(f"holds {literal}, expected finite numbers")


class _OddError(ValueError):
    """What Python's reader takes for JSON, but is none that could be trusted."""


_JSON = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_number)


def replace_file(path: Path, content: bytes) -> None:
    """Put a whole file in its place: a reader sees the old one or the new one; a link is replaced, never followed.

    Raises
    ------
    OSError
        When the disk refuses. Nothing half-written stays behind.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
