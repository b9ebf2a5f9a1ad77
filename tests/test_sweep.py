"""The default hyper-parameters are the sweep's winners, and its page shows the results that are stored."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from lrbench.catalogue.methods import load_method, method_catalogue
from lrbench.task import SUITES

ROOT = Path(__file__).parent.parent
RESULTS = json.loads((ROOT / "benchmarks" / "sweep.json").read_text())


@pytest.fixture(scope="module")
def sweep() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sweep", ROOT / "benchmarks" / "sweep.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("method", sorted(RESULTS))
def test_defaults_are_the_winners(method: str, sweep: ModuleType) -> None:
    winner = sweep.best(RESULTS[method])["setting"]
    declared = load_method(method).hyperparameters()
    assert {name: declared[name] for name in winner} == winner


def test_every_trained_method_was_swept(sweep: ModuleType) -> None:
    trained = {info.name.split("+")[0] for info in method_catalogue() if info.twin}
    assert trained <= set(RESULTS)
    assert set(RESULTS) == set(sweep.GRIDS)


def test_the_page_shows_the_stored_results(sweep: ModuleType) -> None:
    assert (ROOT / "docs" / "sweep.md").read_text() == sweep.page(RESULTS)


def test_validation_seeds_are_no_suites_seeds(sweep: ModuleType) -> None:
    assert min(sweep.SEEDS) >= max(suite.seeds for suite in SUITES.values())
