"""Points and worlds of the settling test: which law, how sparse, how far bent, and which methods are trained there."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lrbench.registry import families, method_catalogue
from lrbench.task import Scale, Task, get_suite

FAMILY = "traps"  # its levels are the kinds of worlds here
OWN, HIERARCHY, POLYSEMANTIC, DEAD, ROTATED = "own", "own-hierarchy", "polysemantic", "dead", "rotated"
TWINS = {  # what is trained in which world: ("",) is the plain method
    OWN: ("", "anchored", "resample"),
    POLYSEMANTIC: ("", "resample"),
    DEAD: ("", "resample"),
    ROTATED: ("",),
    HIERARCHY: ("",),
}
THEORY = "theory"  # stands for the constructions themselves, which nobody trains
STEPS = {"smoke": 40, "quick": 400}  # a training is shorter than the suite's own where it is repeated a thousand times
RATES, BENDS = (0.05, 0.2), (0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Point:
    """Where a prediction is tested: the activation probability 1−S and the bend ε."""

    rate: float
    bend: float = 0.0


@dataclass(frozen=True)
class Cell:
    """One training: world, point, seed, method and twin."""

    suite: str
    kind: str
    point: Point
    seed: int
    method: str
    twin: str = ""

    @property
    def id(self) -> str:
        """The cell for a person."""
        name = self.method + (f"+{self.twin}" if self.twin else "")
        return f"{name} in {self.kind}, 1−S = {self.point.rate:.4g}, ε = {self.point.bend:g}, seed {self.seed}"


def scale_of(suite: str) -> Scale:
    """Return a suite's scale with the settling test's number of steps."""
    scale = get_suite(suite).scale
    return replace(scale, n_samples=STEPS[suite] * scale.batch_size) if suite in STEPS else scale


def points_of(suite: str) -> tuple[Point, list[Point], list[Point]]:
    """Return the base point (1−S = 1/n, ε = 0), the points along 1−S and those along ε, both through the base."""
    base = Point(1.0 / scale_of(suite).task().world.n_features)
    if suite == "smoke":
        return base, [base, Point(RATES[1])], [base, Point(base.rate, BENDS[2])]
    rates = sorted({0.25 * base.rate, base.rate, 3.0 * base.rate, *RATES})
    return base, [Point(rate) for rate in rates], [base, *(Point(base.rate, bend) for bend in BENDS)]


def methods_of() -> list[str]:
    """Return the catalogue's SDL methods."""
    return [info.name for info in method_catalogue() if info.kind == "sdl" and not info.twin]


def task_of(suite: str, kind: str, point: Point, seed: int) -> Task:
    """Return a world of the traps family at a point."""
    family = families()[FAMILY]
    spec = family.build(family.levels[kind], replace(scale_of(suite), rate=point.rate))
    return Task(
        f"{FAMILY}/{kind}", suite, seed, replace(spec, world=replace(spec.world, bend=point.bend)), family.start
    )


def cells_of(suite: str, seeds: int, methods: list[str]) -> list[Cell]:
    """Return all cells; those that share a world are neighbours."""
    base, rates, bends = points_of(suite)
    twins = {info.name for info in method_catalogue()}
    cells = []
    for point in dict.fromkeys([base, *rates, *bends]):
        for seed in range(seeds):
            cells.append(Cell(suite, OWN, point, seed, THEORY))
            for kind, wanted in TWINS.items():
                for method in methods:
                    names = {twin: f"{method}+{twin}" if twin else method for twin in wanted}
                    cells += [Cell(suite, kind, point, seed, method, twin) for twin in wanted if names[twin] in twins]
    return cells
