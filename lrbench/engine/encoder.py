"""From inputs to the pre-activations that may become latents: one product with the encoder, and a selection.

Where the CPU multiplies in bfloat16 and the product is large, it is formed in bfloat16 and serves as a short-list only: the
pre-activations of what is listed are computed again in float32, so no rounded number reaches the loss. What the list can miss:

* `Encoder.above` nothing: it lists all that exceeds the floor less the largest error that the rounding can cause.
* `Encoder.top` and `batch_top` list an eighth more than asked for, at least 8 per sample, and positive ones only; a true winner is
  missed when rounding costs it more places than that, or its sign. ``docs/performance.md`` says how often this was seen.

``LRBENCH_ENGINE=exact`` switches the short-list off (`lrbench.engine.mode`).
"""

from __future__ import annotations

from functools import cached_property
from math import ceil

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from lrbench.engine import ops, reference
from lrbench.engine.arrays import array_of, keep_array, room, with_array
from lrbench.engine.latents import Active, Dense, Latents
from lrbench.engine.mode import kernels, kernels_take, shortlist_pays
from lrbench.engine.selection import Selection

ROUNDING = 2.0**-7 + 2.0**-12  # the largest relative error of a product of two roundings, with room for the sum
SPARSE, DENSE = 0.15, 0.2  # share of pre-activations above the floor below, or above, which the form is changed
SAMPLED, SHARE = 2**18, 8  # keys from which the bar of a batch is estimated: at most so many, or one in so many


class Encoder:
    """z = W_enc x + b_enc of a batch, as far as it is needed.

    Parameters
    ----------
    w, b
        Encoder rows and bias; they may change between calls.
    """

    def __init__(self, w: Float[Tensor, "latent d_in"], b: Float[Tensor, " latent"]) -> None:
        self.w, self.b = w, b
        self._now = w.detach(), b.detach()
        self.density = 1.0
        self._last: tuple[Tensor, Tensor | None] | None = None  # the last batch, and its keys if they order as z does
        self._kept: Tensor | None = None

    def all(self, x: Float[Tensor, "batch d_in"]) -> Dense:
        """Return every pre-activation."""
        self._last = x, None
        return Dense(self._product(x))

    def _product(self, x: Tensor) -> Tensor:
        return torch.addmm(self.b, x, self.w.T)

    def top(self, x: Float[Tensor, "batch d_in"], k: int) -> Active:
        """Return the k largest of each sample; negative ones may be left out."""
        k = min(k, self.w.shape[0])
        if not kernels_take(self.w):
            return self._active(x, reference.topk(self.all(x).values, k))
        keys = self._keys(x)
        self._last = x, keys
        return self._top(x, keys, k)

    def top_of_last_batch(self, n_samples: int, k: int, among: Bool[Tensor, " latent"]) -> Active:
        """Return the k largest among some latents, of the first samples of the batch that was last selected from.

        The weights must be what they were then: where the kernels selected by size, the product is not formed again. Others may
        be returned beside them, with a value of 0.
        """
        assert self._last is not None, "`top_of_last_batch` needs a selection before it"
        x, keys = self._last
        x, k = x[:n_samples], min(k, self.w.shape[0])
        if not kernels_take(self.w):
            chosen = reference.topk(self._product(x).masked_fill(~among, -torch.inf), k)
            return Active(chosen, ops.preactivations(x, self.w, self.b, chosen) * among[chosen.indices])
        keys = self._keys(x) if keys is None else keys[:n_samples]
        return self._top(x, keys, k, with_array(array_of(among).nonzero()[0]))

    def revive(
        self,
        k: int,
        among: Bool[Tensor, " latent"],
        w_dec: Float[Tensor, "latent d_out"],
        target: Float[Tensor, "few d_out"],
        reconstruction: Float[Tensor, "few d_out"],
        scale: float,
    ) -> tuple[Active, Float[Tensor, "few d_out"], Float[Tensor, " selected"]]:
        """Return `top_of_last_batch`, scale times the error that the reconstruction has with them, and their gradient from it.

        The samples are the first of the batch. Where the keys are the pre-activations one kernel does it all.
        """
        keys = self._last[1] if self._last is not None else None
        if keys is None or _short(keys) or not kernels_take(w_dec):
            pre = self.top_of_last_batch(target.shape[0], k, among)
            revived = pre.relu()
            vectors = ops.error(target, revived.decode(w_dec, reconstruction), scale)
            return pre, vectors, pre.where_positive(revived.project(w_dec, vectors))
        keys, living = keys[: target.shape[0]], array_of(among).nonzero()[0]
        z, vectors = keys.view(self.w.dtype), room(*target.shape, dtype=target.dtype)
        table, counts = _table(target.shape[0], min(k, len(living)))
        numbers = room(*table.shape, dtype=target.dtype)
        kernels.run_in_threads(
            kernels.revive, target.shape[0], keys, living, table.shape[1], z, w_dec, target, reconstruction,
            array_of(target).dtype.type(scale), table, counts, numbers, vectors,
        )  # fmt: skip
        chosen, values = _packed(table, counts, z)
        gradient = room(values.shape[0], dtype=target.dtype)
        kernels.pack_numbers(*map(array_of, (numbers, counts, gradient)))
        return Active(chosen, values, positive=True), vectors, gradient

    def _top(self, x: Tensor, keys: Tensor, k: int, among: Tensor | None = None) -> Active:
        if not _short(keys):
            return self._active(x, *_largest(keys, k, among))
        listed, _ = _largest(keys, k + _spare(k), among)
        with torch.no_grad():
            values = ops.preactivations(x, self.w, self.b, listed)
        table, counts = _table(listed.n_samples, k)
        kernels.run_in_threads(kernels.best, listed.n_samples, _bits(values), listed.offsets, k, table, counts)
        best, values = _packed(table, counts, values.expand(len(table), -1))
        chosen = Selection(listed.indices[best.indices], best.offsets, listed.n_latents, best.samples)
        return self._active(x, chosen, values)

    def batch_top(self, x: Float[Tensor, "batch d_in"], k: float) -> Active:
        """Return the k·B largest of a batch of B, rounded; negative ones may be left out."""
        k = min(k, self.w.shape[0])
        if not kernels_take(self.w):
            return self._active(x, reference.batch_topk(self.all(x).values, k))
        keys, want = self._keys(x), max(1, round(k * x.shape[0]))
        self._last = x, keys
        short = _short(keys)
        listed = _at_least(keys, want + _spare(ceil(k)) * x.shape[0] if short else want)
        with torch.no_grad():
            values = ops.preactivations(x, self.w, self.b, listed) if short else _gathered(keys, listed)
        if values.shape[0] > want:
            listed, values = _largest_of_batch(listed, values, want)
        return self._active(x, listed, values)

    def above(self, x: Float[Tensor, "batch d_in"], floor: Float[Tensor, " latent"] | float) -> Latents:
        """Return all that exceeds its latent's floor, and perhaps more: dense while that is much, by what is selected after.

        The form follows the share that was above the floor in the last batch; both have the same values and gradients.
        """
        if not kernels_take(self.w):
            return self.all(x)
        if self.density > SPARSE:
            pre = self.all(x)
            with torch.no_grad():
                above = _count(pre.values, floor) if isinstance(floor, float) else _count(pre.values - floor, 0.0)
            self.density = above.sum().item() / pre.values.numel()
            return pre
        self._last = x, None  # what is listed is ordered by its distance from the floor
        lift = self._lift(x, floor)
        keys = self._keys(x, lift)
        listed = _above(keys, 0)
        share = listed.indices.shape[0] / (x.shape[0] * self.w.shape[0])
        self.density = share if share <= DENSE else 1.0
        return self._active(x, listed, _gathered(keys, listed) if lift is None else None)

    @torch.no_grad()
    def _lift(self, x: Tensor, floor: Tensor | float) -> Tensor | None:
        """Return what is added to z so that all that may exceed the floor is positive; None for nothing."""
        short = shortlist_pays(x.shape[0], self.w)
        if isinstance(floor, float) and floor == 0.0 and not short:
            return None
        lift = -floor * torch.ones_like(self.b)
        if short:
            lift += ROUNDING * (x.norm(dim=1).max() * self.w.norm(dim=1) + (self.b + lift).abs())
        return lift

    def _active(self, x: Tensor, chosen: Selection, known: Tensor | None = None) -> Active:
        """Return the pre-activations that were chosen; they may be ``known``, positive ones, as numbers or as their bits."""
        if known is not None:
            known = known.view(self.w.dtype)
        return Active(chosen, ops.preactivations(x, self.w, self.b, chosen, known), positive=known is not None)

    def _keys(self, x: Tensor, lift: Tensor | None = None) -> Tensor:
        """Return integers that are positive where z + lift is, and order as it does there: its bits, or those of its bfloat16 form."""
        w, b = self._now
        b = b if lift is None else b + lift
        if not shortlist_pays(x.shape[0], w):
            return _bits(torch.addmm(b, x, w.T, out=self._room(x)))
        return _bits(F.linear(x.bfloat16(), self._bfloat16.copy_(w), b.bfloat16()))

    def _room(self, x: Tensor) -> Tensor:
        """Return where the product is formed: kept, for the system hands out new memory page by page, and all zeroed."""
        if self._kept is None or self._kept.shape[0] < x.shape[0]:
            self._kept = x.new_empty(x.shape[0], self.w.shape[0])
        return self._kept[: x.shape[0]]

    @cached_property
    def _bfloat16(self) -> Tensor:
        return torch.empty_like(self.w, dtype=torch.bfloat16)


def _bits(z: Tensor) -> Tensor:
    """Return the numbers as integers."""
    bits = z.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[z.itemsize])
    keep_array(bits)
    return bits


def _short(keys: Tensor) -> bool:
    """Whether the keys were rounded and make a short-list only."""
    return keys.dtype == torch.int16


def _spare(k: int) -> int:
    """Return how many more than k a short-list holds of a sample."""
    return max(8, k // 8)


def _largest(keys: Tensor, want: int, among: Int[Tensor, " some"] | None = None) -> tuple[Selection, Tensor]:
    """Return the ``want`` largest positive keys of every sample, of all latents or among some, and which they are."""
    n_samples, n_latents = keys.shape
    table, counts = _table(n_samples, min(want, n_latents if among is None else among.shape[0]))
    if among is None:
        kernels.run_in_threads(kernels.largest, n_samples, keys, table.shape[1], table, counts)
    else:
        kernels.run_in_threads(kernels.largest_among, n_samples, keys, among, table.shape[1], table, counts)
    return _packed(table, counts, keys)


def _table(n_samples: int, want: int) -> tuple[Int[Tensor, "batch want"], Int[Tensor, " batch"]]:
    """Return room for as many latents of every sample, and for how many of them count."""
    return room(n_samples, want, dtype=torch.int32), room(n_samples, dtype=torch.int32)


def _packed(table: Tensor, counts: Tensor, z: Tensor) -> tuple[Selection, Tensor]:
    """Return the entries of every row that count, row after row, and the numbers that z holds there."""
    offsets, numbers = np.empty(table.shape[0] + 1, np.int32), array_of(z)
    indices, samples = (np.empty(table.numel(), np.int32) for _ in range(2))
    values = np.empty(table.numel(), numbers.dtype)
    n = kernels.pack(array_of(table), array_of(counts), numbers, offsets, indices, samples, values)
    chosen = Selection(with_array(indices[:n]), with_array(offsets), z.shape[1], with_array(samples[:n]))
    return chosen, torch.from_numpy(values[:n])


def _gathered(z: Tensor, chosen: Selection) -> Tensor:
    values = room(chosen.indices.shape[0], dtype=z.dtype)
    kernels.run_in_threads(kernels.gather, chosen.n_samples, chosen.indices, chosen.offsets, z, values)
    return values


def _largest_of_batch(listed: Selection, values: Tensor, want: int) -> tuple[Selection, Tensor]:
    """Return the ``want`` largest positive values of what is listed, and which they are."""
    indices, kept = array_of(listed.indices), array_of(listed.offsets)
    places, samples, offsets = np.empty(want, np.int32), np.empty(want, np.int32), np.empty_like(kept)
    n = kernels.largest_of_batch(array_of(_bits(values)), kept, want, places, offsets, samples)
    chosen = Selection(with_array(indices[places[:n]]), with_array(offsets), listed.n_latents, with_array(samples[:n]))
    return chosen, torch.from_numpy(array_of(values)[places[:n]])


def _at_least(keys: Tensor, want: int) -> Selection:
    """Return the ``want`` largest positive keys of a batch, and some more: the bar is estimated from a part of the keys."""
    sample = keys.flatten()[:: max(SHARE, keys.numel() // SAMPLED) | 1].contiguous().numpy()
    share: float = want * len(sample) / keys.numel()
    while True:
        share = 1.1 * share + 3 * share**0.5
        if share >= len(sample):
            return _above(keys, 0)
        bar = max(0, kernels.threshold(sample, int(share) + 1))
        counts = _count(keys, bar)
        if bar == 0 or int(counts.sum()) >= want:
            return _above(keys, bar, counts)


def _count(keys: Tensor, bar: float) -> Int[Tensor, " batch"]:
    counts = room(keys.shape[0], dtype=torch.int32)
    kernels.run_in_threads(kernels.count_above, keys.shape[0], keys, _like(keys, bar), counts)
    return counts


def _above(keys: Tensor, bar: float, counts: Tensor | None = None) -> Selection:
    """Return the keys above the bar."""
    offsets = _offsets(_count(keys, bar) if counts is None else counts)
    indices = room(int(array_of(offsets)[-1]), dtype=torch.int32)
    kernels.run_in_threads(kernels.list_above, keys.shape[0], keys, _like(keys, bar), offsets, indices)
    return Selection(indices, offsets, keys.shape[1])


def _like(keys: Tensor, bar: float) -> np.generic:
    kind: np.generic = array_of(keys).dtype.type(bar)
    return kind


def _offsets(counts: Int[Tensor, " batch"]) -> Int[Tensor, " batch_1"]:
    offsets = room(counts.shape[0] + 1, dtype=torch.int32)
    kernels.add_up(array_of(counts), array_of(offsets))
    return offsets
