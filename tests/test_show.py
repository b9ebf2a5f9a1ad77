"""`lrbench show` of a record: it is trained again, and what changed since is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lrbench.cli.commands import run_command_line as main
from lrbench.running.cell import run_cell
from lrbench.running.runner import plan


@pytest.fixture
def record(tmp_path: Path, planted: None) -> Path:
    (cell,) = plan("smoke", ["real_minilm/trained"], ["oracle"])
    file = tmp_path / "record.json"
    file.write_text(run_cell(cell).model_dump_json())
    return file


def test_a_record_of_today_is_shown_without_a_word(record: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(record), "--latent", "3"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("latent 3 ")
    assert not err


@pytest.mark.parametrize(
    ("fact", "what"),
    [("task_hash", "the task"), ("world_hash", "the task"), ("source_hash", "the method's code"),
     ("task_source_hash", "the task's code")],
)  # fmt: skip
def test_what_changed_since_a_record_was_made_is_said_in_one_line(
    record: Path, fact: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {fact: "0" * len(content[fact])}))
    assert main(["show", str(record), "--latent", "3"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("latent 3 ")
    assert err == f"{record}: not the dictionary of the record: {what} changed since it was made\n"


@pytest.mark.parametrize("option", [("--task", "real_minilm/trained"), ("--suite", "real"), ("--seed", "0")])
def test_a_record_has_its_own_task(record: Path, option: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(record), *option]) == 2
    assert f"{option[0]} {option[1]}: a record has its own" in capsys.readouterr().err
