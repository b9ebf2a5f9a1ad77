from __future__ import annotations

import gzip
import json
import os
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lrbench.errors import LrbenchError
from lrbench.record import Provenance, Record, Timing
from lrbench.store import Store, load_records, read_packed, write_packed


def make(
    task: str = "noise/0.1",
    method: str = "pca",
    seed: int = 0,
    status: str = "ok",
    suite: str = "smoke",
    f1: float = 0.5,
) -> Record:
    return Record(
        task=task,
        family=task.split("/")[0],
        suite=suite,
        seed=seed,
        task_hash="t",
        world_hash="w",
        method=method,
        pair="autoencoder",
        kind="baseline",
        source_hash="s",
        status=status,  # type: ignore[arg-type]
        reason=None if status == "ok" else "why",
        scores={"f1": f1, "absorption": None} if status == "ok" else {},
        provenance=Provenance(
            lrbench="0", python="3", platform="p", packages={}, commit="c0ffee", dirty=False, device="cpu"
        ),
        timing=Timing(seconds=1.5, finished="2024-01-01T00:00:00+00:00"),
    )


def test_write_read_find(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    records = [make(seed=1), make(), make(method="ica"), make(suite="quick"), make(task="absorption/even")]
    paths = [store.write(record) for record in records]
    assert paths[0] == tmp_path / "results/smoke/noise/0.1/pca.seed1.json"
    read, problems = store.read()
    assert problems == []
    assert read == sorted(records, key=lambda record: (record.suite, record.key))
    assert store.find("smoke", ("noise/0.1", "pca", 1)) == records[0]
    assert store.find("smoke", ("noise/0.1", "pca", 2)) is None
    assert Store(tmp_path / "nothing").read() == ([], [])


def test_a_second_write_replaces_and_leaves_no_litter(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(make(status="failed"))
    path = store.write(make(f1=0.75))
    assert [record.scores["f1"] for record in store.read()[0]] == [0.75]
    assert os.listdir(path.parent) == [path.name]


def test_what_a_killed_run_left_is_ignored_and_swept_once_it_is_old(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.write(make()).parent
    old, young = (folder / f".pca.seed{seed}.json.{seed}.tmp" for seed in (0, 1))
    foreign = folder / "notes.tmp"
    for path in (old, young, foreign):
        path.write_text('{"schema_version": 1, "ta')
    for path in (old, foreign):
        os.utime(path, (0, 0))
    assert store.read() == ([make()], [])
    store.prepare()
    assert not old.exists()
    assert young.exists()  # another run may be writing it
    assert foreign.exists()
    assert store.read() == ([make()], [])


def test_readers_never_see_half_a_record(tmp_path: Path) -> None:
    store, stop = Store(tmp_path), threading.Event()
    store.write(make())

    def keep_writing() -> None:
        while not stop.is_set():
            store.write(make())

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        seen = [store.read() for _ in range(200)]
    finally:
        stop.set()
        writer.join()
    assert all(result == ([make()], []) for result in seen)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "truncated or foreign"),
        ('{"schema_version": 1, "task": "noi', "truncated or foreign"),
        ("[" * 100_000, "truncated or foreign"),
        ("[1, 2]", "no schema version"),
        ('{"name": "package.json"}', "no schema version"),
        ('{"schema_version": 99}', "newer lrbench: schema 99"),
        ('{"schema_version": 1, "task": "x"}', "family: Field required"),
        ("\xff\xfe", "truncated or foreign"),
    ],
)
def test_bad_files_are_named_and_the_rest_is_used(tmp_path: Path, text: str, reason: str) -> None:
    store = Store(tmp_path)
    store.write(make(seed=1))
    bad = store.path("smoke", make().key)
    bad.write_bytes(text.encode("latin-1"))
    records, problems = store.read()
    assert records == [make(seed=1)]
    assert [problem.path for problem in problems] == [bad]
    assert reason in problems[0].reason
    assert "\n" not in problems[0].reason
    assert store.find("smoke", make().key) is None


def test_nan_in_a_file_is_no_record(tmp_path: Path) -> None:
    path = Store(tmp_path).write(make())
    path.write_text(path.read_text().replace("0.5", "NaN"))
    records, problems = Store(tmp_path).read()
    assert records == []
    assert "finite" in problems[0].reason


def test_a_file_that_is_no_record_is_kept_when_its_place_is_needed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    future = store.write(make())
    for version in (99, 98):
        future.write_text(json.dumps({"schema_version": version}))
        store.write(make())
    assert store.read() == ([make()], [])
    kept = sorted(future.parent.glob("*.set-aside*"))
    assert [json.loads(path.read_text())["schema_version"] for path in kept] == [99, 98]


def test_of_two_files_for_a_cell_the_one_in_its_place_counts(tmp_path: Path) -> None:
    path = Store(tmp_path).write(make(f1=0.25))
    for name in ("a copy.json", "z copy.json"):
        path.with_name(name).write_text(path.read_text().replace("0.25", "0.99"))
    records, problems = Store(tmp_path).read()
    assert [record.scores["f1"] for record in records] == [0.25]
    assert {problem.path.name for problem in problems} == {"a copy.json", "z copy.json"}


@pytest.mark.parametrize("name", ["..", "../../x", "/etc", "a\\b:c", ".", "ü", "", "\udc80", "x" * 3000])
def test_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    path = Store(tmp_path / "results").path(name, (f"{name}/{name}", name, 0))
    assert (tmp_path / "results").resolve() in path.resolve().parents
    assert max(map(len, path.parts)) < 230


def test_a_long_name_is_cut_and_ends_in_its_hash(tmp_path: Path) -> None:
    store = Store(tmp_path)
    records = [make(method=f"m[x={'1' * 400}{end}]", task=f"noise[{'1' * 400}{end}]") for end in (0, 1)]
    paths = [store.write(record) for record in records]
    assert len({*paths}) == 2
    assert store.read() == (records, [])
    assert [store.find("smoke", record.key) for record in records] == records


def test_a_folder_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "smoke").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LrbenchError, match=r"cannot write .*smoke is a link, which is not followed"):
        Store(tmp_path / "results").write(make())
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (problem,) = Store(tmp_path / "results").read()[1]
    assert "is a link to a folder" in problem.reason


@pytest.mark.parametrize(
    "changes",
    [{"reason": "\udc80"}, {"reason": "x" * 400}, {"scores": {"f1": float("nan")}}, {"task": "../x"}, {"seed": -1}],
)
def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = Store(tmp_path).write(make(status="failed"))
    before = path.read_bytes()
    with pytest.raises(LrbenchError, match="cannot write") as error:
        Store(tmp_path).write(make(status="failed").model_copy(update=changes))
    assert str(error.value).isprintable()
    assert path.read_bytes() == before
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Store(tmp_path).write(make())
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LrbenchError, match=r"cannot write .*No space left on device"):
        Store(tmp_path).write(make(f1=0.75))
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_record_of_another_cell_is_no_record_of_this_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.write(make())
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 7'))
    assert store.find("smoke", make().key) is None
    store.write(make())
    assert store.find("smoke", make().key) == make()
    assert [file.name for file in path.parent.glob("*.set-aside*")] == [f"{path.name}.set-aside1"]


def test_a_file_or_an_unwritable_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LrbenchError, match="is a file"):
        Store(tmp_path / "file")
    with pytest.raises(LrbenchError, match="cannot write to the folder"):
        Store(tmp_path / "file" / "below").prepare()
    with pytest.raises(LrbenchError, match="cannot write"):
        Store("/proc/nowhere").write(make())


def test_prepare_leaves_an_empty_folder(tmp_path: Path) -> None:
    Store(tmp_path / "a" / "b").prepare()
    assert os.listdir(tmp_path / "a" / "b") == []


def test_load_records(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(make())
    store.write(make(seed=1, status="failed"))
    frame = load_records(tmp_path)
    assert list(frame["seed"]) == [0, 1]
    assert list(frame["status"]) == ["ok", "failed"]
    assert frame.loc[0, ["task", "family", "method", "f1", "seconds", "device"]].tolist() == [
        "noise/0.1",
        "noise",
        "pca",
        0.5,
        1.5,
        "cpu",
    ]
    assert pd.isna(frame.loc[1, "f1"])
    assert pd.isna(frame.loc[0, "absorption"])
    assert frame["absorption"].dtype == "float64"


def test_what_only_a_study_asked_for_is_in_the_frame(tmp_path: Path) -> None:
    for record in (make(), make(seed=1).model_copy(update={"study": "falsify"})):
        Store(tmp_path).write(record)
    assert load_records(tmp_path)["study"].isna().tolist() == [True, False]


def test_packed_records_come_back_and_have_the_same_bytes(tmp_path: Path) -> None:
    records = [make(), make(seed=1, status="failed")]
    paths = [tmp_path / "new" / f"{number}.jsonl.gz" for number in (0, 1)]
    for path in paths:
        write_packed(path, records)
    assert read_packed(paths[0]) == records
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(os.listdir(paths[0].parent)) == ["0.jsonl.gz", "1.jsonl.gz"]
    paths[1].write_bytes(paths[1].read_bytes()[:-20])
    with pytest.raises(LrbenchError, match=r"1\.jsonl\.gz: is no readable file of records"):
        read_packed(paths[1])
    with pytest.raises(LrbenchError, match=r"nothing: is no readable file of records"):
        read_packed(tmp_path / "nothing")


def test_a_packed_file_is_read_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = tmp_path / "bomb.jsonl.gz"
    with gzip.open(bomb, "wb") as file:
        for _ in range(30):
            file.write(b" " * 1_000_000)
    with pytest.raises(LrbenchError, match=r"bomb.jsonl.gz, line 1: is no record: more than 10000000 bytes"):
        read_packed(bomb)
    write_packed(tmp_path / "good.jsonl.gz", [make(), make(seed=1)])
    monkeypatch.setattr("lrbench.store.LARGEST_PACKED", 600)
    with pytest.raises(LrbenchError, match=r"good.jsonl.gz: holds more than 600 bytes of records"):
        read_packed(tmp_path / "good.jsonl.gz")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LrbenchError, match="pipe: is no readable file of records: it is no regular file"):
        read_packed(tmp_path / "pipe")


def test_load_records_warns_of_bad_files_and_refuses_a_missing_folder(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    with pytest.warns(UserWarning, match=r"x\.json: is not complete JSON"):
        frame = load_records(tmp_path)
    assert len(frame) == 0
    assert {"task", "method", "seed", "suite", "status"} <= set(frame.columns)
    with pytest.raises(LrbenchError, match="there is no folder"):
        load_records(tmp_path / "missing")
