"""Whatever lies in a results folder: it is set aside and named in one printable line, and the records beside it are used."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from lrbench.cli import main
from lrbench.foreign import LARGEST, MOST_COMMAS, Problem, parsed
from lrbench.record import Provenance, Record, Timing
from lrbench.store import Store, load_records


def make(seed: int = 0, **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "task": "noise/0.3", "family": "noise", "suite": "smoke", "seed": seed, "task_hash": "t", "world_hash": f"w{seed}",
        "method": "pca", "pair": "autoencoder", "kind": "baseline", "source_hash": "s", "status": "ok",
        "scores": {"headline": 0.5, "f1": 0.5, "l0": 3.0, "absorption": None},
        "curves": {"threshold": [0.0, 1.0], "recovery_dec": [1.0, 0.0], "recovery_enc": [1.0, 0.0]},
        "world": {"dim": 32}, "hyperparameters": {"k": 3, "lr": 0.1},
        "provenance": Provenance(lrbench="0", python="3", platform="p", packages={"torch": "2"}, commit="c0ffee",
                                 dirty=False, device="cpu"),
        "timing": Timing(seconds=1.5, finished="2025-01-01T00:00:00+00:00"),
    }  # fmt: skip
    return Record(**fields | changes)


def text_of(**changes: Any) -> str:
    """Return the text of a record in which some fields are other values."""
    return json.dumps(make(seed=1).model_dump(mode="json") | changes)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)


def listening(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the address of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)
    os.chdir(here)


def odd_name(path: Path) -> None:
    with open(os.fsencode(path.parent) + b"/\xff\x1b.json", "wb") as file:
        file.write(text_of().encode())


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (os.mkfifo, "is no regular file"),
    "a device": (device, "is no regular file"),
    "a folder": (Path.mkdir, "is a folder, not a file"),
    "a socket": (listening, "is no regular file"),
    "a link to itself": (loop, "cannot be read: Too many levels of symbolic links"),
    "a link to nothing": (lambda path: path.symlink_to("nothing"), "cannot be read: No such file"),
    "a link to a folder": (lambda path: path.symlink_to("/usr"), "is a link to a folder, which is not followed"),
    "a huge file": (huge, "is of 10000001 bytes, more than 10000000"),
    "a name that is no UTF-8": (odd_name, "its name is no UTF-8"),
}
LINE = {"threshold": [0.5], "recovery_dec": [0.5], "recovery_enc": [0.5]}
TEXTS = {
    "a suite outside": (text_of(suite="../../x"), "suite='../../x'"),
    "a task outside": (text_of(task="/etc/passwd"), "task='/etc/passwd'"),
    "a method outside": (text_of(method="../../m"), "method='../../m'"),
    "deep": ('{"schema_version": ' + "[" * 100_000, "not complete JSON"),
    "a deep certificate": (text_of(certificate={"x": json.loads("[" * 150 + "]" * 150)}), "certificate: "),
    "many entries": ("[" + "1," * (MOST_COMMAS + 1) + "1]", "more than"),
    "NaN": (text_of(scores={"f1": float("nan")}), "holds NaN, expected finite numbers"),
    "infinity": (text_of(certificate={"x": float("-inf")}), "holds -Infinity, expected finite numbers"),
    "infinity in digits": (text_of(certificate={"x": "HERE"}).replace('"HERE"', "1e999"), "certificate"),
    "a name twice": (text_of().replace('"seed": 1', '"seed": 1, "seed": 2'), "holds one name twice"),
    "a name twice, apart": (text_of().replace('"seed": 1', '"seed": 1, "seed"\n : 2'), "holds one name twice"),
    "a name twice, spelled": (text_of().replace('"seed": 1', '"seed": 1, "se\\u0065d": 2'), "holds one name twice"),
    "5000 digits": (text_of(seed="HERE").replace('"HERE"', "1" * 5000), "not complete JSON"),
    "4000 digits": (text_of(seed="HERE").replace('"HERE"', "1" * 4000), "seed"),
    "a version of 4000 digits": ('{"schema_version": ' + "9" * 4000 + "}", "newer lrbench"),
    "unknown curves": (text_of(curves={"mine": [0.5]}), "curves: expected"),
    "curves of words": (text_of(curves=LINE | {"threshold": ["x"]}), "curves.threshold.0"),
    "curves of two lengths": (text_of(curves=LINE | {"threshold": [0.1, 0.5]}), "one length"),
    "curves outside": (text_of(curves=LINE | {"recovery_dec": [1.5]}), "expected 0 to 1"),
    "long curves": (text_of(curves=dict.fromkeys(LINE, [0.5] * 2000)), "1000 points"),
    "a low score": (text_of(scores={"headline": -1e308}), "headline=-1e+308: expected -1000 to 1"),
    "a high score": (text_of(scores={"fvu": 1e308}), "fvu=1e+308: expected 0 to 1e+100"),
    "no time": (text_of(timing={"seconds": 1.0, "finished": "soon"}), "expected a time in UTC"),
    "no time zone": (text_of(timing={"seconds": 1.0, "finished": "2025-01-01T00:00:00"}), "expected a time in UTC"),
    "2099": (text_of(timing={"seconds": 1.0, "finished": "2099-01-01T00:00:00+00:00"}), "ahead of this computer's clock"),
    "negative seconds": (text_of(timing={"seconds": -1.0, "finished": "2025-01-01T00:00:00+00:00"}), "seconds=-1"),
    "a negative seed": (text_of(seed=-1), "seed=-1"),
    "a huge seed": (text_of(seed=2**64), "seed="),
    "a red method": (text_of(method="\x1b[31mred\x1b[0m"), r"method='\\x1b[31mred"),
    "a family from right to left": (text_of(family="\u202ex"), r"family='\\u202ex'"),
    "a long task": (text_of(task="x" * 1_000_000), "task='xxx"),
    "a red reason": (text_of(status="failed", reason="\x1b[31m\x00"), "reason="),
    "half a character": (text_of(status="skipped", reason="\udc80"), r"reason='\\udc80'"),
    "a long reason": (text_of(status="failed", reason="x" * 5_000_000), "300 printable"),
    "a red traceback": (text_of(status="failed", reason="r", traceback="\x1b[31m"), "traceback="),
    "nested settings": (text_of(hyperparameters={"k": [[1]]}), "hyperparameters.k"),
    "giant settings": (text_of(hyperparameters={"k": 10**400}), "64 bits"),
    "a command for a commit": (text_of(provenance={"lrbench": "0", "python": "3", "platform": "p", "packages": {},
                               "commit": "x; rm -rf ~", "dirty": False, "device": "cpu"}), "commit="),
    "many faults": (text_of(hyperparameters={"a": [{}] * 50_000}), "faults"),
    "another kind": (text_of(kind="best"), "kind='best'"),
    "a red unknown field": (text_of(**{"\x1b[31m" * 1000: 1}), "is not a valid record"),
}  # fmt: skip
for name, (text, said) in TEXTS.items():
    FILES[name] = (lambda path, text=text: path.write_bytes(text.encode()), said)  # type: ignore[misc]


@pytest.mark.parametrize("name", FILES)
def test_what_is_odd_is_named_and_the_rest_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    put, said = FILES[name]
    monkeypatch.setattr("lrbench.leaderboard.figures.save_figures", lambda *_: {"where": "w.svg", "recovery": "r.svg"})
    folder = tmp_path / "results"
    Store(folder).write(make())
    put(folder / "smoke" / "x.json")
    records, problems = Store(folder).read()
    assert records == [make()]
    (problem,) = problems
    assert said in problem.reason
    assert str(problem).isprintable()
    assert len(problem.reason) <= 300
    assert main(["leaderboard", str(folder)]) == 0
    shown = capsys.readouterr()
    assert shown.err.encode() == f"{problem}\n".encode()
    page = (folder / "LEADERBOARD.md").read_text(encoding="utf-8")
    assert len(page) < 10_000
    assert "## Files set aside" in page
    assert page.replace("\n", "").replace("\N{NO-BREAK SPACE}", " ").isprintable()
    with pytest.warns(UserWarning, match="^set aside "):
        assert len(load_records(folder)) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"results"}


def test_no_odd_file_is_replaced_or_waited_for(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number, put in enumerate((os.mkfifo, Path.mkdir, device, loop)):
        path = store.path("smoke", make(number).key)
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path)
        assert store.find("smoke", make(number).key) is None
        store.write(make(number))
        assert os.path.lexists(f"{path}.set-aside1")
    store.prepare()
    assert len(store.read()[0]) == 4


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(tmp_path).write(make())
    Store(tmp_path).write(make(suite="quick"))
    scan = os.scandir

    def refuse(folder: str) -> Any:
        if folder.endswith("quick"):
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    records, problems = Store(tmp_path).read()
    assert records == [make()]
    assert problems == [Problem(tmp_path / "quick", "cannot be read, nor what lies in it: Permission denied")]


def test_a_clock_may_be_a_day_off(tmp_path: Path) -> None:
    for hours in (23, 25):
        when = datetime.now(timezone.utc) + timedelta(hours=hours)
        Store(tmp_path).write(make(hours, timing=Timing(seconds=1.0, finished=when.isoformat(timespec="seconds"))))
    records, problems = Store(tmp_path).read()
    assert [record.seed for record in records] == [23]
    assert len(problems) == 1


def test_the_files_named_are_bounded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(tmp_path).write(make())
    for number in range(300):
        (tmp_path / f"{number:03}.json").write_text("{")
    assert main(["leaderboard", str(tmp_path)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6
    assert lines[-1] == "and 295 more files, see the end of the page"
    page = (tmp_path / "LEADERBOARD.md").read_text(encoding="utf-8")
    assert page.count(".json`") == 100
    assert page.endswith("\nAnd 200 more.\n")
    with pytest.warns(UserWarning, match="^(set aside|and 295 more files)") as warned:
        load_records(tmp_path)
    assert len(warned) == 6


def test_a_page_shows_names_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = "m[x](javascript:a)<script>`|$\\frac$ 漢"
    store = Store(tmp_path)
    store.write(make(method=odd))
    store.write(make(method=f"_{odd * 20}", suite="later"))
    store.write(make(method="b", status="failed", reason=odd, scores={}, curves={}))
    assert main(["leaderboard", str(tmp_path)]) == 0
    assert odd in capsys.readouterr().out
    page = (tmp_path / "LEADERBOARD.md").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "[x](" not in page.replace(r"\[x\](", "")
    assert "## Suite `later`" in page
    tables = [line for line in page.splitlines() if line.startswith("|") and "javascript" in line]
    assert all(line.replace("\\\\", "").replace("\\|", "").count("|") >= 3 for line in tables)


@pytest.mark.parametrize("link", ["LEADERBOARD.md", "figures", "figures/smoke-where.svg"])
def test_a_page_and_its_figures_are_written_through_no_link(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], link: str
) -> None:
    folder, target = tmp_path / "results", tmp_path / "target"
    Store(folder).write(make())
    (folder / link).parent.mkdir(exist_ok=True)
    (folder / link).symlink_to(target)
    target.mkdir() if link == "figures" else target.write_text("mine")
    code = main(["leaderboard", str(folder)])
    if link == "figures":
        assert code == 2
        assert "is a link, which is not followed" in capsys.readouterr().err
        assert list(target.iterdir()) == []
    else:
        assert code == 0
        assert target.read_text() == "mine"
        assert not (folder / link).is_symlink()


def test_an_ordinary_record_takes_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    text = text_of().encode()
    monkeypatch.setattr("lrbench.foreign._slowly_parsed", lambda content: "slow")
    assert parsed(Path("x.json"), text) == make(seed=1)
    assert parsed(Path("x.json"), json.dumps(json.loads(text), indent=1).encode()) == make(seed=1)
    assert parsed(Path("x.json"), text.replace(b'"seed":', b'"seed" :')) == Problem(Path("x.json"), "slow")


def test_a_record_in_another_spelling_is_the_same_record() -> None:
    text = text_of()
    for other in (text.replace('":', '"\n:'), f"\ufeff{text}", text.replace("noise/0.3", "noise\\/0.3")):
        assert parsed(Path("x.json"), other.encode()) == make(seed=1)
