"""What tests share. pytest also loads this file for `pytest tasks`, so it imports nothing of lrbench before a test asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import lrbench
    from lrbench.structure import WorldSpec


@pytest.fixture
def as_users_run_it() -> Iterator[None]:
    """Switch the shape checks off for a test of what lrbench itself says about a wrong shape."""
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def load_task() -> Callable[..., lrbench.Task]:
    """Return tasks that are built once for all tests."""
    import lrbench

    return lru_cache(maxsize=None)(lrbench.load_task)


@pytest.fixture(scope="session")
def specs() -> dict[str, WorldSpec]:
    """Return one small law per structure."""
    from lrbench.structure import Forest, Groups, Hierarchy, Magnitudes, WorldSpec

    return {
        "independent": WorldSpec(24, (16, 12), rate=0.1, interference=0.4),
        "zipf": WorldSpec(24, (16, 12), rate=0.05, interference=0.4, zipf=1.0),
        "log-uniform": WorldSpec(24, (16, 12), rate=0.05, interference=0.4, decades=1.5),
        "uneven groups": WorldSpec(26, (16, 12), rate=0.1, interference=0.4, decades=0.9, structure=Groups(4, 0.6)),
        "groups": WorldSpec(26, (16, 12), rate=0.05, interference=0.4, structure=Groups(size=4, cohesion=0.6)),
        "exclusive": WorldSpec(
            26, (16, 12), rate=0.1, interference=0.4, structure=Hierarchy((3,), 0.2, 0.6, fraction=0.8)
        ),
        "overlapping": WorldSpec(26, (16, 12), interference=0.4, structure=Hierarchy((3,), 0.2, 0.3, exclusive=False)),
        "deep": WorldSpec(30, (16, 12), interference=0.4, structure=Hierarchy((2, 2, 1), 0.3, 0.7)),
        "deep overlapping": WorldSpec(
            30, (16, 12), interference=0.4, structure=Hierarchy((3, 2), 0.3, 0.5, exclusive=False)
        ),
        "forest": WorldSpec(
            26,
            (16, 12),
            interference=0.4,
            structure=Forest(2, (2, 3)),
            zipf=0.5,
            rate_range=(0.02, 0.5),
            magnitudes=Magnitudes(1.5, 1.0, 0.8, 0.0),
        ),
    }


@pytest.fixture(scope="session")
def worlds(specs: dict[str, WorldSpec]) -> dict[str, lrbench.World]:
    """Return the world of every law in `specs`, all with seed 0."""
    import lrbench

    return {name: lrbench.World(spec, seed=0) for name, spec in specs.items()}
