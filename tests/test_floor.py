"""`make floor`: what `.ci/floor.py` reads from pyproject.toml."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from lrbench.catalogue.files import import_file

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def floor() -> ModuleType:
    return import_file(ROOT / ".ci" / "floor.py")


def test_the_lowest_version_that_a_requirement_allows(floor: ModuleType) -> None:
    lines = ["a>=1.2", "b_c>=0.9,<2,!=1.0", "d[extra]~=3.1", "e==4", "f>=1; python_version < '3'", "g>=1.9,>=1.10"]
    assert floor.lowest(lines) == ["a==1.2", "b_c==0.9", "d==3.1", "e==4", "g==1.10"]


@pytest.mark.parametrize("line", ["torch", "torch<3", "torch!=2.1"])
def test_a_requirement_without_a_lowest_version_is_named(floor: ModuleType, line: str) -> None:
    with pytest.raises(SystemExit, match=r"torch.*: has no lowest version"):
        floor.lowest([line])


def test_every_declared_dependency_has_a_floor_that_it_allows(floor: ModuleType) -> None:
    project = floor.tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    declared = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    pins = {Requirement(pin).name: next(iter(Requirement(pin).specifier)).version for pin in floor.lowest(declared)}
    assert pins["typer"] == "0.19"
    for requirement in map(Requirement, declared):
        assert requirement.name not in pins or requirement.specifier.contains(pins[requirement.name])
    assert {"torch", "setuptools", "typing_extensions"} <= pins.keys()


def test_a_command_that_breaks_or_is_silent_about_misuse_is_a_fault(floor: ModuleType, tmp_path: Path) -> None:
    command = tmp_path / "lrbench"
    command.write_text('#!/bin/sh\n[ "$1" = fly ] && { echo "error: x" >&2; exit 2; }\n[ "$1" != check ]\n')
    command.chmod(0o755)
    found = [line.split(":")[0] for line in floor.faults(command, tmp_path)]
    assert found == ["check topk_sae", *(" ".join(words) for words in floor.MISUSE if words != ["fly"])]
