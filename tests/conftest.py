"""What the tests share. Importing lrbench under pytest also checks every tensor against its annotated shape and dtype."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import ModuleType
from typing import Any, get_args

import hypothesis
import jaxtyping
import pytest
from beartype import BeartypeConf, beartype


def shapes_only(function: Callable[..., Any]) -> Callable[..., Any]:
    """Type-check what has a shape. The rest is mypy's, and beartype knows neither Self nor protocols under jaxtyping's hook."""
    hints = function.__annotations__
    function.__annotations__ = {name: hint for name, hint in hints.items() if _has_shape(hint)}
    return beartype(function, conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as for mypy


def _has_shape(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    parts = get_args(hint)
    if ... in parts:  # beartype draws the item that it looks at from the global generator, which no fit may touch
        return False
    return any(_has_shape(part) for part in parts)


early = {name for name in sys.modules if name.startswith("lrbench.")} - {
    "lrbench.plugin"
}  # pytest loads the plugin first
assert not early, f"the hook comes too late: {early} are imported already"
sys.modules["lrbench_shapes"] = ModuleType("lrbench_shapes")  # the hook takes a checker by its importable name only
sys.modules["lrbench_shapes"].check = shapes_only  # type: ignore[attr-defined]
jaxtyping.install_import_hook("lrbench", "lrbench_shapes.check")
hypothesis.settings.register_profile("lrbench", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("lrbench")

import lrbench  # noqa: E402 (after the hook)
from lrbench.structure import Groups, Hierarchy, WorldSpec  # noqa: E402


@pytest.fixture
def as_users_run_it() -> Iterator[None]:
    """Switch the shape checks off for a test of what lrbench itself says about a wrong shape."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def load_task() -> Callable[..., lrbench.Task]:
    """Return tasks that are built once for all tests."""
    return lru_cache(maxsize=None)(lrbench.load_task)


@pytest.fixture(scope="session")
def specs() -> dict[str, WorldSpec]:
    """Return one small law a structure."""
    return {
        "independent": WorldSpec(24, (16, 12), rate=0.1, interference=0.4),
        "zipf": WorldSpec(24, (16, 12), rate=0.05, interference=0.4, zipf=1.0),
        "groups": WorldSpec(26, (16, 12), rate=0.05, interference=0.4, structure=Groups(size=4, cohesion=0.6)),
        "exclusive": WorldSpec(
            26, (16, 12), rate=0.1, interference=0.4, structure=Hierarchy((3,), 0.2, 0.6, fraction=0.8)
        ),
        "overlapping": WorldSpec(26, (16, 12), interference=0.4, structure=Hierarchy((3,), 0.2, 0.3, exclusive=False)),
        "deep": WorldSpec(30, (16, 12), interference=0.4, structure=Hierarchy((2, 2, 1), 0.3, 0.7)),
        "deep overlapping": WorldSpec(
            30, (16, 12), interference=0.4, structure=Hierarchy((3, 2), 0.3, 0.5, exclusive=False)
        ),
    }


@pytest.fixture(scope="session")
def worlds(specs: dict[str, WorldSpec]) -> dict[str, lrbench.World]:
    """Return the world of every law in `specs`, all with seed 0."""
    return {name: lrbench.World(spec, seed=0) for name, spec in specs.items()}
