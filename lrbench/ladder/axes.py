"""The axes of the ladder: what makes a world harder, from which level to which, and the rungs in between."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from lrbench.catalogue.address import text_of

STEP = 1.1  # between two rungs: what "to within 10%" means
FAMILY, PHASE = "ladder", "phase"


@dataclass(frozen=True)
class Axis:
    """One way to make a world harder.

    Parameters
    ----------
    name
        What the family `ladder` takes.
    title
        For a table and a panel.
    easy, hard
        The first and the last level.
    remainder
        Whether a level counts by what it lacks of 1, as a correlation does: its hardness is −log(1 − level), and 0.9 is to 0.99 as 0
        is to 0.9. Otherwise it counts by its own logarithm.
    whole
        Whether levels are whole numbers.

    Examples
    --------
    >>> noise = Axis("noise", "noise", 0.5, 2.0)
    >>> len(noise.levels), noise.levels[:3]
    (16, (0.5, 0.548, 0.602))
    """

    name: str
    title: str
    easy: float
    hard: float
    remainder: bool = False
    whole: bool = False

    @property
    def falls(self) -> bool:
        """Whether smaller levels are harder."""
        return self.hard < self.easy

    def hardness(self, level: float) -> float:
        """Return how hard a level is, in units of a factor e; it grows from `easy` to `hard`."""
        if self.remainder:
            return -math.log(1.0 - level)
        return -math.log(level) if self.falls else math.log(level)

    def level(self, hardness: float) -> float:
        """Return the level of a hardness."""
        if self.remainder:
            return 1.0 - math.exp(-hardness)
        return math.exp(-hardness if self.falls else hardness)

    @cached_property
    def levels(self) -> tuple[float, ...]:
        """The rungs, easiest first: a factor of at most `STEP` apart, as far as whole numbers allow; three digits each."""
        low, high = self.hardness(self.easy), self.hardness(self.hard)
        count = math.ceil((high - low) / math.log(STEP) - 1e-9)
        levels = [self.level(low + (high - low) * place / count) for place in range(count + 1)]
        return tuple(dict.fromkeys(map(self._short, levels)))

    @cached_property
    def hardnesses(self) -> tuple[float, ...]:
        """The hardness of every rung."""
        return tuple(self.hardness(level) for level in self.levels)

    def within(self, hardness: float) -> float:
        """Return a hardness, or the end of the axis that it lies beyond."""
        return min(max(hardness, self.hardnesses[0]), self.hardnesses[-1])

    def _short(self, level: float) -> float:
        if self.whole:
            return float(round(level))
        return round(1.0 - float(f"{1.0 - level:.3g}"), 9) if self.remainder else float(f"{level:.3g}")

    def task(self, rung: int) -> str:
        """Return the name of a rung's task; the first is the catalogue's."""
        return f"{FAMILY}/{self.name}" if rung == 0 else f"{FAMILY}[{self.name},{text_of(self.levels[rung])}]"


AXES = (
    Axis("crowding", "features per dimension", 1.3, 16.0),
    Axis("density", "mean L0", 1.25, 32.0),
    Axis("interference", "interference M", 0.05, 0.5),
    Axis("noise", "noise", 0.2, 8.0),
    Axis("correlation", "correlation", 0.5, 0.99, remainder=True),
    Axis("skew", "frequency skew", 0.5, 3.0),
    Axis("depth", "hierarchy depth", 1.0, 16.0, whole=True),
    Axis("samples", "samples per feature", 200.0, 2.1),  # at `quick` fewer would not fill a batch
    Axis("width", "latents per feature", 2.0, 0.25),
    Axis("bend", "bend ε", 0.1, 1.0),
)


def axis_of(name: str) -> Axis:
    """Return an axis by its name."""
    return next(axis for axis in AXES if axis.name == name)


def phase_task(undersampling: float, density: float) -> str:
    """Return the name of the task at a place of the phase diagram: δ = d/n and ρ = mean L0 / d."""
    return f"{PHASE}[{text_of(undersampling)},{text_of(density)}]"
