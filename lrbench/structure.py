"""The law of the features: what is active together with what, how often and how strongly (no torch here).

A `WorldSpec` is plain data: a task file declares it, its hash identifies the world, and `lrbench.world.World` realises it.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from functools import cached_property

from lrbench.errors import LrbenchError
from lrbench.law.forest import Copula as Copula
from lrbench.law.forest import Forest as Forest
from lrbench.law.forest import Given as Given
from lrbench.law.forest import Magnitudes as Magnitudes
from lrbench.law.forest import active_rates

WORLD_VERSION = 1  # raise it whenever the same spec and seed would give other directions or samples
NUMBERS = (
    "rate",
    "interference",
    "magnitude_min",
    "magnitude_scale",
    "noise",
    "zipf",
    "bend",
    "decades",
    "lognormal",
    "offset",
)
# fields that the hash leaves out where they are 0 or None
LATER = ("bend", "decades", "lognormal", "rate_range", "copula", "magnitudes", "offset", "orthogonal_steps")
MAX_RATE = 0.5  # a Zipf head is capped here: a feature that is nearly always on is a bias, not a feature


@dataclass(frozen=True)
class Independent:
    """Every feature is active on its own (the paper's Bernoulli mask)."""

    kind: str = field(default="independent", init=False)


@dataclass(frozen=True)
class Hierarchy:
    """A forest: a child is active only when its parent is (the paper's hierarchical concepts).

    Parameters
    ----------
    branching
        Children per node, level by level: ``(3,)`` is a depth of two, ``(3, 2)`` a depth of three.
    root_rate
        Probability that a root is active.
    child_given_parent
        Exclusive children: probability that one of them is active, given the parent. Overlapping: the probability of each.
    exclusive
        Whether at most one child of a parent is active at a time.
    fraction
        Share of the features that live in trees; the rest is independent.
    """

    branching: tuple[int, ...] = (3,)
    root_rate: float = 0.05
    child_given_parent: float = 0.5
    exclusive: bool = True
    fraction: float = 1.0
    kind: str = field(default="hierarchy", init=False)

    def __post_init__(self) -> None:
        if not self.branching or min(self.branching) < 1:
            raise LrbenchError(
                f"branching={self.branching}: expected one positive number of children per level, such as (3,)"
            )
        _check_probability("child_given_parent", self.child_given_parent)
        _check_probability("fraction", self.fraction)
        if not 0.0 < self.root_rate < 1.0:
            raise LrbenchError(f"root_rate={self.root_rate}: expected an activation probability between 0 and 1")

    @property
    def tree_size(self) -> int:
        """Number of features in one tree."""
        size, level = 1, 1
        for children in self.branching:
            level *= children
            size += level
        return size

    def parents(self, n_features: int) -> list[int]:
        """Return the parent of every feature, -1 for roots and for independent features; trees lie one after another."""
        n_trees = int(n_features * self.fraction) // self.tree_size
        parents: list[int] = []
        for _ in range(n_trees):
            level = [len(parents)]
            parents.append(-1)
            for children in self.branching:
                nodes: list[int] = []
                for parent in level:
                    nodes += range(len(parents), len(parents) + children)
                    parents += [parent] * children
                level = nodes
        return parents + [-1] * (n_features - len(parents))


@dataclass(frozen=True)
class Groups:
    """Groups of features that tend to be active together.

    Parameters
    ----------
    size
        Features in a group; a last, smaller group takes what is left.
    cohesion
        Probability that a member is active, given that its group is. For rare features it is close to the correlation
        coefficient of two members. Where rates differ it is that of the group's most frequent member, and the others are rarer in
        proportion.
    """

    size: int = 4
    cohesion: float = 0.5
    kind: str = field(default="groups", init=False)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise LrbenchError(f"size={self.size}: a group needs at least 1 feature")
        _check_probability("cohesion", self.cohesion)


@dataclass(frozen=True)
class WorldSpec:
    """Everything that defines a world, except its seed.

    Parameters
    ----------
    n_features
        Number of features n.
    dims
        Dimension of the representation at each site, m >= 1 of them.
    rate
        Probability 1-S that a feature is active; with ``zipf`` the mean over features, before rates above
        0.5 are cut to it. Roots of a hierarchy have their own.
    interference
        Largest signed inner product M between two directions of a site.
    zipf
        Exponent of the activation rates: 0 is uniform, 1 the classical Zipf law. For independent features and for groups.
    magnitude_min, magnitude_scale
        An active feature has magnitude c_min + Exp(beta); ``magnitude_scale`` is the mean of the exponential part.
    noise
        Root-mean-square length of the Gaussian noise that is added to a representation (0.1: a tenth of a unit direction).
    structure
        What is active together with what.
    bend
        Strength ε of the bend away from a linear representation, 0 (linear) to 1, see `lrbench.world.Bend`.
    decades
        Powers of ten that log-uniform activation rates span, in place of ``zipf``; 0 is uniform.
    lognormal
        Standard deviation of a log-normal magnitude's logarithm; the median is 1, and ``magnitude_min`` and ``magnitude_scale`` say
        nothing then. 0 for c_min + Exp(beta).
    rate_range
        Rates of the least and of the most frequent feature, between which the Zipf law is stretched; ``rate`` says nothing then.
    copula
        Correlations between all features, independent ones or those of a forest. None for none.
    magnitudes
        Magnitudes by feature, independent ones or those of a forest, in place of c_min + Exp(beta).
    offset
        Length of a constant vector that every representation has, in a direction of its own at every site.
    orthogonal_steps
        Steps of `lrbench.law.directions.orthogonalise` that directions take from Gaussian ones; for ``interference=1``, as they bound nothing.

    Examples
    --------
    >>> WorldSpec(n_features=10, dims=(8, 8), rate=0.25).mean_l0
    2.5
    """

    n_features: int
    dims: tuple[int, ...]
    rate: float = 0.01
    interference: float = 0.1
    zipf: float = 0.0
    magnitude_min: float = 0.5
    magnitude_scale: float = 0.5
    noise: float = 0.0
    structure: Independent | Hierarchy | Groups | Forest | Given = Independent()
    bend: float = 0.0
    decades: float = 0.0
    lognormal: float = 0.0
    rate_range: tuple[float, float] | None = None
    copula: Copula | None = None
    magnitudes: Magnitudes | None = None
    offset: float = 0.0
    orthogonal_steps: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.n_features, int) or self.n_features < 1:
            raise LrbenchError(f"n_features={self.n_features}: expected a whole number of features >= 1")
        if not self.dims or min(self.dims) < 1:
            raise LrbenchError(f"dims={self.dims}: expected the dimension of at least one site, such as (96,)")
        if not 0.0 < self.rate < 1.0:
            raise LrbenchError(f"rate={self.rate}: expected an activation probability 1-S between 0 and 1")
        if not 0.0 < self.interference <= 1.0:
            raise LrbenchError(f"interference={self.interference}: expected an inner product M in (0, 1]")
        for name in NUMBERS:
            value = float(getattr(self, name))
            object.__setattr__(self, name, value)  # 1 and 1.0 are the same law and must have the same hash
            if not 0.0 <= value < math.inf:
                raise LrbenchError(f"{name}={value}: expected a finite number >= 0")
        if self.bend > 1.0:
            raise LrbenchError(f"bend={self.bend}: expected a strength from 0 (linear) to 1")
        if self.magnitude_min + self.magnitude_scale == 0:
            raise LrbenchError("magnitude_min and magnitude_scale are both 0: an active feature needs a magnitude")
        self._check_rates()
        self._check_structure()
        if self.magnitudes is not None and self.lognormal:
            raise LrbenchError(f"lognormal={self.lognormal} with magnitudes by feature: leave one of them out")
        if not isinstance(self.orthogonal_steps, int) or self.orthogonal_steps < 0:
            raise LrbenchError(f"orthogonal_steps={self.orthogonal_steps}: expected a whole number of steps >= 0")
        if self.orthogonal_steps and self.interference < 1.0:
            raise LrbenchError(
                f"orthogonal_steps={self.orthogonal_steps} with interference={self.interference}: such directions keep no bound, set interference=1"
            )

    def _check_rates(self) -> None:
        if self.zipf and self.decades:
            raise LrbenchError(f"zipf={self.zipf} with decades={self.decades}: rates follow one law, leave one at 0")
        if (self.zipf or self.decades) and not isinstance(self.structure, Independent | Groups | Forest):
            law = f"zipf={self.zipf}" if self.zipf else f"decades={self.decades}"
            raise LrbenchError(
                f"{law} with {self.structure.kind} features: only independent ones, groups and forests take it"
            )
        if self.rate_range is not None:
            least, most = (float(rate) for rate in self.rate_range)
            object.__setattr__(self, "rate_range", (least, most))
            if not 0.0 < least < most < 1.0:
                raise LrbenchError(f"rate_range={self.rate_range}: expected two rates with 0 < least < most < 1")
            if not self.zipf:
                raise LrbenchError(f"rate_range={self.rate_range} without zipf: expected the exponent of a Zipf law")

    def _check_structure(self) -> None:
        law = self.structure
        size = law.tree_size if isinstance(law, Hierarchy) else law.size if isinstance(law, Forest) else 0
        if isinstance(law, Hierarchy) and int(self.n_features * law.fraction) < size:
            raise LrbenchError(
                f"n_features={self.n_features}: a share of {law.fraction} does not hold one tree of "
                f"{size}; ask for more features or a smaller branching={law.branching}"
            )
        if isinstance(law, Forest) and self.n_features < size:
            raise LrbenchError(
                f"n_features={self.n_features}: {law.roots} trees hold {size} features; ask for more features or fewer roots"
            )
        if isinstance(law, Groups) and max(self.rates) >= law.cohesion:
            raise LrbenchError(
                f"cohesion={law.cohesion}: expected more than rate={max(self.rates):g}, or groups are always on"
            )
        for name in ("copula", "magnitudes"):
            if getattr(self, name) is not None and not isinstance(law, Independent | Forest):
                raise LrbenchError(f"{name} with {law.kind} features: only independent ones and forests take it")

    @property
    def proxy(self) -> str:
        """What stands for the truth where nobody knows it; empty, for here it is known."""
        return ""

    @cached_property
    def parents(self) -> list[int]:
        """The parent of every feature, -1 where there is none."""
        if isinstance(self.structure, Hierarchy | Forest):
            return self.structure.parents(self.n_features)
        if isinstance(self.structure, Given):
            return list(self.structure.parents)
        return [-1] * self.n_features

    @cached_property
    def children(self) -> dict[int, list[int]]:
        """The children of every feature that has some."""
        families: dict[int, list[int]] = {}
        for child, parent in enumerate(self.parents):
            if parent >= 0:
                families.setdefault(parent, []).append(child)
        return families

    @cached_property
    def rates(self) -> list[float]:
        """The probability of every feature to be active; with a copula what it is without one, which is close in a forest and the same outside."""
        if isinstance(self.structure, Given):
            return list(self.structure.rates)
        if isinstance(self.structure, Forest) or self.magnitudes is not None:
            n, law = self.n_features, self.magnitudes
            positive = [1.0] * n if law is None else law.positive(n)
            return active_rates(self.drawn_rates, positive, self.parents, self.children, [True] * n)
        if isinstance(self.structure, Hierarchy):
            h = self.structure
            rates = [self.rate] * self.n_features
            for root in self.children:
                if self.parents[root] < 0:
                    rates[root] = h.root_rate
            for child, parent in enumerate(self.parents):  # parents come before their children
                if parent >= 0:
                    share = len(self.children[parent]) if h.exclusive else 1
                    rates[child] = rates[parent] * h.child_given_parent / share
            return rates
        return self.base_rates

    @cached_property
    def base_rates(self) -> list[float]:
        """The rates that ``rate``, ``zipf`` and ``decades`` ask for, feature by feature."""
        n = self.n_features
        if not (self.zipf or self.decades):
            return [self.rate] * n
        weights = [(i + 1.0) ** -self.zipf if self.zipf else 10 ** -(self.decades * (i + 0.5) / n) for i in range(n)]
        if self.rate_range is not None:
            least, most = self.rate_range
            span = weights[0] - weights[-1] or 1.0
            return [least + (most - least) * ((w - weights[-1]) / span if n > 1 else 1.0) for w in weights]
        scale = self.rate * n / sum(weights)
        return [min(MAX_RATE, weight * scale) for weight in weights]

    @cached_property
    def drawn_rates(self) -> list[float]:
        """The probability that every feature is drawn with, a child's of a forest given that its parent is active."""
        law = self.structure
        return law.drawn(self.base_rates, self.children) if isinstance(law, Forest) else self.base_rates

    @cached_property
    def rates_in_group(self) -> list[float]:
        """The probability of every feature to be active, given that its group is; empty where there are no groups."""
        law = self.structure
        if not isinstance(law, Groups):
            return []
        most = [max(self.rates[i - i % law.size :][: law.size]) for i in range(self.n_features)]
        return [law.cohesion * (rate / largest) for rate, largest in zip(self.rates, most, strict=True)]

    @cached_property
    def group_rates(self) -> list[float]:
        """The probability of every group to be active; empty where there are no groups."""
        law = self.structure
        if not isinstance(law, Groups):
            return []
        starts = range(0, self.n_features, law.size)
        return [max(self.rates[start : start + law.size]) / law.cohesion for start in starts]

    @property
    def mean_l0(self) -> float:
        """Expected number of active features in a sample."""
        return math.fsum(self.rates)

    @property
    def extreme_sparsity(self) -> bool:
        """Whether 1-S <= 1/n holds, the premise of the paper's theorem 3.1."""
        return max(self.rates) <= 1.0 / self.n_features

    @cached_property
    def mean_magnitudes(self) -> list[float]:
        """The mean magnitude of every feature, before a magnitude below 0 becomes 0."""
        if isinstance(self.structure, Given):
            return list(self.structure.means)
        if self.magnitudes is not None:
            return self.magnitudes.means(self.n_features)
        return [self.mean_magnitude] * self.n_features

    @property
    def mean_magnitude(self) -> float:
        """E[x_d | x_d > 0], over all that is active where features differ."""
        if self.magnitudes is not None or isinstance(self.structure, Given):
            weighted = (rate * mean for rate, mean in zip(self.rates, self.mean_magnitudes, strict=True))
            return math.fsum(weighted) / self.mean_l0
        if self.lognormal:
            return math.exp(self.lognormal**2 / 2)
        return self.magnitude_min + self.magnitude_scale

    @property
    def mean_squared_magnitude(self) -> float:
        """E[x_d² | x_d > 0], which is a² + 2aβ + 2β² with a magnitude of a + Exp(β); raises `LrbenchError` where features differ in it."""
        if self.magnitudes is not None or isinstance(self.structure, Forest | Given):
            raise LrbenchError(
                f"{self.structure.kind} features: expected one law of magnitudes for all, without parents that scale"
            )
        if self.lognormal:
            return math.exp(2 * self.lognormal**2)
        a, beta = self.magnitude_min, self.magnitude_scale
        return a * a + 2 * a * beta + 2 * beta * beta

    def hash(self, seed: int | None = None) -> str:
        """Return the content hash of the law, and of the world itself when a seed is given (16 hexadecimal digits)."""
        content = {"version": WORLD_VERSION, "seed": seed, **asdict(self)}
        for name in LATER:
            if not content[name]:
                del content[name]  # a world without it is the world that it was before there were any with it
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _check_probability(name: str, value: float) -> None:
    if not 0.0 < value <= 1.0:
        raise LrbenchError(f"{name}={value}: expected a probability in (0, 1]")
