"""Studies: found by name or path, run through the one runner, killed and started again, and their pages written from records alone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lrbench import LrbenchError
from lrbench.catalogue.studies import find_study, load_study, study_catalogue
from lrbench.cli import main
from lrbench.record import Record
from lrbench.running.study_run import study_cells
from lrbench.store import Store, read_packed, write_packed

STUDY = '''
"""Crowding: how much of the truth a wider code finds."""

from lrbench.study import Block, Study


def plan(suite, seeds):
    tasks = [f"superposition[{ratio}]" for ratio in (1.2, 1.45)]
    return [Block(tasks, ["pca[kept=0.25|0.5]", "random", "truth"], range(seeds or 2))]


def measure(trained):
    norms = trained.dictionary.W_enc.norm(dim=1)
    return {"longest": float(norms.max()), "seed": float(trained.seed), "nothing": float("nan")}


def write(records, suite, path):
    lines = [f"{r.task} {r.method} {r.seed}: {r.scores['headline']}, {r.measures['crowding'].values}" for r in records]
    path.write_text("\\n".join(lines) + "\\n", encoding="utf-8")
    return f"{len(records)} records"


STUDY = Study(plan=plan, write=write, measure=measure)
'''
CELLS = 16
IN_ROUNDS = '''
"""Climbing: the first level at which PCA finds less than a twentieth, by halving."""

from lrbench.study import Block, Study


def task(step):
    return f"superposition[{1.2 + step / 4}]"


def plan(suite, seeds):
    return [Block([task(0), task(2)], ["pca", "random"], range(seeds or 2))]


def next_round(suite, seeds, records):
    known = {task(step): step for step in range(3)}
    steps = sorted({known[record.task] for record in records})
    middle = (steps[0] + steps[1]) // 2
    return [Block([task(middle)], ["pca", "random"], range(seeds or 2))]


def write(records, suite, path):
    lines = [f"{r.task} {r.method} {r.seed}: {r.scores['headline']}" for r in records]
    path.write_text("\\n".join(lines) + "\\n", encoding="utf-8")
    return f"{len(records)} records"


STUDY = Study(plan=plan, write=write, next_round=next_round)
'''
STEPS = 3  # 0, 2, 1


@pytest.fixture
def crowding(tmp_path: Path) -> Path:
    path = tmp_path / "crowding.py"
    path.write_text(STUDY, encoding="utf-8")
    return path


def command(study: Path | str, out: Path, *more: str) -> list[str]:
    return ["study", str(study), "--suite", "smoke", "--out", str(out), *more]


def contents(folder: Path) -> list[dict[str, object]]:
    records, problems = Store(folder).read()
    assert problems == []
    return [record.content() for record in records]


def test_the_catalogue_names_its_studies(capsys: pytest.CaptureFixture[str]) -> None:
    names = [info.name for info in study_catalogue()]
    assert names == ["engine_quality", "falsify", "ladder", "noise", "real", "replicate", "sweep"]
    assert main(["list", "studies"]) == 0
    shown = capsys.readouterr().out
    assert all(info.name in shown and info.summary in shown for info in study_catalogue())
    assert main(["list", "studies", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == names


@pytest.mark.parametrize("name", ["engine_quality", "falsify", "ladder", "noise", "real", "replicate", "sweep"])
def test_every_study_plans_cells_that_exist_once(name: str) -> None:
    cells = study_cells(find_study(name), "smoke", 1)
    assert len({cell.key for cell in cells}) == len(cells) > 0
    assert {cell.study for cell in cells} == {name}


def test_a_study_that_is_killed_goes_on_and_loses_nothing(
    crowding: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calm, torn, rng = tmp_path / "calm", tmp_path / "torn", random.Random(0)
    assert main(command(crowding, calm, "--workers", "1", "--device", "cpu")) == 0
    arguments = [sys.executable, "-m", "lrbench.cli", *command(crowding, torn, "--workers", "1", "--device", "cpu")]
    for _ in range(3):
        run = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(rng.uniform(1.0, 5.0))
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    before = {path: path.stat().st_mtime_ns for path in torn.rglob("*.json")}
    assert main(command(crowding, torn, "--workers", "1", "--device", "cpu")) == 0
    assert all(path.stat().st_mtime_ns == changed for path, changed in before.items()), "a stored cell ran twice"
    assert contents(torn) == contents(calm)
    assert len(contents(calm)) == CELLS
    page = (calm / "crowding-smoke.md").read_bytes()
    assert (torn / "crowding-smoke.md").read_bytes() == page
    capsys.readouterr()
    assert main(command(crowding, calm)) == 0
    assert f"{CELLS} were stored already, 0 ran" in capsys.readouterr().out
    for _ in range(2):
        (calm / "crowding-smoke.md").unlink()
        assert main(command(crowding, calm, "--from-records")) == 0
        assert (calm / "crowding-smoke.md").read_bytes() == page


def test_a_study_asks_in_rounds_until_it_has_nothing_new_to_ask(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    climbing, calm, torn = tmp_path / "climbing.py", tmp_path / "calm", tmp_path / "torn"
    climbing.write_text(IN_ROUNDS, encoding="utf-8")
    options = ("--workers", "1", "--device", "cpu")
    assert main(command(climbing, calm, *options, "--pack")) == 0
    assert f"{4 * STEPS} cells in {calm}: 0 were stored already, {4 * STEPS} ran" in capsys.readouterr().out
    page = (calm / "climbing-smoke.md").read_bytes()
    assert main(command(climbing, calm)) == 0
    assert f"{4 * STEPS} were stored already, 0 ran" in capsys.readouterr().out
    assert len(read_packed(tmp_path / "records" / "climbing-smoke.jsonl.gz")) == 4 * STEPS
    for out in (calm, tmp_path / "fresh"):  # a fresh clone has what was packed
        assert main(command(climbing, out, "--from-records")) == 0
        assert (out / "climbing-smoke.md").read_bytes() == page
    arguments = [sys.executable, "-m", "lrbench.cli", *command(climbing, torn, *options)]
    run = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while run.poll() is None and len([*torn.rglob("*.json")]) < 5:  # in the midst of a round
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    capsys.readouterr()
    assert main(command(climbing, torn, "--from-records")) == 0
    assert "cells have no record" in capsys.readouterr().err
    before = {path: path.stat().st_mtime_ns for path in torn.rglob("*.json")}
    assert 5 <= len(before) < 4 * STEPS
    assert main(command(climbing, torn, *options)) == 0
    assert all(path.stat().st_mtime_ns == changed for path, changed in before.items()), "a stored cell ran twice"
    assert contents(torn) == contents(calm)
    assert (torn / "climbing-smoke.md").read_bytes() == page


def test_committed_records_make_the_page_in_a_fresh_clone(
    crowding: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    assert main(command(crowding, fresh, "--from-records")) == 2
    assert "no record of the study crowding" in capsys.readouterr().err
    assert main(command(crowding, out, "--seeds", "1", "--pack", "--device", "cpu")) == 0
    packed = tmp_path / "records" / "crowding-smoke.jsonl.gz"
    assert {record.key: record for record in read_packed(packed)} == {r.key: r for r in Store(out).read()[0]}
    again = tmp_path / "again.jsonl.gz"
    write_packed(again, read_packed(packed))
    assert again.read_bytes() == packed.read_bytes()
    assert main(command(crowding, fresh, "--seeds", "1", "--from-records")) == 0
    assert (fresh / "crowding-smoke.md").read_bytes() == (out / "crowding-smoke.md").read_bytes()
    capsys.readouterr()
    assert main(command(crowding, fresh, "--from-records")) == 0
    said = capsys.readouterr().err
    assert f"{CELLS // 2} of {CELLS} cells have no record in {packed}" in said
    assert "of other code" not in said
    old = [record.model_copy(update={"source_hash": "0" * 16}) for record in read_packed(packed)]
    write_packed(packed, old)
    assert main(command(crowding, fresh, "--from-records")) == 0
    assert f"{len(old)} of {len(old)} records are of other code or worlds than here" in capsys.readouterr().err


def test_packing_goes_on_from_the_committed_records_and_trains_none_of_them_again(
    crowding: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half, whole, alone = tmp_path / "half", tmp_path / "whole", tmp_path / "alone"
    packed = tmp_path / "records" / "crowding-smoke.jsonl.gz"
    assert main(command(crowding, half, "--seeds", "1", "--pack", "--device", "cpu")) == 0
    committed = {record.key: record for record in read_packed(packed)}
    assert len(committed) == CELLS // 2
    capsys.readouterr()
    assert main(command(crowding, whole, "--pack", "--device", "cpu")) == 0
    shown = capsys.readouterr().out
    assert f"{CELLS // 2} were stored already, {CELLS // 2} ran" in shown
    assert f"{CELLS // 2} of the stored were taken from {packed}" in shown
    found = {record.key: record for record in read_packed(packed)}
    assert len(found) == CELLS
    assert {key: found[key] for key in committed} == committed, "they are the records themselves, timing and all"
    assert found == {record.key: record for record in Store(whole).read()[0]}
    assert main(command(crowding, whole, "--pack", "--device", "cpu")) == 0
    assert "were taken" not in capsys.readouterr().out
    crowding.write_text(STUDY.replace("norms.max()", "norms.min()"), encoding="utf-8")
    assert main(command(crowding, tmp_path / "stale", "--pack", "--device", "cpu")) == 0
    assert f"0 were stored already, {CELLS} ran" in capsys.readouterr().out, "another measure: none of them holds"
    assert main(command(crowding, alone, "--seeds", "1", "--device", "cpu")) == 0
    assert f"0 were stored already, {CELLS // 2} ran" in capsys.readouterr().out, "without --pack it is run again"


def test_packing_a_part_loses_no_committed_record_that_is_still_asked_for(crowding: Path, tmp_path: Path) -> None:
    out, part = tmp_path / "out", tmp_path / "part"
    packed = tmp_path / "records" / "crowding-smoke.jsonl.gz"
    assert main(command(crowding, out, "--seeds", "1", "--pack", "--device", "cpu")) == 0
    before = read_packed(packed)
    gone = before[0].model_copy(update={"method": "nobody_asks"})
    write_packed(packed, [*before, gone])
    newer = before[0].model_copy(update={"timing": before[0].timing.model_copy(update={"seconds": 12345.0})})
    Store(part).write(newer)
    assert main(command(crowding, part, "--seeds", "1", "--from-records")) == 0
    alone = (part / "crowding-smoke.md").read_bytes()
    assert main(command(crowding, part, "--seeds", "1", "--from-records", "--pack")) == 0
    assert read_packed(packed) == [newer, *before[1:]]
    failed = before[1].model_copy(update={"status": "failed", "reason": "killed", "scores": {}, "curves": {}})
    Store(part).write(failed)
    assert main(command(crowding, part, "--seeds", "1", "--from-records", "--pack")) == 0
    assert read_packed(packed) == [newer, *before[1:]], "a score is kept while its cell only fails elsewhere"
    assert (part / "crowding-smoke.md").read_bytes() == (out / "crowding-smoke.md").read_bytes() != alone


def test_committed_records_do_not_enter_a_folder_of_salted_ones(
    crowding: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, salted = tmp_path / "out", tmp_path / "salted"
    assert main(command(crowding, out, "--seeds", "1", "--pack", "--device", "cpu")) == 0
    record = Store(out).read()[0][0]
    Store(salted).write(record.model_copy(update={"salt_hash": "abc", "method": "truth"}))
    assert main(command(crowding, salted, "--seeds", "1", "--pack", "--device", "cpu")) == 2
    assert "holds records of salted worlds" in capsys.readouterr().err
    assert len(Store(salted).read()[0]) == 1


def test_what_is_measured_is_part_of_what_is_done(crowding: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = [
        "run",
        "--suite",
        "smoke",
        "--task",
        "superposition[1.2]",
        "--method",
        "truth",
        "--seeds",
        "2",
        "--device",
        "cpu",
    ]
    assert main([*run, "--out", str(out)]) == 0
    key = ("superposition[1.2]", "truth", 1)
    assert Store(out).find("smoke", key).measures == {}  # type: ignore[union-attr]
    assert main(command(crowding, out, "--device", "cpu")) == 0
    found = {record.key: record for record in Store(out).read()[0]}
    assert found[key].measures["crowding"].values["seed"] == 1.0
    assert found[key].measures["crowding"].values["nothing"] is None
    assert found[key].study is None, "a run had asked for this cell before"
    assert found["superposition[1.45]", "truth", 1].study == "crowding"
    cell = next(cell for cell in study_cells(find_study(str(crowding)), "smoke") if cell.key == key)
    assert cell.done_by(found[key])
    crowding.write_text(STUDY.replace("norms.max()", "norms.min()"), encoding="utf-8")
    (changed,) = [cell for cell in study_cells(find_study(str(crowding)), "smoke") if cell.key == key]
    assert not changed.done_by(found[key]), "another measure asks again"


def test_a_run_makes_a_cell_of_a_study_its_own_without_running_it(
    crowding: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(command(crowding, out, "--seeds", "1", "--device", "cpu")) == 0
    run = ["run", "--suite", "smoke", "--task", "superposition[1.2]", "--method", "truth", "--device", "cpu"]
    capsys.readouterr()
    assert main([*run, "--out", str(out)]) == 0
    assert "1 were stored already, 0 ran" in capsys.readouterr().out
    record = Store(out).find("smoke", ("superposition[1.2]", "truth", 0))
    assert isinstance(record, Record)
    assert (record.study, [*record.measures]) == (None, ["crowding"])


def test_what_a_plain_run_stored_is_no_record_of_a_study_that_measures(
    crowding: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run = ["run", "--suite", "smoke", "--task", "superposition[1.2]", "--method", "truth", "--device", "cpu"]
    assert main([*run, "--out", str(out)]) == 0
    capsys.readouterr()
    assert main(command(crowding, out, "--from-records")) == 2
    assert "no record of the study crowding" in capsys.readouterr().err


def test_a_plan_without_a_cell_says_so(crowding: Path) -> None:
    crowding.write_text(STUDY.replace("range(seeds or 2)", "()"), encoding="utf-8")
    with pytest.raises(LrbenchError, match="the study crowding asks for no cell in the suite smoke"):
        study_cells(find_study(str(crowding)), "smoke")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study", "falsfy"], "unknown study 'falsfy': did you mean falsify"),
        (["study", "nowhere.py"], "cannot be read"),
        (["study", "falsify", "--suite", "smok"], "unknown suite 'smok'"),
        (["study", "falsify", "--seeds", "0"], "seeds=0: expected 1 to 1000"),
        (["falsify", "--out", "page.md"], "is the folder of the records, --page names the page"),
        (["study", "falsify", "--suite", "smoke", "--workers", "0"], "workers=0: expected"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_file_without_a_study_says_so(tmp_path: Path) -> None:
    path = tmp_path / "empty.py"
    path.write_text("STUDY = 3\n", encoding="utf-8")
    with pytest.raises(LrbenchError, match=r"expected STUDY = an lrbench\.study\.Study, found int"):
        load_study(str(path))


def test_packed_records_that_are_damaged_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(b"no gzip")
    with pytest.raises(LrbenchError, match=r"x\.jsonl\.gz: is no readable file of records"):
        read_packed(path)
