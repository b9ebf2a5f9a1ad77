"""The board: the suite behind the published page, the packed file of its records, and the page against that file."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import lrbench
from lrbench.catalogue.methods import method_catalogue, methods_for
from lrbench.catalogue.tasks import families, select_tasks
from lrbench.cli import main
from lrbench.errors import LrbenchError
from lrbench.leaderboard import write_leaderboard
from lrbench.record import Record
from lrbench.running.cell import run_cell
from lrbench.running.runner import plan
from lrbench.store import LARGEST_PACKED, Store, read_packed, write_packed
from lrbench.task import SUITES

ROOT = Path(__file__).parent.parent
RECORDS, PAGE = ROOT / "leaderboard" / "board.jsonl.xz", ROOT / "leaderboard" / "LEADERBOARD.md"
MOST_BYTES = 5_000_000  # of a file that every clone holds


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "results"
    for cell in plan("smoke", ["absorption/even", "wrong_l0/half"], ["random", "truth", "pca"]):
        Store(folder).write(run_cell(cell))
    return folder


@pytest.fixture
def record(folder: Path) -> Record:
    return Store(folder).read()[0][0]


def test_the_committed_page_is_made_of_the_committed_records(tmp_path: Path) -> None:
    """`make board`, byte for byte. The figures are an SVG writer's, whose bytes depend on its version: they only have to be there."""
    page = write_leaderboard(RECORDS, tmp_path / "LEADERBOARD.md").page
    assert page.read_bytes() == PAGE.read_bytes(), "run `make board` and commit what it wrote"
    figures = sorted(file.name for file in (tmp_path / "figures").iterdir())
    assert figures == sorted(file.name for file in (PAGE.parent / "figures").iterdir())


def test_the_committed_records_are_of_the_board_and_small() -> None:
    assert {record.suite for record in read_packed(RECORDS)} == {"board"}
    assert RECORDS.stat().st_size <= MOST_BYTES


def test_the_board_asks_what_quick_asks_with_more_seeds() -> None:
    board, quick = SUITES["board"], SUITES["quick"]
    assert board.scale == quick.scale
    assert board.seeds >= 8 > quick.seeds
    tasks = {suite: [info.name for info in select_tasks(suite)] for suite in ("board", "quick")}
    assert tasks["board"] == tasks["quick"]
    for name in tasks["board"]:
        assert lrbench.load_task(name, "board", 3).hash == lrbench.load_task(name, "quick", 3).hash
        assert lrbench.load_task(name, "board", 3).world_hash == lrbench.load_task(name, "quick", 3).world_hash


def test_the_board_asks_plain_sdl_methods_at_every_l0() -> None:
    named = {info.name: info for info in methods_for(l0=SUITES["board"].l0)}
    plain = [info for info in method_catalogue() if info.kind == "sdl" and not info.twin]
    others = {f"{info.name}[l0={text}]" for info in plain for text in ("0.5", "2")}
    assert named.keys() == {info.name for info in methods_for()} | others
    for info in plain:
        at_half = named[f"{info.name}[l0=0.5]"]
        assert (at_half.source, at_half.pair, at_half.source_hash) == (at_half.name, info.pair, info.source_hash)
    cells = plan("board")
    per_task = {task: {cell.method for cell in cells if cell.task == task} for task in {cell.task for cell in cells}}
    assert all(methods == named.keys() for methods in per_task.values())
    assert {cell.method for cell in plan("quick")} == {info.name for info in methods_for()}
    assert {cell.method for cell in plan("board", methods=["topk_sae"])} == {"topk_sae"}


def test_traps_are_not_asked_at_other_l0() -> None:
    traps = families()["traps"]
    cells = plan("board", ["traps/own"], seeds=1)
    assert {cell.method for cell in cells} == {info.name for info in methods_for(traps.kinds, traps.twins)}


@pytest.mark.parametrize("ending", ["jsonl.xz", "jsonl.gz"])
def test_a_packed_file_stands_for_the_folder(
    ending: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"records.{ending}"
    assert main(["pack", str(folder / "smoke"), "--output", str(file)]) == 0
    assert f"6 records in {file}, {file.stat().st_size:,} bytes" in capsys.readouterr().out
    assert read_packed(file) == Store(folder).read()[0]
    pages = [write_leaderboard(place, tmp_path / f"{i}" / "x.md").page for i, place in enumerate((folder, file))]
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert write_leaderboard(file).page == tmp_path / "LEADERBOARD.md"
    assert lrbench.load_records(file).equals(lrbench.load_records(folder))
    said = []
    for place in (folder, file):
        capsys.readouterr()
        code = main(["compare", str(folder), str(place)])
        said.append((code, capsys.readouterr().out.replace(str(file), str(folder))))
    assert said[0] == said[1]
    again = tmp_path / f"again.{ending}"
    write_packed(again, read_packed(file))
    assert again.read_bytes() == file.read_bytes()


def test_a_packed_file_is_read_at_a_git_revision(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_packed(Path("in/board.jsonl.xz"), Store(folder).read()[0])
    Path("in/bad.jsonl.xz").write_bytes(b"no records")
    for command in ("init -q", "add in", "-c user.name=a -c user.email=a@b.c commit -qm one"):
        subprocess.run(["git", *command.split()], check=True)
    assert main(["compare", "HEAD:in/board.jsonl.xz", str(folder)]) == main(["compare", str(folder), str(folder)])
    capsys.readouterr()
    assert main(["compare", "HEAD:in/bad.jsonl.xz", str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "HEAD:in/bad.jsonl.xz: is no readable file of records" in error


def line_of(record: Record, **changes: object) -> bytes:
    return json.dumps(record.model_dump(mode="json") | changes).encode() + b"\n"


LATER = (datetime.now(timezone.utc) + timedelta(days=3)).isoformat(timespec="seconds")
HOSTILE: dict[str, tuple[Callable[[bytes, Record], bytes], str]] = {
    "nothing": (lambda line, record: b"", "it has no end: it is truncated"),
    "garbage": (lambda line, record: b"\x00\x01 garbage", "is no readable file of records"),
    "garbage that begins as xz": (lambda line, record: b"\xfd7zXZ\0garbage", "is no readable file of records"),
    "half of a file": (lambda line, record: lzma.compress(line)[:-20], "it has no end: it is truncated"),
    "something behind the end": (lambda line, record: lzma.compress(line) + b"more", "something behind its end"),
    "a bit that flipped": (lambda line, record: flipped(lzma.compress(line)), "is no readable file of records"),
    "more memory than there is": (
        lambda line, record: lzma.compress(line, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}]),
        "Memory usage limit exceeded",
    ),
    "a bomb": (lambda line, record: lzma.compress(bytes(LARGEST_PACKED + 10), preset=0), "holds more than 200000000 bytes"),
    "a bomb of gzip": (lambda line, record: gzip.compress(bytes(LARGEST_PACKED + 10)), "holds more than 200000000 bytes"),
    "no JSON": (lambda line, record: lzma.compress(line + b"{\n"), "line 2: is not complete JSON"),
    "an empty line": (lambda line, record: lzma.compress(line + b"\n"), "line 2: is not complete JSON"),
    "other JSON": (lambda line, record: lzma.compress(b"[]\n"), "line 1: is not an lrbench record"),
    "a newer schema": (lambda line, record: lzma.compress(line_of(record, schema_version=99)), "line 1: was written by a newer"),
    "a cell twice": (lambda line, record: lzma.compress(line + line), "line 2: is a second record of absorption/even[pca-seed0]"),
    "a record from the future": (
        lambda line, record: lzma.compress(line_of(record, timing={"seconds": 1.0, "finished": LATER})),
        "line 1: is dated",
    ),
}  # fmt: skip


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_line(
    name: str, record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, reason = HOSTILE[name]
    file = tmp_path / "board.jsonl.xz"
    file.write_bytes(make(line_of(record), record))
    for command in (["leaderboard", str(file)], ["compare", str(file), str(file)]):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert reason in error
        assert str(file) in error
    with pytest.raises(LrbenchError, match=r"board\.jsonl\.xz"):
        lrbench.load_records(file)
    assert os.listdir(tmp_path) == ["board.jsonl.xz"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["pack", "nothing", "--output", "x.jsonl.xz"], "no usable record in 'nothing'"),
        (["pack", ".", "--output", "x.zip"], "x.zip: expected the name of a packed file, FILE.jsonl.xz or FILE.jsonl.gz"),
        (["pack", ".", "--output", "smoke/x.jsonl.xz"], "cannot write smoke/x.jsonl.xz"),
        (["leaderboard", "nothing.jsonl.xz"], "no results folder 'nothing.jsonl.xz'"),
    ],
)  # fmt: skip
def test_what_cannot_be_packed_is_one_line(
    arguments: list[str],
    reason: str,
    record: Record,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("record.json").write_bytes(line_of(record))
    Path("smoke").write_text("in the way")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert reason in error


def test_what_was_set_aside_is_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(tmp_path).write(Store(folder).read()[0][0])
    (tmp_path / "odd.json").write_text("{")
    assert main(["pack", str(tmp_path), "--output", str(tmp_path / "x.jsonl.xz")]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("1 records in ")
    assert "odd.json: is not complete JSON" in said.err
