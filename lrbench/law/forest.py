"""Forests of exclusive siblings, copulas and magnitudes by feature, as SynthSAEBench has them (arXiv 2602.14687; no torch here)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lrbench.errors import LrbenchError

NODES = 400  # of a quadrature over standard deviations
KNOTS = 17  # means between which a smooth function of them is interpolated


@dataclass(frozen=True)
class Forest:
    """Trees of exclusive siblings, numbered breadth first, whose features have base rates of their own; the others are independent.

    A child can be drawn only where its parent is active, and of the siblings that are drawn one stays, each with the same probability.
    What it is drawn with makes up for both: p/q · (1 + Σ p'/q) for base rates p of the child, p' of its siblings and q of its parent,
    at most 1. Rates come out near the base rates where siblings' rates add up to much less than their parent's, and below them elsewhere.

    Parameters
    ----------
    roots
        Number of trees.
    branching
        Children per node, level by level: ``(4, 4, 4)`` is a depth of four.
    scaled
        Whether a child's magnitude is multiplied by its parent's, over the parent's mean.
    """

    roots: int = 128
    branching: tuple[int, ...] = (4, 4, 4)
    scaled: bool = True
    kind: str = field(default="forest", init=False)

    def __post_init__(self) -> None:
        if self.roots < 1:
            raise LrbenchError(f"roots={self.roots}: expected at least 1 tree")
        if not self.branching or min(self.branching) < 1:
            raise LrbenchError(
                f"branching={self.branching}: expected one positive number of children per level, such as (4, 4)"
            )

    @property
    def size(self) -> int:
        """Number of features in trees."""
        level = total = self.roots
        for children in self.branching:
            level *= children
            total += level
        return total

    def parents(self, n_features: int) -> list[int]:
        """Return the parent of every feature, -1 for roots and for independent features."""
        parents, first, level = [-1] * self.roots, 0, self.roots
        for children in self.branching:
            parents += [parent for parent in range(first, first + level) for _ in range(children)]
            first, level = first + level, level * children
        return parents + [-1] * (n_features - len(parents))

    def drawn(self, base: Sequence[float], families: Mapping[int, Sequence[int]]) -> list[float]:
        """Return the probability that every feature is drawn with, a child's given that its parent is active."""
        drawn = list(base)
        for parent, children in families.items():
            total = math.fsum(base[child] for child in children)
            for child in children:
                others = max(0.0, total - base[child]) / base[parent]
                drawn[child] = min(1.0, base[child] / base[parent] * (1.0 + others))
        return drawn


@dataclass(frozen=True)
class Copula:
    """Correlations of low rank: a feature is drawn where ⟨a, ε⟩ + √(1 − ‖a‖²) η > Φ⁻¹(1 − p), with ε common to all features.

    Parameters
    ----------
    rank
        Dimension of the standard normal ε that a sample has.
    scale
        Every feature's a is Gaussian with this standard deviation, shortened where ‖a‖² exceeds 0.99.
    """

    rank: int = 25
    scale: float = 0.1

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise LrbenchError(f"rank={self.rank}: expected at least 1 common factor")
        object.__setattr__(self, "scale", float(self.scale))
        if not 0.0 < self.scale < math.inf:
            raise LrbenchError(f"scale={self.scale}: expected a finite number > 0; leave the copula out for none")


@dataclass(frozen=True)
class Magnitudes:
    """Magnitudes by feature: max(0, μ + σ N(0, 1)); where it is 0 the feature is not active.

    Parameters
    ----------
    first, last
        μ of the first and of the last feature, linear in between.
    spread, spread_sd
        Each feature's σ is |N(spread, spread_sd²)|.
    """

    first: float = 5.0
    last: float = 4.0
    spread: float = 0.5
    spread_sd: float = 0.5

    def __post_init__(self) -> None:
        for name in ("first", "last", "spread", "spread_sd"):
            value = float(getattr(self, name))
            object.__setattr__(self, name, value)
            if not 0.0 <= value < math.inf or (value == 0.0 and name in ("first", "last")):
                raise LrbenchError(f"{name}={value}: expected a positive number (a spread may be 0)")

    def means(self, n_features: int) -> list[float]:
        """Return μ of every feature."""
        step = (self.last - self.first) / max(1, n_features - 1)
        return [self.first + step * feature for feature in range(n_features)]

    def positive(self, n_features: int) -> list[float]:
        """Return the probability that every feature's magnitude is above 0, over all σ that it could have."""
        places = [(node + 0.5) / NODES * 16.0 - 8.0 for node in range(NODES)]  # standard deviations around the mean
        weights = [math.exp(-place * place / 2.0) for place in places]
        spreads = [abs(self.spread + self.spread_sd * place) for place in places]

        def share(mean: float) -> float:
            inside = (w * normal(mean / s if s else math.inf) for w, s in zip(weights, spreads, strict=True))
            return math.fsum(inside) / math.fsum(weights)

        knots = [share(self.first + (self.last - self.first) * knot / (KNOTS - 1)) for knot in range(KNOTS)]
        shares = []
        for feature in range(n_features):
            place = feature / max(1, n_features - 1) * (KNOTS - 1)
            left = min(int(place), KNOTS - 2)
            shares.append(knots[left] + (place - left) * (knots[left + 1] - knots[left]))
        return shares


@dataclass(frozen=True)
class Given:
    """The features of somebody else's model, as `lrbench.task_from_sae_lens` reads them.

    Parameters
    ----------
    parents
        The parent of every feature, -1 where there is none.
    rates
        The probability of every feature to be active.
    means
        The mean magnitude of every feature.
    digest
        Stands for all numbers of the model in the hash of its world.
    """

    parents: tuple[int, ...]
    rates: tuple[float, ...]
    means: tuple[float, ...]
    digest: str
    kind: str = field(default="given", init=False)


def active_rates(
    drawn: Sequence[float],
    positive: Sequence[float],
    parents: Sequence[int],
    families: Mapping[int, Sequence[int]],
    exclusive: Sequence[bool],
) -> list[float]:
    """Return the probability of every feature to be active where all draws are independent.

    Parameters
    ----------
    drawn
        What it is drawn with, a child's given that its parent is active.
    positive
        The probability that its magnitude is above 0.
    parents, families
        The parent of every feature, and the children of those that have some.
    exclusive
        For every feature whether only one of its children stays.
    """
    fires = [p * share for p, share in zip(drawn, positive, strict=True)]
    rates = list(fires)
    todo = [feature for feature in families if parents[feature] < 0]
    while todo:
        parent = todo.pop()
        children = families[parent]
        wins = winners([fires[child] for child in children]) if exclusive[parent] else [fires[c] for c in children]
        for child, share in zip(children, wins, strict=True):
            rates[child] = rates[parent] * share
            if child in families:
                todo.append(child)
    return rates


def winners(chances: Sequence[float]) -> list[float]:
    """Return the probability of every one to be the one that stays, of those that independent draws leave, each as likely.

    Examples
    --------
    >>> winners([1.0, 1.0]), winners([0.5, 0.5])
    ([0.5, 0.5], [0.375, 0.375])
    """
    found = []
    for place, own in enumerate(chances):
        others = [1.0]  # the probability that so many others are there
        for chance in (*chances[:place], *chances[place + 1 :]):
            others = [
                (others[k] if k < len(others) else 0.0) * (1.0 - chance) + (others[k - 1] * chance if k else 0.0)
                for k in range(len(others) + 1)
            ]
        found.append(own * math.fsum(p / (k + 1) for k, p in enumerate(others)))
    return found


def normal(x: float) -> float:
    """Return Φ(x), the standard normal distribution function."""
    return 0.5 * math.erfc(-x / math.sqrt(2.0))
