"""Points and worlds of the settling test: how sparse, how far bent, and which methods are trained there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lrbench.catalogue.methods import method_catalogue
from lrbench.catalogue.tasks import families, load_task, select_tasks
from lrbench.study import Block
from lrbench.task import Task, TaskSpec, get_suite

FAMILY = "settling"
OWN, HIERARCHY, POLYSEMANTIC, DEAD, ROTATED = "own", "own-hierarchy", "polysemantic", "dead", "rotated"
TWINS = {  # what is trained in which world: ("",) is the plain method
    OWN: ("", "anchored", "resample"),
    POLYSEMANTIC: ("", "resample"),
    DEAD: ("", "resample"),
    ROTATED: ("",),
    HIERARCHY: ("",),
}
THEORY = "truth"  # the row that nobody trains: the constructions themselves are measured beside it
SEEDS = {"smoke": 2, "quick": 3, "standard": 3}
RATES, BENDS = (0.05, 0.2), (0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Point:
    """Where a prediction is tested: the activation probability 1−S (0 for 1/n, the base) and the bend ε."""

    rate: float = 0.0
    bend: float = 0.0

    def task(self, kind: str) -> str:
        """The address of a kind of world at this point."""
        return f"{FAMILY}[{kind},{self.rate!r},{self.bend!r}]"


@dataclass(frozen=True)
class Plan:
    """The points of a suite: the base, those along 1−S and those along ε, both through the base.

    Parameters
    ----------
    base_rate
        1/n.
    """

    base_rate: float
    rates: tuple[Point, ...]
    bends: tuple[Point, ...]

    @property
    def base(self) -> Point:
        """1−S = 1/n, ε = 0."""
        return Point()

    @property
    def points(self) -> list[Point]:
        """Every point once, the base first."""
        return list(dict.fromkeys([self.base, *self.rates, *self.bends]))

    def rate(self, point: Point) -> float:
        """1−S at a point."""
        return point.rate or self.base_rate


def plan_of(suite: str) -> Plan:
    """Return a suite's points."""
    base = 1.0 / get_suite(suite).scale.task().world.n_features
    if suite == "smoke":
        return Plan(base, (Point(), Point(RATES[1])), (Point(), Point(0.0, BENDS[2])))
    others = (0.25 * base, 3.0 * base, *RATES)
    rates = sorted([Point(), *map(Point, others)], key=lambda point: point.rate or base)
    return Plan(base, tuple(rates), (Point(), *(Point(0.0, bend) for bend in BENDS)))


def methods_of() -> list[str]:
    """Return the catalogue's SDL methods."""
    return [info.name for info in method_catalogue() if info.kind == "sdl" and not info.twin]


def blocks(suite: str, seeds: int | None, methods: Sequence[str] | None = None) -> list[Block]:
    """Return the cells of the settling test, point by point; ``methods`` are the catalogue's SDL methods by default."""
    methods, known = methods_of() if methods is None else methods, {info.name for info in method_catalogue()}
    count = SEEDS[suite] if seeds is None else seeds
    found = []
    for point in plan_of(suite).points:
        for kind, twins in TWINS.items():
            names = [f"{method}+{twin}" if twin else method for method in methods for twin in twins]
            named = [THEORY] * (kind == OWN) + [name for name in names if name in known]
            found.append(Block([point.task(kind)], named, range(count)))
    return found


def places(suite: str) -> dict[str, tuple[str, Point]]:
    """Return which kind of world at which point a task's name stands for."""
    return {
        select_tasks(suite, [point.task(kind)])[0].name: (kind, point)
        for point in plan_of(suite).points
        for kind in TWINS
    }


def task_of(suite: str, kind: str, point: Point, seed: int) -> Task:
    """Return a kind of world at a point."""
    return load_task(point.task(kind), suite, seed)


def scale_of(suite: str) -> TaskSpec:
    """Return what is asked at the base point: sizes and budget."""
    family = families()[FAMILY]
    return family.task(OWN, suite).spec
