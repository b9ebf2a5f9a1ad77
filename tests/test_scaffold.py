"""`lrbench new`: where the file goes, what is refused, and that it is a method as it stands."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import lrbench
from lrbench.catalogue.methods import select_methods
from lrbench.cli import main
from lrbench.contract.check import check_method
from lrbench.contract.subject import one_thread
from lrbench.running.cell import run_cell
from lrbench.running.runner import plan

ROOT = Path(__file__).parent.parent


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def code_lines(text: str) -> int:
    """Count lines that hold code: neither comments nor docstrings nor blank."""
    docstrings = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    silent = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return len({token.start[0] for token in tokens if token.type not in silent} - docstrings)


def test_outside_a_clone_it_goes_here_and_passes_the_check(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "my_sae"]) == 0
    assert "lrbench check my_sae.py" in capsys.readouterr().out
    assert code_lines((here / "my_sae.py").read_text()) <= 29
    info = select_methods(["my_sae.py"])[0]
    assert info.summary.startswith("my_sae: ")
    assert info.kind == "sdl"
    assert {verdict.status for verdict in check_method(info)} == {"ok"}


def test_it_learns(here: Path) -> None:
    assert main(["new", "my_sae"]) == 0
    task = lrbench.load_task("superposition/1.30x", "smoke")
    with one_thread():
        assert lrbench.score(lrbench.load_method("my_sae.py").fit(task.view()), task)["headline"] > 0.5


def test_a_trap_skips_it_as_it_would_not_start_there(here: Path) -> None:
    assert main(["new", "my_sae"]) == 0
    (cell,) = plan("smoke", ["traps/dead"], ["my_sae.py"])
    record = run_cell(cell)
    assert (record.status, record.reason) == ("skipped", "it cannot start at a given point, as a trap asks")


def test_the_worked_example_is_an_edit_of_it(here: Path) -> None:
    page = (ROOT / "docs" / "submit.md").read_text()
    edit = page.split("```diff\n")[1].split("```")[0].splitlines()
    before, after = ("\n".join(line[1:] for line in edit if line[0] in kept) for kept in (" -", " +"))
    assert main(["new", "decay_sae"]) == 0
    text = Path("decay_sae.py").read_text()
    assert text.count(before) == 1
    Path("decay_sae.py").write_text(text.replace(before, after))
    assert {verdict.status for verdict in check_method(select_methods(["decay_sae.py"])[0])} == {"ok"}


def test_it_is_clean_in_the_eyes_of_the_project(here: Path) -> None:
    assert main(["new", "my_sae"]) == 0
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--config", str(ROOT / "pyproject.toml"), "my_sae.py"]
        done = subprocess.run(ruff, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_inside_a_clone_it_goes_into_methods(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (here / "methods").mkdir()
    (here / "docs").mkdir()
    monkeypatch.chdir(here / "docs")
    assert main(["new", "my_sae"]) == 0
    assert [path.name for path in here.rglob("*.py")] == ["my_sae.py"]
    assert (here / "methods" / "my_sae.py").is_file()


def test_another_project_is_no_clone(here: Path) -> None:
    (here / "pyproject.toml").write_text('[project]\nname = "another"\n')
    (here / "methods").mkdir()
    assert main(["new", "my_sae"]) == 0
    assert (here / "my_sae.py").is_file()


@pytest.mark.parametrize("name", ["dictionary", "train_view", "method", "top_k"])
def test_a_name_does_not_hide_what_the_file_imports(here: Path, name: str) -> None:
    assert main(["new", name]) == 0
    assert isinstance(lrbench.load_method(f"{name}.py"), lrbench.Method)
    tree = ast.parse((here / f"{name}.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert not imported & {node.name for node in tree.body if isinstance(node, ast.ClassDef)}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("3sae", "cannot be a method's name"),
        ("my-sae", "cannot be a method's name"),
        ("a/b", "cannot be a method's name"),
        ("_mine", "cannot be a method's name"),
        ("class", "cannot be a method's name"),
        ("topk_sae", "exists already"),
        ("there", "exists already"),
    ],
)
def test_bad_names_are_one_line_and_exit_code_2(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    (here / "there.py").write_text("precious")
    assert main(["new", name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
    assert [(path.name, path.read_text()) for path in here.iterdir()] == [("there.py", "precious")]


def test_a_folder_that_cannot_be_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "pyproject.toml").write_text('name = "linear-representation-bench"\n')
    assert main(["new", "my_sae"]) == 2
    assert "cannot write" in capsys.readouterr().err
