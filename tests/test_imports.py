"""What a result rests on is read from the imports: a change anywhere below makes a record stale, a change elsewhere does not."""

from __future__ import annotations

from pathlib import Path

import pytest

import lrbench
from lrbench.catalogue.grid import without_grid
from lrbench.catalogue.imports import ROOT, hash_of_code, imports, module_file, rests_on
from lrbench.catalogue.methods import method_catalogue
from lrbench.catalogue.tasks import task_catalogue

PROJECT = Path(__file__).parent.parent


def names(*files: Path) -> set[str]:
    return {f"{path.parent.name}/{path.stem}" for path in rests_on(*files)}


def test_a_trap_rests_on_the_theory_that_builds_it() -> None:
    below = names(PROJECT / "tasks" / "traps.py")
    parts = ("traps", "absorption", "constructions", "blocks", "loss", "pattern")
    assert {f"theory/{part}" for part in parts} <= below
    assert not any(name.startswith("theory/") for name in names(PROJECT / "tasks" / "noise.py"))
    infos = {info.name: info.source_hash for info in task_catalogue()}
    assert infos["traps/dead"] != infos["noise/0.3"]


def test_a_method_of_the_loop_rests_on_the_whole_engine() -> None:
    below = names(PROJECT / "methods" / "topk_sae.py")
    engine = {f"engine/{path.stem}" for path in (ROOT / "engine").glob("*.py") if path.stem != "__init__"}
    assert engine <= below
    assert {"lrbench/jit", "lrbench/sdl", "lrbench/rules", "lrbench/terms", "lrbench/view"} <= below
    assert "lrbench/twins" not in below
    assert names(PROJECT / "methods" / "ksvd.py") >= {"methods/_pursuit", "lrbench/dictionary"}


def test_a_twin_rests_on_what_makes_it() -> None:
    found = {info.name: info.source_hash for info in method_catalogue()}
    assert len({found["topk_sae"], found["topk_sae+anchored"], found["relu_sae"]}) == 3


def test_the_hash_changes_with_what_is_imported_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lrbench"
    (package / "deep").mkdir(parents=True)
    (package / "deep" / "one.py").write_text("from lrbench.two import x\n")
    (package / "two.py").write_text("x = 1\n")
    (package / "three.py").write_text("x = 1\n")
    user = tmp_path / "user.py"
    user.write_text("def f():\n    from lrbench.deep import one\n")
    monkeypatch.setattr("lrbench.catalogue.imports.ROOT", package)
    before = hash_of_code(user)
    (package / "three.py").write_text("x = 2\n")
    assert hash_of_code(user) == before
    (package / "two.py").write_text("x = 2\n")
    assert hash_of_code(user) != before


def test_the_grid_of_a_method_that_another_is_made_of_is_no_part_of_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "lrbench"
    package.mkdir()
    (package / "two.py").write_text("GRID = {'lr': (0.1, 0.2)}\nMETHOD = 1\n")
    user = tmp_path / "user.py"
    user.write_text("from lrbench.two import METHOD\n")
    monkeypatch.setattr("lrbench.catalogue.imports.ROOT", package)
    before = hash_of_code(user, read=without_grid)
    (package / "two.py").write_text("GRID = {'lr': (0.1, 0.2, 0.3)}\nMETHOD = 1\n")
    assert hash_of_code(user, read=without_grid) == before
    (package / "two.py").write_text("GRID = {'lr': (0.1, 0.2, 0.3)}\nMETHOD = 2\n")
    assert hash_of_code(user, read=without_grid) != before


def test_names_taken_from_the_package_itself_lead_to_their_modules(tmp_path: Path) -> None:
    user = tmp_path / "user.py"
    user.write_text("import lrbench\n\nclass A(lrbench.Method):\n    sigma = lrbench.activation.ReLU()\n")
    assert {"lrbench/method", "lrbench/activation"} <= names(user)
    assert "lrbench/sdl" not in names(user)


def test_what_only_the_type_checker_sees_is_left_out(tmp_path: Path) -> None:
    user = tmp_path / "user.py"
    user.write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import lrbench.sdl\n")
    assert imports(user) == {"typing.TYPE_CHECKING"}


@pytest.mark.parametrize("name", ["numpy", "lrbench", "lrbench.nothing", "random.random"])
def test_what_is_no_module_of_ours_has_no_file(name: str) -> None:
    assert module_file(name) is None


def test_every_public_name_has_a_file() -> None:
    assert all(module_file(f"lrbench.{name}") for name in lrbench.__all__)
