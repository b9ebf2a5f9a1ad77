"""`Task`: a world, a budget and a set of anchors under a name. Declaring and hashing tasks needs no torch."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from lrbench.errors import LrbenchError, UnknownName
from lrbench.metric_table import SCORE_VERSION
from lrbench.pairing import pair_sites
from lrbench.seeds import derive_seed, salt_hash, salted
from lrbench.suite import SUITES as SUITES
from lrbench.suite import Scale as Scale
from lrbench.suite import Suite as Suite
from lrbench.suite import TaskSpec as TaskSpec
from lrbench.suite import get_suite as get_suite

LATER = {
    "start": None,
    "told_l0": 1.0,
    "anchor_share": 0.1,
}  # what the hash leaves out of a task that is as it was before there were these

if TYPE_CHECKING:
    from torch import Tensor

    from lrbench.dictionary import Dictionary
    from lrbench.streaming.stream import Stream
    from lrbench.structure import WorldSpec
    from lrbench.view import TrainView
    from lrbench.world import SparseFeatures, World


class Start(Protocol):
    """Where training starts: a family's function from a world to a dictionary and the features that are trapped there.

    Without a dictionary the method starts where it always does, and the features are those that a trap would hold.
    """

    def __call__(
        self, name: str, world: World, n_latents: int, pair: str, seed: int
    ) -> tuple[Dictionary | None, list[int]]:
        """Return the dictionary and the features."""


class Source(Protocol):
    """Where a family's worlds come from when they are not drawn from their law."""

    def missing(self, law: WorldSpec) -> str:
        """Return why a world cannot be had here, with what makes it available; empty where it can."""

    def prepare(self, law: WorldSpec) -> None:
        """Make what the world rests on, once for all that use it; it may take minutes."""

    def world(self, law: WorldSpec, seed: int) -> World:
        """Return the world."""


@dataclass(frozen=True)
class Family:
    """A question asked at several levels, one file in ``tasks/``.

    Parameters
    ----------
    name, summary
        Of the function that declares it.
    build
        That function.
    levels, selection
        See `family`.
    kinds
        The kinds of methods that are asked unless told otherwise, None for all.
    twins
        The twins of every SDL method that are asked unless told otherwise, without the ``+``.
    start
        Builds what `TaskSpec.start` names.
    source
        Where its worlds come from, None for `lrbench.world.World`.
    """

    name: str
    summary: str
    build: Callable[[Any, Scale], TaskSpec]
    levels: Mapping[str, Any]
    selection: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kinds: tuple[str, ...] | None = None
    twins: tuple[str, ...] = ("anchored",)
    start: Start | None = None
    source: Source | None = None

    def in_suite(self, level: str, suite: str) -> bool:
        """Whether a suite runs this level unless told otherwise; one without a selection runs those of `Suite.levels_of`, all, or none."""
        if suite in self.selection:
            return level in self.selection[suite]
        own = get_suite(suite)
        if own.levels_of is not None:
            return self.in_suite(level, own.levels_of)
        return level in self.levels and not own.only_named

    def missing(self, value: Any) -> str:
        """Return why the task of a level's value cannot run here, see `Source`; empty where it can."""
        return "" if self.source is None else self.source.missing(self.build(value, get_suite("smoke").scale).world)

    def task(self, level: str, suite: str = "quick", seed: int = 0) -> Task:
        """Return a level as a task."""
        name = f"{self.name}/{level}"
        if level not in self.levels:
            raise UnknownName("task", name, [f"{self.name}/{known}" for known in self.levels])
        return Task(
            name, suite, seed, self.build(self.levels[level], get_suite(suite).scale), self.start, source=self.source
        )


def family(
    levels: Mapping[str, Any],
    kinds: tuple[str, ...] | None = None,
    twins: tuple[str, ...] = ("anchored",),
    start: Start | None = None,
    source: Source | None = None,
    **selection: tuple[str, ...],
) -> Callable[[Callable[[Any, Scale], TaskSpec]], Family]:
    """Turn a function ``(level value, scale) -> TaskSpec`` into a `Family`, named after the function.

    Parameters
    ----------
    levels
        Level names and the values the function is called with.
    kinds, twins, start, source
        See `Family`.
    selection
        For a suite's name, the levels it runs by default, none for ``()``; a suite that is not named runs all, ``board`` those
        of ``quick``, ``real`` and ``synth`` none.

    Examples
    --------
    >>> @family(levels={"1.04x": 1.04, "1.30x": 1.30}, quick=("1.30x",))
    ... def superposition(ratio: float, scale: Scale) -> TaskSpec:
    ...     "More features than dimensions."
    ...     return scale.task(n_features=round(ratio * scale.dim))
    >>> superposition.task("1.30x").name
    'superposition/1.30x'
    """
    for suite, names in selection.items():
        get_suite(suite)
        for name in names:
            if name not in levels:
                raise LrbenchError(f"{suite}={names}: {name!r} is not a level; expected some of {', '.join(levels)}")

    def declare(build: Callable[[Any, Scale], TaskSpec]) -> Family:
        summary = (build.__doc__ or "").strip().split("\n")[0]
        return Family(build.__name__, summary, build, levels, selection, kinds, twins, start, source)

    return declare


@dataclass(frozen=True, eq=False)
class Task:
    """A question with a known answer: the world holds the truth, `view` what a method may see of it.

    Examples
    --------
    >>> import lrbench
    >>> task = lrbench.load_task("superposition/1.30x", "smoke", seed=0)
    >>> task.spec.world.n_features, task.truth("autoencoder")[1].shape
    (42, torch.Size([42, 32]))
    """

    name: str
    suite: str
    seed: int
    spec: TaskSpec
    starts: Start | None = None
    salt: str = field(default="", repr=False)
    source: Source | None = None

    @property
    def root(self) -> int:
        """The number that all of the task follows from: its seed, which everybody knows, or with a salt one that nobody does."""
        return salted(self.seed, self.salt)

    @property
    def family(self) -> str:
        """The part of the name before the slash."""
        return self.name.split("/")[0]

    @cached_property
    def hash(self) -> str:
        """Content hash of the question, without the seed: two records with the same hash and seed compare.

        A salt is a part of it: salted worlds and public ones do not compare.
        """
        content = {
            **{name: value for name, value in asdict(self.spec).items() if name not in LATER or value != LATER[name]},
            "world": self.spec.world.hash(),
            "scores": SCORE_VERSION,
            "anchors": self.spec.n_anchors,
        }
        if self.salt:
            content["salt"] = salt_hash(self.salt)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def world_hash(self) -> str:
        """Content hash of the world, seed included."""
        return self.spec.world.hash(self.root)

    @cached_property
    def world(self) -> World:
        """The world, built at the first use."""
        from lrbench.world import World

        return (
            World(self.spec.world, self.root) if self.source is None else self.source.world(self.spec.world, self.root)
        )

    @cached_property
    def _training(self) -> SparseFeatures:
        """The features of the training data, the same for every method: cells of a task that follow each other sample once."""
        assert self.spec.n_distinct != "fresh"
        return self.world.sample(self.spec.n_distinct, "data")

    def _observed_sites(self, n_sites: int) -> tuple[Tensor, ...] | Stream:
        """Return what the first sites show of the training data; of data that is drawn anew the stream that a view reads."""
        from lrbench.streaming.stream import BLOCK, Stream

        world = self.world
        if self.spec.n_distinct != "fresh":
            return tuple(world.represent(self._training, site, "data") for site in range(n_sites))

        def draw(block: int) -> tuple[Tensor, ...]:
            features = world.sample(BLOCK, "data", block)
            return tuple(world.represent(features, site, "data", block) for site in range(n_sites))

        return Stream(draw, self.spec.world.dims[:n_sites])

    @cached_property
    def _held_out(self) -> SparseFeatures:
        return self.world.sample(self.spec.n_evaluation, "evaluation")

    @cached_property
    def anchors(self) -> Tensor:
        """Indices of the known features, sorted, chosen by the seed; no score counts them, for any method."""
        import torch

        rng = random.Random(derive_seed(self.root, "anchors"))
        return torch.tensor(sorted(rng.sample(range(self.spec.world.n_features), self.spec.n_anchors)))

    @cached_property
    def scored(self) -> Tensor:
        """Indices of the features that scores count: all but the anchors."""
        import torch

        keep = torch.ones(self.spec.world.n_features, dtype=torch.bool)
        keep[self.anchors] = False
        return keep.nonzero().flatten()

    def start(self, pair: str) -> tuple[Dictionary | None, list[int]]:
        """Return where training starts (float64), and the trapped features, scored or not; (None, []) in an ordinary task."""
        if self.spec.start is None:
            return None, []
        if self.starts is None:
            raise LrbenchError(
                f"start={self.spec.start!r}: {self.name} has nobody to build it; declare @family(start=...)"
            )
        seed = derive_seed(self.root, "start")
        return self.starts(self.spec.start, self.world, self.spec.n_latents, pair, seed)

    def view(self, pair: str | None = None, device: str = "cpu") -> TrainView:
        """Return what a method may see.

        Parameters
        ----------
        pair
            Brings only the sites that this pairing needs; by default all sites, paired as an autoencoder until
            `TrainView.paired` says otherwise.
        device
            Where the data is put.
        """
        from lrbench.view import Budget, TrainView

        n_sites = len(self.spec.world.dims)
        if pair is not None:
            n_sites = max(pair_sites(pair, n_sites)[1]) + 1
        start, _ = self.start(pair or "autoencoder")
        view = TrainView(
            sites=self._observed_sites(n_sites),
            anchor_sites=tuple(self.world.known(site)[self.anchors] for site in range(n_sites)),
            budget=Budget(
                self.spec.n_latents,
                self.spec.n_samples,
                self.spec.batch_size,
                self.spec.told_l0 * self.spec.world.mean_l0,
            ),
            seed=derive_seed(self.root, "view"),
            pair=pair or "autoencoder",
            start=None if start is None else start.float(),
        ).to(device)
        _TASK_OF[view] = self
        return view

    @property
    def fit_seed(self) -> int:
        """The seed that a method's ``fit`` is given in a run: it tells nothing of the world, not even the task's seed."""
        return derive_seed(self.root, "fit")

    def evaluation(self) -> SparseFeatures:
        """Return the held-out features that scores are computed on, from a stream that training never sees."""
        return self._held_out

    def observed(self, features: SparseFeatures, pair: str, stream: str = "evaluation") -> tuple[Tensor, Tensor]:
        """Return (input, target) of features under a pairing; ``stream`` is where they, and the noise, were drawn."""
        import torch

        ends = pair_sites(pair, len(self.spec.world.dims))
        sites = {site: self.world.represent(features, site, stream) for site in {*ends[0], *ends[1]}}
        first, second = (torch.cat([sites[site] for site in end], dim=1) for end in ends)
        return first, second

    def isolated(self, pair: str) -> Tensor:
        """Return the input that every feature gives on its own, at its mean magnitude, without noise."""
        import torch

        sites = pair_sites(pair, len(self.spec.world.dims))[0]
        return torch.cat([self.world.isolated(site) for site in sites], dim=1)

    def truth(self, pair: str) -> tuple[Tensor, Tensor]:
        """Return the true directions on the encoder's and on the decoder's side, unit rows, all features."""
        import torch

        ends = pair_sites(pair, len(self.spec.world.dims))
        first, second = (torch.cat([self.world.directions[site] for site in end], dim=1) for end in ends)
        return torch.nn.functional.normalize(first, dim=1), torch.nn.functional.normalize(second, dim=1)

    def with_seed(self, seed: int) -> Task:
        """Return the same question in another world."""
        return replace(self, seed=seed)


_TASK_OF: WeakKeyDictionary[TrainView, Task] = WeakKeyDictionary()


def reveal(view: TrainView) -> Task:
    """Return the task behind a view, for the reference rows only: the ceiling has to know the truth.

    Raises
    ------
    LrbenchError
        For a view that no task handed out (a derived one, or one made by hand).
    """
    task = _TASK_OF.get(view)
    if task is None:
        raise LrbenchError(
            "the reference rows need a view straight from task.view(); this one was derived from it or made by hand"
        )
    return task
