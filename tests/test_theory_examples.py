"""Every public function of the theory shows itself at work, and the example says the truth."""

from __future__ import annotations

import doctest
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lrbench import theory
from lrbench.theory.traps import trap

ROOM = Path(theory.__file__).parent
PUBLIC = [value for value in vars(theory).values() if inspect.isfunction(value)]


@pytest.mark.parametrize("function", [*PUBLIC, trap], ids=lambda function: function.__name__)
def test_an_example_runs_and_says_the_truth(function: Callable[..., object]) -> None:
    tests = doctest.DocTestFinder(recurse=False).find(function, function.__name__, globs={})
    runner = doctest.DocTestRunner(verbose=False)
    for test in tests:
        runner.run(test)
    found = runner.summarize(verbose=False)
    assert found.attempted > 0, "no example"
    assert found.failed == 0


def test_the_map_of_the_room_names_every_file_and_the_order_can_be_read() -> None:
    named = re.findall(r"^\| `(\w+)\.py`", (ROOM / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(path.stem for path in ROOM.glob("*.py") if path.stem != "__init__")
    for place, name in enumerate(named):
        later = {f"lrbench.theory.{other}" for other in named[place:]}
        read = set(re.findall(r"^from (\S+) import", (ROOM / f"{name}.py").read_text(encoding="utf-8"), re.MULTILINE))
        assert not read & later, f"{name}.py"
