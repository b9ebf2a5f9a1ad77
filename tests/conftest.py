"""Importing lrbench under the project's own tests also checks every tensor against its annotated shape and dtype."""

from __future__ import annotations

import sys
from collections.abc import Callable
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

# Files are handed to processes whole and in this order: the longest first, so that none is left alone with one at the end.
LONGEST = (
    "test_plugin",
    "test_methods_conform",
    "test_hostile",
    "test_studies",
    "test_runner",
    "test_docs",
    "test_kill",
    "test_boundary",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    place = {f"{name}.py": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for a model's activations: every class of an item adds a direction of its own, as in a linear representation."""
    import torch

    from lrbench.real import world
    from lrbench.real.items import classes, labels
    from lrbench.real.models import Model
    from lrbench.seeds import generator

    def activations(model: Model, init: str, sites: tuple[str, ...], texts: list[str]) -> dict[str, torch.Tensor]:
        rng = generator(0, "stand-in")
        lab = torch.tensor(labels())
        found = {}
        for site in sites:
            directions = torch.randn(len(classes()), model.dim, generator=rng)
            noise = torch.randn(len(lab), model.dim, generator=rng)
            found[site] = directions[lab].sum(1) + 0.3 * noise + 5.0
        return found

    monkeypatch.setattr(world, "activations", activations)
