"""Where the two sides of a comparison come from: a results folder, or a git revision that holds one."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from lrbench.errors import LrbenchError
from lrbench.record import Record
from lrbench.store import read_packed, read_results

DEFAULT_FOLDER = "results"
LINKS = {b"120000": "symbolic link", b"160000": "submodule"}  # by their mode in a git tree


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes
    ----------
    name
        What the person typed.
    records
        All records found.
    set_aside
        Files that are none: (name, why).
    missing
        Why there is no such side, empty when there is.
    """

    name: str
    records: tuple[Record, ...]
    set_aside: tuple[tuple[str, str], ...] = ()
    missing: str = ""


class NotThere(LrbenchError):
    """What was named is neither a folder nor a git revision that holds one."""


class _GitRefusesError(Exception):
    """Git said no; the message is its reason."""


def read_side(name: str) -> Side:
    """Read the records that a name stands for.

    Parameters
    ----------
    name
        A folder, or a file of records from ``lrbench pack``; or ``REV:PATH``, the folder or file PATH (from the repository's
        root) at a git revision, in the repository of the current folder; or ``REV``, which means ``REV:results``.

    Raises
    ------
    NotThere
        When there is neither such a folder nor such a revision.
    LrbenchError
        When the name is a file without records, or the revision holds a path that leads out of its folder.
    """
    if Path(name).exists():
        return _from_folder(name, Path(name))
    revision, colon, path = name.partition(":")
    path = path.strip("/") if colon else DEFAULT_FOLDER
    try:
        _git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
    except _GitRefusesError as error:
        raise NotThere(f"{name} is neither a results folder nor a git revision of this repository ({error})") from None
    if path and _kind_of(f"{revision}:{path}") == b"blob":
        return _packed_at(name, f"{revision}:{path}")
    try:
        listing = _git("ls-tree", "-r", "-z", "--end-of-options", f"{revision}:{path}")
    except _GitRefusesError:
        raise NotThere(f"the git revision {revision} holds no folder {path}: name another {revision}:FOLDER") from None
    with tempfile.TemporaryDirectory() as folder:
        links = _write_files(name, listing, Path(folder))
        side = _from_folder(name, Path(folder))
        return replace(side, set_aside=(*side.set_aside, *links))


def read_base(name: str) -> Side:
    """Like `read_side`, but a base that is not there is no error: a side without records that says why."""
    try:
        return read_side(name)
    except NotThere as error:
        return Side(name, (), missing=str(error))


def _from_folder(name: str, folder: Path) -> Side:
    records, problems = read_results(folder)
    return Side(name, tuple(records), tuple(problem.inside(folder) for problem in problems))


def _kind_of(place: str) -> bytes:
    """What git calls the thing at a revision's path, nothing where there is none."""
    try:
        return _git("cat-file", "-t", "--end-of-options", place).strip()
    except _GitRefusesError:
        return b""


def _packed_at(name: str, place: str) -> Side:
    """Read a packed file as it was committed."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "records"
        file.write_bytes(_git("cat-file", "blob", "--end-of-options", place))
        try:
            return Side(name, tuple(read_packed(file)))
        except LrbenchError as error:
            raise LrbenchError(str(error).replace(str(file), name)) from None


def _write_files(name: str, listing: bytes, folder: Path) -> list[tuple[str, str]]:
    """Write the JSON files of a ``git ls-tree -r -z`` as they were committed, without touching any working tree.

    Returns the links and submodules among them, which are not followed. A path that leads out of the folder is refused: git writes
    no such tree, but reads one.
    """
    files, aside = [], []
    for entry in listing.split(b"\0")[:-1]:
        facts, _, raw = entry.partition(b"\t")
        mode, _, blob = facts.split(b" ")
        path = os.fsdecode(raw)
        if not {"", ".", ".."}.isdisjoint(path.split("/")) or "\\" in path:
            raise LrbenchError(f"{name} holds an entry {path!r}, which leads out of its folder: nothing of it is read")
        if mode in LINKS:
            aside.append((path, f"is a {LINKS[mode]}, which is not followed"))
        elif path.endswith(".json"):
            files.append((blob, folder / path))
    contents = _git("cat-file", "--batch", given=b"".join(blob + b"\n" for blob, _ in files))
    at = 0
    for _, file in files:
        start = contents.index(b"\n", at) + 1  # behind the header "HASH blob SIZE"
        at = start + int(contents[at:start].split(b" ")[2])
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(contents[start:at])
        except OSError as error:
            where = file.relative_to(folder).as_posix()
            raise LrbenchError(f"{name} holds an entry {where!r} that cannot be unpacked: {error.strerror}") from None
        at += 1
    return aside


def _git(*arguments: str, given: bytes = b"") -> bytes:
    """What git says about the current folder's repository; raises `_GitRefusesError` with git's reason."""
    try:
        done = subprocess.run(["git", *arguments], input=given, capture_output=True, check=False)
    except FileNotFoundError:
        raise _GitRefusesError("git is not installed") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise _GitRefusesError(f"git: {lines[-1] if lines else done.returncode}")
    return done.stdout
