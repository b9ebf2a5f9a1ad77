"""Tasks from a user's own file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lrbench.catalogue.tasks import load_task, select_tasks, task_catalogue, tasks_in
from lrbench.errors import LrbenchError, UnknownName
from lrbench.running.runner import run

ROOT = Path(__file__).parent.parent
TASKS = '''
"""Tasks of a user."""
from lrbench.task import Scale, TaskSpec, family
from lrbench.tasks.noise import noise  # a family that is imported belongs to its own file


@family(levels={"easy": 0.1, "hard": 0.5}, smoke=("easy",))
def waves(interference: float, scale: Scale) -> TaskSpec:
    """How close two directions may come."""
    return scale.task(interference=interference)
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(TASKS)
    return path


def names(suite: str, *patterns: str) -> list[str]:
    return [task.name for task in select_tasks(suite, patterns)]


def test_a_file_means_the_suites_selection_of_its_tasks(file: Path) -> None:
    assert names("smoke", str(file)) == ["waves/easy"]
    assert names("quick", str(file)) == ["waves/easy", "waves/hard"]
    assert names("smoke", f"{file}::*") == ["waves/easy", "waves/hard"]
    assert names("smoke", f"{file}::waves/hard", "noise/0.3", str(file)) == ["noise/0.3", "waves/hard", "waves/easy"]
    assert names("quick", str(ROOT / "tasks" / "noise.py"), "noise/*") == names("quick", "noise/*")


def test_a_task_is_loaded_again_by_its_source(file: Path) -> None:
    (info,) = select_tasks("smoke", [str(file)])
    task = load_task(info.source, "smoke", seed=1)
    assert (task.name, task.seed, task.spec.world.interference) == ("waves/easy", 1, 0.1)
    built_in = task_catalogue()[0]
    assert load_task(built_in.source).name == built_in.name


def test_a_worker_runs_it(file: Path, tmp_path: Path) -> None:
    (record,) = run("smoke", [str(file)], ["pca"], out=tmp_path / "out", workers=1, device="cpu").records
    assert (record.task, record.family, record.status) == ("waves/easy", "waves", "ok")
    assert run("smoke", [str(file)], ["pca"], out=tmp_path / "out", workers=1, device="cpu").done == 1


def test_a_task_that_changes_between_plan_and_run_is_not_recorded_under_its_old_hash(
    file: Path, tmp_path: Path
) -> None:
    file.write_text(TASKS + "\nimport sys\nif 'torch' in sys.modules:\n    waves.levels['easy'] = 0.4\n")
    code = "from lrbench.running.runner import run; import sys;"
    code += "(record,) = run('smoke', [sys.argv[1]], ['pca'], out=sys.argv[2], workers=1, device='cpu').records;"
    code += "print(record.status, record.reason)"
    command = [sys.executable, "-c", code, str(file), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("failed LrbenchError: the task waves/easy has changed since the run was planned")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            TASKS.replace("def waves", "def noise"),
            "a built-in task family is called 'noise' already: rename the function",
        ),
        ("levels = {}", "declares no task; expected a function with @family(levels=...)"),
        ("def", "does not import (SyntaxError: "),
        ("raise SystemExit(3)", "does not import (SystemExit: 3)"),
        (None, "no such Python file"),
    ],
)
def test_a_bad_file_is_one_clear_line(text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    if text is not None:
        path.write_text(text)
    for attempt in (
        lambda: select_tasks("smoke", [str(path)]),
        lambda: load_task(f"{path}::x/y"),
        lambda: tasks_in(path),
    ):
        with pytest.raises(LrbenchError) as caught:
            attempt()
        assert str(caught.value).startswith(f"{path}: {message}")


def test_names_that_do_not_exist_or_stand_twice(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean waves/hard"):
        select_tasks("smoke", [f"{file}::waves/har"])
    for name in (str(file), f"{file}::waves/har"):
        with pytest.raises(UnknownName, match=r"did you mean .*mine\.py::waves/hard"):
            load_task(name)
    (tmp_path / "copy.py").write_text(TASKS)
    with pytest.raises(LrbenchError, match="two tasks are called 'waves/easy': rename the function of one family"):
        select_tasks("smoke", [str(file), str(tmp_path / "copy.py")])
