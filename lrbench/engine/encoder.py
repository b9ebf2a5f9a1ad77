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

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from lrbench.engine import ops, reference
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
        return self._top(x, keys, k, among.nonzero().flatten())

    def _top(self, x: Tensor, keys: Tensor, k: int, among: Tensor | None = None) -> Active:
        listed = _largest(keys, k + _spare(k) if _short(keys) else k, among)
        if not _short(keys):
            return self._active(x, listed)
        with torch.no_grad():
            values = ops.preactivations(x, self.w, self.b, listed)
        return self._active(x, _best(listed, values, k))

    def batch_top(self, x: Float[Tensor, "batch d_in"], k: int) -> Active:
        """Return the k·B largest of a batch of B; negative ones may be left out."""
        k = min(k, self.w.shape[0])
        if not kernels_take(self.w):
            return self._active(x, reference.batch_topk(self.all(x).values, k))
        keys, want = self._keys(x), k * x.shape[0]
        self._last = x, keys
        listed = _at_least(keys, want + _spare(k) * x.shape[0] if _short(keys) else want)
        if listed.indices.shape[0] > want:
            with torch.no_grad():
                if _short(keys):
                    values = ops.preactivations(x, self.w, self.b, listed)
                else:  # the keys are the bits of pre-activations in full, and order as they do
                    values = keys[listed.samples.long(), listed.indices.long()]
            keep = torch.zeros_like(values, dtype=torch.bool)
            keep[values.topk(want, sorted=False).indices] = True
            listed = listed.where(keep)
        return self._active(x, listed)

    def above(self, x: Float[Tensor, "batch d_in"], floor: Float[Tensor, " latent"] | float) -> Latents:
        """Return all that exceeds its latent's floor, and perhaps more: dense while that is much, by what is selected after.

        The form follows the share that was above the floor in the last batch; both have the same values and gradients.
        """
        if not kernels_take(self.w):
            return self.all(x)
        if self.density > SPARSE:
            pre = self.all(x)
            with torch.no_grad():
                self.density = _count(pre.values - floor, 0.0).sum().item() / pre.values.numel()
            return pre
        self._last = x, None  # what is listed is ordered by its distance from the floor
        with torch.no_grad():
            lift = -floor * torch.ones_like(self.b)
            if shortlist_pays(x.shape[0], self.w):
                error = x.norm(dim=1).max() * self.w.norm(dim=1) + (self.b + lift).abs()
                lift += ROUNDING * error
            listed = _above(self._keys(x, lift), 0)
        share = listed.indices.shape[0] / (x.shape[0] * self.w.shape[0])
        self.density = share if share <= DENSE else 1.0
        return self._active(x, listed)

    def _active(self, x: Tensor, chosen: Selection) -> Active:
        return Active(chosen, ops.preactivations(x, self.w, self.b, chosen))

    @torch.no_grad()
    def _keys(self, x: Tensor, lift: Tensor | None = None) -> Tensor:
        """Return integers that are positive where z + lift is, and order as it does there: its bits, or those of its bfloat16 form."""
        b = self.b if lift is None else self.b + lift
        if not shortlist_pays(x.shape[0], self.w):
            return _bits(torch.addmm(b, x, self.w.T, out=self._room(x)))
        return _bits(F.linear(x.bfloat16(), self._bfloat16.copy_(self.w), b.bfloat16()))

    def _room(self, x: Tensor) -> Tensor:
        """Return where the product is formed: kept, for the system hands out new memory page by page, and all zeroed."""
        if self._kept is None or self._kept.shape[0] < x.shape[0]:
            self._kept = x.new_empty(x.shape[0], self.w.shape[0])
        return self._kept[: x.shape[0]]

    @cached_property
    def _bfloat16(self) -> Tensor:
        return torch.empty_like(self.w, dtype=torch.bfloat16)


def _bits(z: Tensor) -> Tensor:
    return z.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[z.itemsize])


def _short(keys: Tensor) -> bool:
    """Whether the keys were rounded and make a short-list only."""
    return keys.dtype == torch.int16


def _spare(k: int) -> int:
    """Return how many more than k a short-list holds of a sample."""
    return max(8, k // 8)


def _largest(keys: Tensor, want: int, among: Int[Tensor, " some"] | None = None) -> Selection:
    """Return the ``want`` largest positive keys of every sample, of all latents or among some."""
    n_samples, n_latents = keys.shape
    want = min(want, n_latents if among is None else len(among))
    table, counts = torch.empty(n_samples, want, dtype=torch.int32), torch.empty(n_samples, dtype=torch.int32)
    if among is None:
        kernels.run_in_threads(kernels.largest, n_samples, keys, want, table, counts)
    else:
        kernels.run_in_threads(kernels.largest_among, n_samples, keys, among, want, table, counts)
    offsets = _offsets(counts)
    return Selection(_packed(table, offsets), offsets, n_latents)


def _best(listed: Selection, values: Tensor, k: int) -> Selection:
    """Return the k of every sample that have the largest positive values."""
    n_samples = listed.n_samples
    table, counts = torch.empty(n_samples, k, dtype=torch.int32), torch.empty(n_samples, dtype=torch.int32)
    kernels.run_in_threads(kernels.best, n_samples, _bits(values), listed.offsets, k, table, counts)
    offsets = _offsets(counts)
    return Selection(listed.indices[_packed(table, offsets)], offsets, listed.n_latents)


def _packed(table: Tensor, offsets: Tensor) -> Tensor:
    """Return the entries of every row that count, row after row."""
    entries = torch.empty(int(offsets[-1]), dtype=torch.int32)
    kernels.run_in_threads(kernels.pack, table.shape[0], table, offsets, entries)
    return entries


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
    counts = torch.empty(keys.shape[0], dtype=torch.int32)
    kernels.run_in_threads(kernels.count_above, keys.shape[0], keys, _like(keys, bar), counts)
    return counts


def _above(keys: Tensor, bar: float, counts: Tensor | None = None) -> Selection:
    """Return the keys above the bar."""
    offsets = _offsets(_count(keys, bar) if counts is None else counts)
    indices = torch.empty(int(offsets[-1]), dtype=torch.int32)
    kernels.run_in_threads(kernels.list_above, keys.shape[0], keys, _like(keys, bar), offsets, indices)
    return Selection(indices, offsets, keys.shape[1])


def _like(keys: Tensor, bar: float) -> np.generic:
    kind: np.generic = keys[:0].numpy().dtype.type(bar)
    return kind


def _offsets(counts: Int[Tensor, " batch"]) -> Int[Tensor, " batch_1"]:
    return F.pad(counts.cumsum(0, dtype=torch.int32), (1, 0))
