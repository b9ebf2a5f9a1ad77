"""`lrbench tune`: a grid is swept, its cells are kept, and the chosen values stand where the method reads its defaults."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lrbench.catalogue.files import modules
from lrbench.catalogue.grid import grid_of, settings_of
from lrbench.catalogue.methods import load_method, select_methods
from lrbench.catalogue.tasks import load_task
from lrbench.cli import main
from lrbench.errors import LrbenchError
from lrbench.store import Store
from lrbench.tuning.choice import FIRST_SEED, TASKS
from lrbench.tuning.defaults import check_defaults, check_writable, with_defaults, write_text

EXEMPLARS = '''\
"""Exemplars: every latent is the direction of a sample, as far as it is no noise."""

from dataclasses import dataclass

import torch

import lrbench


@dataclass(frozen=True)
class Exemplars(lrbench.Method):
    share: float = 0.0  # ρ: of the sample
    skip: int = 0

    def fit(self, view, seed=0):
        if self.share > 1.0:
            raise ValueError("more than the whole")
        samples = view.head(self.skip + view.budget.n_latents)[0][self.skip :]
        rows = self.share * samples + (1 - self.share) * torch.randn(samples.shape)
        rows = torch.nn.functional.normalize(rows, dim=1)
        return lrbench.Dictionary(rows, None, rows, None, lrbench.activation.TopK(view.budget.k()))


GRID = {"share": (0, 1.0)}
METHOD = Exemplars()
'''
OPTIONS = ("--suite", "smoke", "--seeds", "1", "--device", "cpu", "--workers", "1")


@pytest.fixture
def exemplars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "exemplars.py"
    path.write_text(EXEMPLARS, encoding="utf-8")
    return path


@pytest.fixture
def one_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrbench.tuning.choice.TASKS", TASKS[:1])


def tune(*arguments: str) -> int:
    return main(["tune", *OPTIONS, *arguments])


@pytest.mark.usefixtures("one_task")
def test_a_file_outside_the_clone_gets_its_default(exemplars: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exemplars.chmod(0o640)
    assert tune("exemplars.py", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert exemplars.read_text(encoding="utf-8") == EXEMPLARS
    assert "+    share: float = 1.0  # ρ: of the sample\n" in shown
    assert "dry run: nothing is written" in shown
    assert tune("exemplars.py") == 0
    shown = capsys.readouterr().out
    assert "2 were stored already, 0 ran" in shown
    assert exemplars.read_text(encoding="utf-8") == EXEMPLARS.replace("share: float = 0.0", "share: float = 1.0")
    assert exemplars.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in exemplars.parent.iterdir() if path.name.endswith((".py", ".tmp"))] == ["exemplars.py"]
    page = Path("results/tune-exemplars-smoke.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert [line.split("|")[-2].strip(" *") for line in lines[2:]] == ["default", "chosen"]
    assert Path("results/figures/tune-exemplars-smoke.png").read_bytes().startswith(b"\x89PNG")
    records, problems = Store("results").read()
    assert not problems
    assert {(record.method, record.seed, record.study) for record in records} == {
        (method, FIRST_SEED, "tune") for method in ("exemplars", "exemplars[share=1]")
    }
    scores = {record.hyperparameters["share"]: record.scores["headline"] for record in records}
    assert f"{scores[1.0]:.3f}" in lines[-1]
    assert f"{scores[0.0]:.3f}" in lines[-2]
    assert tune("exemplars.py") == 0
    assert "stays as it is: its defaults are the choice" in capsys.readouterr().out


def test_a_run_that_is_killed_goes_on(exemplars: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "lrbench.cli", "tune", "exemplars.py", *OPTIONS]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while run.poll() is None and len([*Path("results").rglob("*.json")]) < 3:
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    before = {path: path.stat().st_mtime_ns for path in Path("results").rglob("*.json")}
    assert 3 <= len(before) < 2 * len(TASKS)
    assert exemplars.read_text(encoding="utf-8") == EXEMPLARS
    assert tune("exemplars.py") == 0
    assert f"{2 * len(TASKS)} cells in results: {len(before)} were stored already" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == changed for path, changed in before.items()), "a stored cell ran twice"
    assert load_method(exemplars).hyperparameters() == {"share": 1.0, "skip": 0}


@pytest.mark.usefixtures("one_task")
def test_a_cell_that_fails_leaves_the_file_as_it_is(exemplars: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (load_task(TASKS[0], "smoke", FIRST_SEED + place).fit_seed for place in range(2))
    text = EXEMPLARS.replace("self.share > 1.0", f"self.share and seed == {second}")
    exemplars.write_text(text, encoding="utf-8")
    assert tune("exemplars.py", "--seeds", "2") == 1
    shown = capsys.readouterr().out
    assert "exemplars.py stays as it is: 1 cells failed" in shown
    assert "chosen" in shown, "what is known is shown"
    assert exemplars.read_text(encoding="utf-8") == text
    exemplars.write_text(text.replace(str(second), str(first)), encoding="utf-8")
    assert tune("exemplars.py") == 2
    assert "at which every setting of the grid has a score: nothing to choose by" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "argument", "message"),
    [
        ((), "nowhere.py", "cannot be read"),
        ((), "truth", "declares no grid to tune over; add a line such as GRID = {"),
        ((), "exemplars.py[skip=1]", "expected a method as it is declared, such as exemplars.py"),
        ((), "topk_sae+anchored", "expected a method as it is declared, such as topk_sae"),
        ((), "*topk_sae", "names 2 methods, expected one"),
        (('GRID = {"share": (0, 1.0)}\n', ""), "exemplars.py", "declares no grid to tune over"),
        (("(0, 1.0)", "(0, torch.pi)"), "exemplars.py", "expected literal values"),
        (("(0, 1.0)", "0.5"), "exemplars.py", "GRID has share=0.5: expected a tuple of finite numbers or words"),
        (("(0, 1.0)", "(0, 1e999)"), "exemplars.py", "GRID has share=(0, inf): expected a tuple of finite"),
        (("(0, 1.0)", "(0, 0.0)"), "exemplars.py", "expected every value once"),
        (("(0, 1.0)", "(1.0,)"), "exemplars.py", "GRID has 1 settings: expected 2 to 100"),
        (('"share": (', '"shore": ('), "exemplars.py", "unknown hyper-parameter 'shore': did you mean share"),
        (("(0, 1.0)", '(0, "much")'), "exemplars.py", "share='much', expected a number"),
        (("share: float = 0.0", "share: float = 0.0 * len(__doc__)"), "exemplars.py", "is 0.0 * len(__doc__), expected a literal"),
        (("METHOD = Exemplars()", "METHOD = [Exemplars()][0]"), "exemplars.py", "METHOD is not a call such as SDL(...)"),
    ],
)  # fmt: skip
def test_what_cannot_be_tuned_is_one_line_before_any_cell_runs(
    changed: tuple[str, str], argument: str, message: str, exemplars: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = EXEMPLARS.replace(*changed) if changed else EXEMPLARS
    assert not changed or text != EXEMPLARS
    exemplars.write_text(text, encoding="utf-8")
    assert tune(argument) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not Path("results").exists()
    assert exemplars.read_text(encoding="utf-8") == text


@pytest.mark.usefixtures("one_task")
def test_a_dry_run_shows_the_choice_where_the_file_cannot_be_changed(
    exemplars: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exemplars.write_text(EXEMPLARS.replace("= 0.0", "= 0.0 * len(__doc__)"), encoding="utf-8")
    assert tune("exemplars.py", "--dry-run") == 2
    said = capsys.readouterr()
    assert "chosen" in said.out
    assert "expected a literal such as 1.0" in said.err


def test_a_file_that_cannot_be_written_is_named(exemplars: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # whoever is root may write everywhere
    with pytest.raises(LrbenchError, match=r"exemplars\.py: cannot be written; change the file yourself"):
        check_writable(exemplars)
    with pytest.raises(LrbenchError, match="cannot be written"):
        write_text(exemplars, "METHOD = 1\n")


HEAD = "from lrbench.rules import JumpReLU, TopK\nfrom lrbench.sdl import SDL\nfrom lrbench.terms import *\nimport lrbench.terms as t\n"
LOG = '''\
class Log(t.Term):
    """é"""

    weight: float = 0.1
    name = "log"

    def __call__(self, step):
        return 0.0
'''


@pytest.mark.parametrize(
    ("before", "values", "after"),
    [
        ("SDL(rule=TopK(), lr=3e-3, l0=2)", {"lr": 0.01}, "SDL(rule=TopK(), lr=0.01, l0=2)"),
        ("SDL(rule=TopK())", {"lr": 0.01, "k": 4}, "SDL(rule=TopK(k=4), lr=0.01)"),
        ("SDL(\n    rule=TopK(),  # é\n)", {"batch_size": None}, "SDL(\n    rule=TopK(), batch_size=None,  # é\n)"),
        ("SDL(rule=TopK(), terms=(AuxK(),))", {"auxk_weight": 0.25}, "SDL(rule=TopK(), terms=(AuxK(weight=0.25),))"),
        ("SDL(rule=TopK(), terms=(t.AuxK(1 / 4),))", {"auxk_weight": 0.25}, "expected keywords only, such as weight=0.25"),
        ("SDL(rule=TopK(), terms=[AuxK(weight=1 / 4)])", {"auxk_weight": 0.5}, "SDL(rule=TopK(), terms=[AuxK(weight=0.5)])"),
        ("SDL(terms=(L1(), Log()))", {"log_weight": 2.0, "l1_weight": 3.0}, "SDL(terms=(L1(weight=3.0), Log(weight=2.0)))"),
        ("SDL(rule=JumpReLU(bandwidth=-1))", {"bandwidth": 0.3}, "SDL(rule=JumpReLU(bandwidth=0.3))"),
        ("SDL(rule=TopK(), terms=(Prefixes(shares=(0.1, 0.2)),))", {"prefix_shares": [0.5]},
         "SDL(rule=TopK(), terms=(Prefixes(shares=(0.5,)),))"),
        ("SDL(rule=TopK(), lr=(0.1))", {"l0": 2.0}, "there is no safe place for l0=2.0"),
        ("SDL(rule=TopK(), lr=RATE)", {"lr": 0.1}, "line 13: the default of lr is RATE, expected a literal such as 0.1"),
        ("SDL(rule=RULE)", {"k": 2}, "the default of k is not found in this file"),
        ("SDL(**parts)", {"lr": 0.1}, "expected keywords only, such as lr=0.1"),
    ],
)  # fmt: skip
def test_a_declaration_gets_its_defaults(before: str, values: dict[str, object], after: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_bytes(f"{HEAD}{LOG}METHOD = {before}\n".encode())
    if after.startswith("SDL"):
        assert with_defaults(path, values) == f"{HEAD}{LOG}METHOD = {after}\n"
    else:
        with pytest.raises(LrbenchError, match=r"^.*mine\.py") as error:
            with_defaults(path, values)
        assert after in str(error.value)


def test_ends_of_lines_stay(exemplars: Path) -> None:
    exemplars.write_bytes(EXEMPLARS.replace("\n", "\r\n").encode())
    assert with_defaults(exemplars, {"share": 0.5}) == EXEMPLARS.replace("= 0.0", "= 0.5").replace("\n", "\r\n")


def test_an_inherited_field_and_a_keyword_of_the_call_are_found(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    text = EXEMPLARS.replace("METHOD = Exemplars()", "class Mine(Exemplars):\n    pass\n\n\nMETHOD = Mine(skip=3)")
    path.write_text(text, encoding="utf-8")
    found = with_defaults(path, {"share": 0.5, "skip": 1})
    assert found == text.replace("share: float = 0.0", "share: float = 0.5").replace("skip=3", "skip=1")


def test_a_change_that_does_not_take_hold_is_refused(exemplars: Path) -> None:
    text = EXEMPLARS.replace("METHOD = Exemplars()", "METHOD = Exemplars(0.25)")
    exemplars.write_text(text, encoding="utf-8")
    changed = with_defaults(exemplars, {"share": 1.0})
    with pytest.raises(LrbenchError, match=r"its defaults would differ from the chosen ones in \[share=1\]"):
        check_defaults(exemplars, changed, {"share": 1.0, "skip": 0})
    with pytest.raises(LrbenchError, match="with the chosen defaults it does not load"):
        check_defaults(exemplars, changed.replace("import torch", "import torsch"), {"share": 1.0, "skip": 0})
    check_defaults(exemplars, EXEMPLARS, {"share": 0.0, "skip": 0})


@pytest.mark.parametrize("method", [name for name, path in modules("methods").items() if "GRID" in path.read_text()])
def test_every_setting_of_the_catalogue_can_be_written(method: str, tmp_path: Path) -> None:
    ours, path = modules("methods")[method], tmp_path / f"{method}.py"
    declared = load_method(method).hyperparameters()
    for setting in (settings_of(grid_of(ours))[0], settings_of(grid_of(ours))[-1]):
        path.write_text(with_defaults(ours, setting), encoding="utf-8")
        assert load_method(path).hyperparameters() == declared | setting


def test_a_grid_is_no_part_of_the_hash(exemplars: Path) -> None:
    def hashed(text: str) -> str:
        exemplars.write_text(text, encoding="utf-8")
        return select_methods(["exemplars.py"])[0].source_hash

    plain = hashed(EXEMPLARS.replace('GRID = {"share": (0, 1.0)}\n', ""))
    assert hashed(EXEMPLARS) == plain
    assert hashed(EXEMPLARS.replace("(0, 1.0)", "(\n    0,\n    1.0,\n    2.0,\n)")) == plain
    assert hashed(EXEMPLARS.replace("= 0.0", "= 0.5")) != plain
    used = EXEMPLARS.replace("self.skip + view", 'len(GRID["share"]) + view')
    assert hashed(used) != hashed(used.replace("(0, 1.0)", "(0, 1.0, 2.0)")), "a grid that is used is part of it"
    beside = EXEMPLARS.replace("1.0)}\nMETHOD = Exemplars()", "1.0)}; METHOD = Exemplars()")
    assert hashed(beside) != hashed(beside.replace("Exemplars()", "Exemplars(skip=1)"))
