"""The pytest plugin as users meet it: every test runs pytest in a process of its own, in a project of its own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from lrbench.catalogue.imports import imports
from lrbench.running.runner import plan
from lrbench.store import Store

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent
TASKS = '''
"""Tasks of a user."""
from pathlib import Path

from lrbench.task import Scale, TaskSpec, family

with open(Path(__file__).parent / "imported_as.log", "a") as log:
    print(__name__, file=log)


@family(levels={"easy": 0.1, "hard": 0.5})
def waves(interference: float, scale: Scale) -> TaskSpec:
    """How close two directions may come."""
    return scale.task(interference=interference)
'''
METHOD = '''
"""A method of a user."""
import os
from dataclasses import dataclass
from pathlib import Path

import torch

import lrbench
from lrbench.activation import ReLU


@dataclass(frozen=True)
class Mine(lrbench.Method):
    def fit(self, view, seed=0):
        with open(Path(__file__).parent / "fits.log", "a") as log:
            print(view.d_in, file=log)
        {body}
        w = torch.randn(view.budget.n_latents, view.d_in, generator=torch.Generator().manual_seed(seed))
        return lrbench.Dictionary(w, None, w, None, ReLU())


METHOD = Mine()
'''
SMOKE = ("--lrbench-suite", "smoke", "--lrbench-seeds", "1")
THREE = ("--lrbench-method", "steady.py", "--lrbench-method", "broken.py", "--lrbench-method", "picky.py")


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A user's repository: strict settings, a folder of tasks that is a package, methods beside it."""
    monkeypatch.setenv("COLUMNS", "160")
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\naddopts = "--strict-markers"\nfilterwarnings = ["error"]\n')
    write(pytester.path / "my_tasks" / "waves.py", TASKS)
    write(pytester.path / "my_tasks" / "__init__.py", 'raise ImportError("imported by pytest")')
    write(pytester.path / "steady.py", METHOD.format(body="pass"))
    write(pytester.path / "broken.py", METHOD.format(body='raise ValueError("boom")'))
    write(pytester.path / "picky.py", METHOD.format(body='raise lrbench.NotApplicable("needs labels")'))
    return pytester


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def output(result: pytest.RunResult) -> str:
    return result.stdout.str() + result.stderr.str()


def contents(folder: Path) -> list[dict[str, object]]:
    records, problems = Store(folder).read()
    assert problems == []
    return [record.content() for record in records]


def test_cells_are_tests(project: pytest.Pytester) -> None:
    marked = ("-m", "waves and smoke", "-v", "-rfs", "--junitxml", "report.xml")
    first = project.runpytest_subprocess("my_tasks", *SMOKE, *THREE, *marked)
    first.assert_outcomes(passed=2, failed=2, skipped=2)
    text = output(first)
    for method, verdict in (("steady", "PASSED"), ("broken", "FAILED"), ("picky", "SKIPPED")):
        assert re.search(rf"^my_tasks/waves.py::waves/easy\[{method}-seed0\] {verdict}", text, re.MULTILINE), text
    first.stdout.fnmatch_lines(["SKIPPED * needs labels"])
    first.stdout.fnmatch_lines(
        ["*_ waves/easy[[]broken-seed0] _*", '  File "*broken.py", line *, in fit', "ValueError: boom"]
    )
    first.stdout.fnmatch_lines(["FAILED my_tasks/waves.py::waves/hard[[]broken-seed0] - *ValueError: boom"])
    assert 'plugin.py"' not in text
    table = [line.split() for line in text[text.index("= lrbench: score") :].splitlines()[1:5]]
    assert [row[0] for row in table] == ["method", "broken", "picky", "steady"]
    assert [table[0][1:], table[1][1:], table[2][1:]] == [["waves/easy", "waves/hard"], ["failed"] * 2, ["skipped"] * 2]
    scores = {
        record.task: record.scores["headline"] for record in Store("results").read()[0] if record.method == "steady"
    }
    assert table[3][1:] == [f"{scores[task]:.3f}" for task in ("waves/easy", "waves/hard")]

    (case,) = ElementTree.parse("report.xml").findall(".//testcase[@name='waves/easy[steady-seed0]']")
    properties = {row.get("name"): row.get("value") for row in case.iter("property")}
    assert properties["lrbench.headline"] == str(scores["waves/easy"])
    assert properties["lrbench.stored"] == "False"
    (failure,) = ElementTree.parse("report.xml").findall(".//testcase[@name='waves/easy[broken-seed0]']/failure")
    assert "ValueError: boom" in str(failure.get("message"))
    assert "in fit" in str(failure.text)

    fits = Path("fits.log").read_text().count("\n")
    again = project.runpytest_subprocess("my_tasks", *SMOKE, *THREE, "-v", "-x", "-k", "easy")
    again.assert_outcomes(passed=1, failed=1)  # -x: the third did not run
    again.stdout.fnmatch_lines(["*steady-seed0] PASSED (stored)*", "*2 cells: 1 ran now, 1 were stored in *results"])
    write(Path("broken.py"), METHOD.format(body="pass"))
    last = project.runpytest_subprocess("my_tasks", *SMOKE, *THREE, "--lf")
    last.assert_outcomes(passed=2)
    assert Path("fits.log").read_text().count("\n") == fits + 3  # broken alone ran again: once, then twice
    assert {line.split("_waves_")[0] for line in Path("my_tasks/imported_as.log").read_text().split()} == {
        "lrbench_file"
    }


def test_two_processes_store_the_same_records_and_a_hostile_method_costs_its_cell_only(
    project: pytest.Pytester,
) -> None:
    write(Path("hostile.py"), METHOD.format(body="os._exit(3)"))
    methods = ("--lrbench-method", "hostile.py", "--lrbench-method", "steady.py", "--lrbench-method", "pca")
    for out, workers in (("one", ()), ("two", ("-n", "2"))):
        result = project.runpytest_subprocess("my_tasks", *SMOKE, *methods, "--lrbench-out", out, *workers)
        result.assert_outcomes(passed=4, failed=2)
        result.stdout.fnmatch_lines(
            [f"6 cells: 6 ran now, 0 were stored in *{out}", "FAILED * - *worker process exited with code 3"]
        )
    assert len(contents(Path("one"))) == 6
    assert contents(Path("one")) == contents(Path("two"))


def test_a_baseline(project: pytest.Pytester) -> None:
    steady = ("--lrbench-method", "steady.py")
    run = ("my_tasks", "--lrbench-suite", "smoke", "--lrbench-seeds", "2", *steady)
    project.runpytest_subprocess(*run).assert_outcomes(passed=4)
    shutil.copytree("results", "base")
    project.runpytest_subprocess(*run, "--lrbench-baseline", "base").assert_outcomes(passed=4)

    def doctor(name: str, **changes: object) -> Path:
        path = Path(f"base/smoke/waves/{name}.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        return path

    (Path("base/smoke/waves/easy") / "steady.seed0.json").unlink()
    doctor("easy/steady.seed1", task_hash="another")
    path = doctor("hard/steady.seed0")
    scores = json.loads(path.read_text())["scores"]
    doctor("hard/steady.seed0", scores=scores | {"headline": scores["headline"] + 0.5, "mcc": scores["mcc"] + 0.3})
    scores = json.loads(doctor("hard/steady.seed1").read_text())["scores"]
    doctor("hard/steady.seed1", scores=scores | {"headline": scores["headline"] + 0.019, "fvu": scores["fvu"] - 0.019})
    result = project.runpytest_subprocess(*run, "--lrbench-baseline", "base", "-v")
    result.assert_outcomes(passed=1, failed=1, skipped=2)
    result.stdout.fnmatch_lines(
        ["headline is worse by 0.500: * in the baseline, now * (tolerance 0.02)", "mcc is worse by 0.300: *"]
    )
    result.stdout.fnmatch_lines(["FAILED *waves/hard[[]steady-seed0] - Failed: headline is worse by 0.500: *"])
    result.stdout.fnmatch_lines(
        ["steady skipped on 1 of its tests: not compared: *base has no readable record of this cell"]
    )
    result.stdout.fnmatch_lines(["steady skipped on 1 of its tests: not comparable: changed world: *"])
    assert re.search(r"^steady .*\d!$", output(result), re.MULTILINE)

    doctor("hard/steady.seed0", status="failed", reason="ValueError: boom", scores={})
    result = project.runpytest_subprocess(*run, "--lrbench-baseline", "base", "-k", "hard and seed0")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*not comparable: now measured: before, failed: ValueError: boom"])

    write(Path("steady.py"), METHOD.format(body='raise lrbench.NotApplicable("needs labels")'))
    result = project.runpytest_subprocess(
        *run, "--lrbench-baseline", "results", "--lrbench-out", "new", "-k", "hard-seed0 or hard"
    )
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["no score any more, the baseline has one: needs labels"])


def test_bad_input_is_one_line(project: pytest.Pytester) -> None:
    Path("a_file").touch()
    for options, message in (
        (("--lrbench-suite", "smok"), "unknown suite 'smok': did you mean smoke?*"),
        (("--lrbench-method", "topk"), "unknown method 'topk': did you mean topk_sae*"),
        (("--lrbench-seeds", "0"), "seeds=0: expected 1 to 1000"),
        (("--lrbench-out", "a_file"), "*a_file is a file, but results need a folder*"),
        (("--lrbench-baseline", "nowhere"), "there is no folder *nowhere: --lrbench-baseline needs one of records"),
    ):
        result = project.runpytest_subprocess("my_tasks", *options)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: {message}"])
        assert "Traceback" not in output(result)

    write(Path("my_tasks/twin.py"), TASKS)
    write(Path("my_tasks/noise.py"), TASKS.replace("waves", "noise"))
    write(Path("my_tasks/typo.py"), TASKS + "def")
    result = project.runpytest_subprocess("my_tasks", *SMOKE, "--lrbench-method", "pca")
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(["*noise.py: a built-in task family is called 'noise' already: rename the function *"])
    result.stdout.fnmatch_lines(["*typo.py: does not import (SyntaxError: *"])
    result.stdout.fnmatch_lines(["*waves.py and *twin.py both declare the task family 'waves'"])
    assert "Traceback" not in output(result)


def test_whoever_merely_installed_it_notices_nothing(project: pytest.Pytester) -> None:
    write(Path("tasks_here.py"), TASKS)
    write(
        Path("tests/test_theirs.py"),
        "import sys\n\ndef test_theirs():\n"
        "    assert {name for name in sys.modules if name.partition('.')[0] in ('lrbench', 'torch')} == {'lrbench', 'lrbench.plugin'}\n",
    )
    for arguments in ((), ("tests",), ("tests/test_theirs.py", "-n", "1")):
        result = project.runpytest_subprocess(*arguments)
        result.assert_outcomes(passed=1)
        assert "lrbench" not in output(result)
    assert not Path("my_tasks/imported_as.log").exists()
    result = project.runpytest_subprocess("tests", "--lrbench-suite", "smoke")
    result.stdout.fnmatch_lines(["lrbench: no cell ran; name task files or a folder of them*"])


def ids_of(result: pytest.RunResult) -> list[str]:
    return [line.partition("::")[2] for line in result.outlines if "::" in line]


LISTING = ("--collect-only", "-q", "-o", "addopts=")


@pytest.mark.parametrize(
    ("expression", "selected"),
    [
        ("topk_sae[l0=2]", [2]),
        ("topk_sae[l0=2] or topk_sae[l0=3]", [2, 3]),
        ("not topk_sae[l0=2]", [3, 4]),
        ("l0", [2, 3, 4]),
        ("l0=3", [3]),
        ("topk_sae and waves", [2, 3, 4]),
        ("topk_sae[l0=4,resample=1]", [4]),
        ("topk_sae[l0=4,resample=2]", []),
        ("waves/easy[topk_sae[l0=2]-seed0]", [2]),
    ],
)
def test_k_reads_addresses(project: pytest.Pytester, expression: str, selected: list[int]) -> None:
    methods = ("--lrbench-method", "topk_sae[l0=2|3]", "--lrbench-method", "topk_sae[resample=1,l0=4]")
    named = ("--lrbench-task", "waves/easy", "-k", expression)
    found = ids_of(project.runpytest_subprocess("my_tasks", *SMOKE, *methods, *named, *LISTING))
    texts = {2: "topk_sae[l0=2]", 3: "topk_sae[l0=3]", 4: "topk_sae[l0=4,resample=1]"}
    assert found == [f"waves/easy[{texts[l0]}-seed0]" for l0 in selected]


def test_tasks_are_chosen_and_added_by_their_address(project: pytest.Pytester) -> None:
    def ids(*tasks: str) -> list[str]:
        options = [part for task in tasks for part in ("--lrbench-task", task)]
        chosen = (*SMOKE, "--lrbench-method", "steady.py", *options, *LISTING)
        return ids_of(project.runpytest_subprocess("my_tasks", str(ROOT / "tasks" / "noise.py"), *chosen))

    assert ids("waves/hard") == ["waves/hard[steady-seed0]"]
    assert sorted(ids("waves[0.3|0.1]", "noise/1*")) == [
        "noise/1.0[steady-seed0]",
        "waves/easy[steady-seed0]",
        "waves[0.3][steady-seed0]",
    ]
    run = ("my_tasks", *SMOKE, "--lrbench-method", "steady.py")
    one = "my_tasks/waves.py::waves[0.3][steady-seed0]"
    result = project.runpytest_subprocess(one, *run[1:], "--lrbench-task", "waves[0.3|0.4]", "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["my_tasks/waves.py::waves[[]0.3[]][[]steady-seed0[]] PASSED*"])
    result = project.runpytest_subprocess(*run, "--lrbench-task", "waves/medium")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --lrbench-task: unknown task 'waves/medium': *waves/*"])
    result = project.runpytest_subprocess(*run, "--lrbench-task", "waves[high]")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*waves takes a number*"])
    assert "Traceback" not in output(result)


def test_a_clone_beside_an_installed_lrbench_collects(project: pytest.Pytester) -> None:
    shutil.copytree(ROOT / "tasks", "clone/tasks", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "conftest.py", "clone/conftest.py")
    result = project.runpytest_subprocess("clone/tasks", "--lrbench-suite", "smoke", *LISTING)
    assert result.ret == pytest.ExitCode.OK, output(result)
    assert ids_of(result) == [cell.id for cell in plan("smoke")]


def test_the_clones_conftest_needs_nothing_but_pytest() -> None:
    names = {name.partition(".")[0] for name in imports(ROOT / "conftest.py", at_load=True)}
    assert names - set(sys.stdlib_module_names) == {"pytest"}


def test_the_debugger_stops_inside_the_method(project: pytest.Pytester) -> None:
    command = (sys.executable, "-m", "pytest", "my_tasks", *SMOKE, *THREE, "-k", "easy", "--pdb")
    result = project.run(*command, stdin=b"q\n")
    result.stdout.fnmatch_lines(["> *broken.py(*)fit()", '-> raise ValueError("boom")'])
    assert list(Path("results").rglob("*.json")) == []


def test_the_built_in_tasks_from_elsewhere(project: pytest.Pytester) -> None:
    project.makeconftest('pytest_plugins = ["lrbench.plugin"]')  # needless, and harmless
    for arguments in (("--pyargs", "lrbench.tasks"), (str(ROOT / "tasks"),), (str(ROOT / "tasks" / "absorption.py"),)):
        chosen = (*SMOKE, "--lrbench-method", "steady.py", "-k", "absorption", "--collect-only", "-q", "-o", "addopts=")
        result = project.runpytest_subprocess(*arguments, *chosen)
        result.stdout.fnmatch_lines(["*absorption.py::absorption/even[[]steady-seed0]"])
        assert output(result).count("::") == 1
    assert not Path("results").exists()


def test_collecting_loads_no_torch_and_imports_no_file_twice(record_property: pytest.FixtureRequest) -> None:
    code = "import pytest, sys; code = pytest.main(['tasks', '--collect-only', '-p', 'no:cacheprovider']);"
    code += "print(code, 'torch' in sys.modules, [name for name in sys.modules if name.endswith(('noise', 'tasks'))])"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    record_property("seconds", round(time.monotonic() - began, 2))  # type: ignore[operator]
    *ids, last = done.stdout.splitlines()
    assert "tasks/superposition.py::superposition/4.00x[topk_sae-seed0]" in ids
    assert last.startswith("0 False "), done.stdout + done.stderr
    assert "'lrbench.tasks.noise'" in last
    assert re.search(r"'(tasks\.)?noise'|'tasks'", last) is None


def test_the_test_suite_of_the_clone_collects_no_task() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "--ignore-glob=*/test_[!r]*.py",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "tests/test_record.py::" in done.stdout
    assert "tasks/" not in done.stdout
    assert "lrbench:" not in done.stdout


def test_a_folder_holds_worlds_of_one_salt(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("my_tasks/waves.py", "--lrbench-suite", "smoke", "--lrbench-method", "steady.py")
    project.runpytest_inprocess(*words)
    monkeypatch.setenv("LRBENCH_SALT", "between us")
    result = project.runpytest_inprocess(*words)
    result.stdout.fnmatch_lines(["*holds records of public worlds, this run has salted ones*name another --out*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
