"""How often `lrbench compare` is wrong: a small form of the simulation whose table docs/compare.md shows."""

from __future__ import annotations

from pathlib import Path
from statistics import stdev
from types import ModuleType

import pytest

from lrbench.catalogue.files import import_file
from lrbench.catalogue.methods import methods_for
from lrbench.catalogue.tasks import select_tasks
from lrbench.leaderboard.compare import DEFAULT_METRICS
from lrbench.leaderboard.noise import NOISY
from lrbench.metric_table import METRICS

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    return import_file(ROOT / "benchmarks" / "compare_simulation.py")


SMALL = [(1, 1, 1), (27, 1, 1), (5, 1, 3), (5, 3, 2), (5, 8, 1), (1, 1, 8)]


@pytest.mark.parametrize("law", ["training", "normal"])
@pytest.mark.parametrize("shape", SMALL)
def test_noise_is_red_in_at_most_one_of_twenty(simulation: ModuleType, shape: tuple[int, int, int], law: str) -> None:
    pairs = 40 if shape[0] == 27 else 100
    found = simulation.verdicts(simulation.load_noise(), simulation.Shape(*shape), law, "nothing", pairs)
    assert found["regression"] <= 0.05 * pairs
    assert set(found) <= {"regression", "no regression", "cannot tell"}


@pytest.mark.parametrize("shape", SMALL)
@pytest.mark.parametrize("case", ["one cell collapses", "one seed collapses"])
def test_a_collapse_is_red(simulation: ModuleType, shape: tuple[int, int, int], case: str) -> None:
    for law in simulation.LAWS:
        found = simulation.verdicts(simulation.load_noise(), simulation.Shape(*shape), law, case, 10)
        assert found["regression"] == 10, law


@pytest.mark.parametrize("name", DEFAULT_METRICS)
@pytest.mark.parametrize("shape", [(5, 3, 2), (5, 8, 1)])
def test_a_drop_of_three_tolerances_is_red_in_19_of_20(
    simulation: ModuleType, shape: tuple[int, int, int], name: str
) -> None:
    for law in simulation.LAWS:
        found = simulation.verdicts(simulation.load_noise(), simulation.Shape(*shape), law, f"drop in {name}", 40)
        assert found["regression"] >= 38, law


@pytest.mark.parametrize("shape", [(1, 1, 1), (27, 1, 1), (5, 1, 3)])
def test_a_drop_on_equal_runs_is_red_or_said_to_be_untold(simulation: ModuleType, shape: tuple[int, int, int]) -> None:
    noise = simulation.load_noise()
    for name in DEFAULT_METRICS:
        found = simulation.verdicts(noise, simulation.Shape(*shape), "none", f"drop in {name}", 40)
        assert found["regression"] >= 38
        assert found["no regression"] == 0
    assert simulation.verdicts(noise, simulation.Shape(*shape), "none", "nothing", 10) == {"no regression": 10}


def test_the_page_shows_the_simulation(simulation: ModuleType) -> None:
    page = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")
    lines = page.partition(simulation.BEGIN)[2].partition(simulation.END)[0].splitlines()
    rows = {tuple(row[:2]): row[2:] for row in ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[4:])}
    names = {law: words for law, words in simulation.LAWS.items()}
    assert set(rows) == {
        (" × ".join(map(str, shape)), words) for shape in simulation.SHAPES for words in names.values()
    }
    for (shape, law), entries in rows.items():
        red = dict(zip(simulation.CASES, (float(entry.split(" / ")[0]) for entry in entries), strict=True))
        assert red["nothing"] <= 5
        assert red["one cell collapses"] >= 95
        assert red["one seed collapses"] >= 95
        testable = law == names["none"] or shape in ("5 × 3 × 2", "5 × 8 × 1", "27 × 8 × 2", "27 × 8 × 3")
        assert not testable or min(red["drop in headline"], red["drop in f1"]) >= 95, (shape, law)


def test_every_method_was_measured(simulation: ModuleType) -> None:
    noise = simulation.load_noise()
    assert sorted(noise) == sorted(info.name for info in methods_for() if info.name != "oracle")  # 1 by definition
    tasks = sorted(info.name for info in select_tasks("quick"))
    for method, scores in noise.items():
        for name in DEFAULT_METRICS:
            assert sorted(scores[name]) == tasks, method
            assert {len(values) for values in scores[name].values()} == {4}, method


def test_the_noise_that_compare_knows_is_the_one_that_was_measured(simulation: ModuleType) -> None:
    measured: dict[tuple[str, str, str], float] = {}
    references = {info.name for info in methods_for() if info.kind == "reference"}
    for method, scores in simulation.load_noise().items():
        for name, tasks in scores.items():
            for task, values in tasks.items():
                if method not in references and stdev(values) > METRICS[name].tolerance:
                    key = (method, task.split("/")[0], name)
                    measured[key] = max(measured.get(key, 0.0), stdev(values))
    assert {key: pytest.approx(value, abs=5e-5) for key, value in measured.items()} == NOISY
