"""`TrainView`: all that a method may see. It holds observed data only; the true features are not reachable from it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError
from lrbench.pairing import pair_sites
from lrbench.seeds import generator
from lrbench.streaming.meter import Meter, Spent
from lrbench.streaming.stream import HEAD, Sites, Stream


@dataclass(frozen=True)
class Budget:
    """What a method may spend.

    Parameters
    ----------
    n_latents
        Width n_q of the dictionary.
    n_samples
        Training samples it may look at, repetitions included.
    batch_size
        The batch size that the scale was laid out for; a method may choose another within ``n_samples``.
    l0
        Active latents per sample to aim at: the world's mean number of active features, exactly but where a task tells it wrong.
    """

    n_latents: int
    n_samples: int
    batch_size: int
    l0: float

    def k(self, times: float = 1.0) -> int:
        """Return ``times`` the L0 as a number of latents: rounded, halves upward, at least 1 and at most all.

        Examples
        --------
        >>> budget = Budget(n_latents=64, n_samples=9600, batch_size=64, l0=2.5)
        >>> [budget.k(times) for times in (0.1, 0.5, 1, 2, 100)]
        [1, 1, 3, 5, 64]
        """
        return min(self.n_latents, max(1, math.floor(times * self.l0 + 0.5)))


class Keeper:
    """What becomes of a training while it goes on: nothing here; a run has `lrbench.longrun.keeper.Recorder`."""

    def saved(self) -> dict[str, Any] | None:
        """See `TrainView.saved`."""
        return None

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """See `TrainView.save`."""

    def report(self, step: int, samples: int, figures: Callable[[], Mapping[str, float]]) -> None:
        """See `TrainView.report`."""


NOTHING_KEPT = Keeper()


@dataclass(frozen=True, eq=False, repr=False)
class TrainView:
    """The observed data of a task, for one way of pairing its sites.

    Parameters
    ----------
    sites
        Observed representations at every site, each of shape (sample, d_site); the stream that they are read from in a task that
        draws its samples while training runs.
    anchor_sites
        Directions of the known features at every site, unit rows of shape (anchor, d_site).
    budget
        What may be spent.
    seed
        Seed of the order in which samples are shown.
    pair
        ``"autoencoder"``: the first site to itself; ``"transcoder"``: the first to the second; ``"crosscoder"``: all sites,
        concatenated, to themselves.
    start
        Where training has to start, for this pair: only in tasks that ask whether a method gets out of a minimum. Else None.
    keeper
        Takes what `save` and `report` say; no part of the data.
    meter
        Counts the samples that leave this view and those derived from it; a fit that takes more than its budget is ended.

    Examples
    --------
    >>> import lrbench
    >>> view = lrbench.load_task("noise/0.3", "smoke").view()
    >>> view
    TrainView(autoencoder, 32 -> 32, 4096 samples, 4 anchors, Budget(n_latents=64, n_samples=9600, batch_size=64, l0=2.1))
    >>> inputs, targets = next(view.batches())
    >>> inputs.shape
    torch.Size([64, 32])
    """

    sites: tuple[Float[Tensor, "sample _d_site"], ...] | Stream
    anchor_sites: tuple[Float[Tensor, "anchor _d_site"], ...]
    budget: Budget
    seed: int
    pair: str = "autoencoder"
    start: Dictionary | None = None
    keeper: Keeper = NOTHING_KEPT
    meter: Meter = field(default_factory=Meter)

    def __post_init__(self) -> None:
        pair_sites(self.pair, len(self.widths))  # raises where they do not fit
        if self.start is not None and self.start.pair != self.pair:
            raise LrbenchError(
                f"this view's start is built for {self.start.pair!r}, not for {self.pair!r}: ask the task, task.view({self.pair!r})"
            )

    def __repr__(self) -> str:
        samples = f"{self.n_distinct} {'fresh ' if isinstance(self.sites, Stream) else ''}samples"
        shape = f"{self.pair}, {self.d_in} -> {self.d_out}, {samples}"
        return f"TrainView({shape}, {len(self.anchor_sites[0])} anchors, {self.budget})"

    def paired(self, pair: str) -> TrainView:
        """Return the same data for another pairing, or raise `LrbenchError` where training has to start from a given point."""
        return self if pair == self.pair else replace(self, pair=pair)

    def to(self, device: str | torch.device) -> TrainView:
        """Return the same data on a device."""
        return replace(
            self,
            sites=self.sites.to(device)
            if isinstance(self.sites, Stream)
            else tuple(site.to(device) for site in self.sites),
            anchor_sites=tuple(site.to(device) for site in self.anchor_sites),
            start=None if self.start is None else self.start.to(device),
        )

    @property
    def device(self) -> torch.device:
        """Where the data lies."""
        return self.anchor_sites[0].device

    @property
    def widths(self) -> tuple[int, ...]:
        """The dimension d_site of every site."""
        return self.sites.widths if isinstance(self.sites, Stream) else tuple(site.shape[1] for site in self.sites)

    @property
    def n_distinct(self) -> int:
        """Number of distinct samples: of a stream no sample comes twice."""
        return self.budget.n_samples if isinstance(self.sites, Stream) else len(self.sites[0])

    @property
    def n_head(self) -> int:
        """Number of samples that `head` shows at most: all distinct ones, of a stream the first 32,768."""
        return min(HEAD, self.n_distinct) if isinstance(self.sites, Stream) else self.n_distinct

    @property
    def d_in(self) -> int:
        """Dimension of the input x_p."""
        return sum(self.widths[site] for site in self._ends[0])

    @property
    def d_out(self) -> int:
        """Dimension of the target x_r."""
        return sum(self.widths[site] for site in self._ends[1])

    @property
    def _ends(self) -> tuple[list[int], list[int]]:
        return pair_sites(self.pair, len(self.widths))

    @property
    def anchors(self) -> tuple[Float[Tensor, "anchor d_in"], Float[Tensor, "anchor d_out"]]:
        """The known features' directions on the input and on the target side, unit rows."""
        first, second = (torch.cat([self.anchor_sites[site] for site in end], dim=1) for end in self._ends)
        return torch.nn.functional.normalize(first, dim=1), torch.nn.functional.normalize(second, dim=1)

    @property
    def spent(self) -> Spent:
        """The samples that have left this view and those derived from it since the last fit began, see `lrbench.streaming.meter.Spent`."""
        return self.meter.spent(self.budget.n_samples)

    def fingerprint(self) -> int:
        """Return a checksum of all that the view holds, and of a stream's first block: it changes when somebody writes into the data."""
        checksum = zlib.crc32(repr((self.budget, self.seed, self.pair)).encode())
        start = () if self.start is None else self.start.weights
        sites = self.sites.draw(0) if isinstance(self.sites, Stream) else self.sites
        for tensor in (*sites, *self.anchor_sites, *start):
            checksum = zlib.crc32(tensor.detach().cpu().contiguous().numpy().data, checksum)
        return checksum

    def head(self, n_samples: int) -> tuple[Float[Tensor, "sample d_in"], Float[Tensor, "sample d_out"]]:
        """Return the first distinct samples as (inputs, targets), all of them when there are fewer.

        They are the data itself. Those of a stream are drawn anew, at most 32,768 of them. Up to 4,096 in a fit are free, for what has
        to be calibrated; a fit that takes more pays for all of them from its budget.

        Raises
        ------
        LrbenchError
            In a fit that asks for more than its budget.
        """
        if isinstance(self.sites, Stream):
            sites = self.sites.head(min(n_samples, self.n_head))
        else:
            sites = tuple(site[:n_samples] for site in self.sites)
        self.meter.take(head=len(sites[0]))
        return self._pair(sites)

    def look_again(self, n_samples: int) -> None:
        """Count samples that `head` has shown once more: for a method that goes through a tensor that it holds another time.

        Raises
        ------
        LrbenchError
            For a negative number, and in a fit that asks for more than its budget.
        """
        if n_samples < 0:
            raise LrbenchError(
                f"n_samples={n_samples}: expected the number of samples that are looked at again, 0 or more"
            )
        self.meter.take(head=n_samples)

    def batches(
        self, batch_size: int | None = None, first: int = 0
    ) -> Iterator[tuple[Float[Tensor, "batch d_in"], Float[Tensor, "batch d_out"]]]:
        """Yield (input, target) batches until the budget is spent; every epoch has an order of its own.

        A stream has one epoch as long as the budget, in the order in which its samples are drawn.

        Parameters
        ----------
        batch_size
            Samples per batch, the budget's by default.
        first
            How many batches to leave out: those that a training saw before it was interrupted. They count as taken.

        Raises
        ------
        LrbenchError
            For a batch size below 1 or above the number of distinct samples, for more batches left out than there are, and in a fit
            that asks for more than its budget.
        """
        size = self._size(batch_size)
        last = self.budget.n_samples // size
        if not 0 <= first <= last:
            raise LrbenchError(f"first={first}: expected 0 to {last}, the number of batches of {size}")
        return self._metered(size, first)

    def _size(self, batch_size: int | None) -> int:
        size = self.budget.batch_size if batch_size is None else batch_size
        if not 1 <= size <= self.n_distinct:
            raise LrbenchError(f"batch_size={size}: expected 1 to {self.n_distinct}, the number of distinct samples")
        return size

    def _metered(self, size: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        self.meter.take(batches=first * size)
        for batch in self._batches(size, first):
            self.meter.take(batches=size)
            yield batch

    def _batches(self, size: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        for sites in self._site_batches(size, first, self.budget.n_samples // size):
            yield self._pair(sites)

    def _site_batches(self, size: int, first: int, last: int) -> Iterator[Sites | dict[int, Tensor]]:
        if isinstance(self.sites, Stream):
            yield from self.sites.batches(size, first, last)
            return
        per_epoch, order = len(self.sites[0]) // size, torch.empty(0)
        needed = {*self._ends[0], *self._ends[1]}
        for number in range(first, last):
            epoch, place = divmod(number, per_epoch)
            if number == first or not place:
                order = torch.randperm(len(self.sites[0]), generator=generator(self.seed, "order", epoch)).to(
                    self.device
                )
            rows = order[place * size : (place + 1) * size]
            yield {site: self.sites[site].index_select(0, rows) for site in needed}

    def saved(self) -> dict[str, Any] | None:
        """Begin a training: return the state that was last saved of it before it was interrupted, or None at a fresh start.

        Call it once per training, right before its loop: the global generators of `random`, NumPy and torch are put back to where
        they were then. What is returned is what `save` was given, its tensors on the CPU.
        """
        return self.keeper.saved()

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Save a training's state if it is time to: for the end of every step. It costs nothing until then.

        Parameters
        ----------
        state
            Returns all that the rest of the training depends on: tensors, numbers, strings and None, in dicts, lists and tuples. It may
            be called at any time until the training ends.

        Raises
        ------
        LrbenchError
            Before `saved` has begun a training, and for a state that holds anything else.
        """
        self.keeper.save(state)

    def report(self, step: int, samples: int, figures: Callable[[], Mapping[str, float]]) -> None:
        """Tell how far a training is, for the progress bar and the log of a run: after every step, before `save`.

        Parameters
        ----------
        step, samples
            Steps that are taken, and samples of the budget that they have spent.
        figures
            Returns some of ``loss``, ``l0``, ``fvu`` and ``dead``; it is called only a few times per second and for the rows of a log.

        Raises
        ------
        LrbenchError
            For another name.
        """
        self.keeper.report(step, samples, figures)

    def _pair(self, sites: Sites | dict[int, Tensor]) -> tuple[Tensor, Tensor]:
        first, second = self._ends
        inputs = _joined([sites[site] for site in first])
        return inputs, inputs if first == second else _joined([sites[site] for site in second])

    def dataset(self) -> IterableDataset[tuple[Tensor, Tensor]]:
        """Return the same stream, sample by sample, for a `torch.utils.data.DataLoader`."""
        return SampleStream(self)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class SampleStream(IterableDataset[tuple[Tensor, Tensor]]):
    """The samples of a view's batches, one (input, target) at a time; several loader workers share them out."""

    def __init__(self, view: TrainView) -> None:
        self.view = view

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker, size = get_worker_info(), self.view._size(None)
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for index, (inputs, targets) in enumerate(self.view._batches(size, 0)):
            if index % step == first:  # what the other workers hand on, they count
                self.view.meter.take(batches=size)
                yield from zip(inputs, targets, strict=True)
