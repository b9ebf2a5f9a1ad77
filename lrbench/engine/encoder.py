"""From inputs to the pre-activations that may become latents: one product with the encoder, and a selection.

Where the CPU multiplies in bfloat16 and the product is large, it is formed in bfloat16 and serves as a short-list only: the
pre-activations of what is listed are computed again in float32, so no rounded number reaches the loss. What the list can miss:

* `Encoder.above` nothing: it lists all that exceeds the floor less the largest error that the rounding can cause.
* `Encoder.top` and `batch_top` list an eighth more than asked for, at least 8 a sample, and positive ones only; a true winner is
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
from lrbench.engine.mode import compiled, kernels, rounded
from lrbench.engine.selection import Selection

ROUNDING = 2.0**-8 + 2.0**-12  # the largest relative error of a product of two roundings, with room for the sum
SPARSE, DENSE = 0.15, 0.2  # share of pre-activations above the floor below, or above, which the form is changed
SAMPLED = 2**18  # keys from which the bar of a batch is estimated


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

    def all(self, x: Float[Tensor, "batch d_in"]) -> Dense:
        """Return every pre-activation."""
        return Dense(torch.addmm(self.b, x, self.w.T))

    def top(self, x: Float[Tensor, "batch d_in"], k: int, among: Bool[Tensor, " latent"] | None = None) -> Active:
        """Return the k largest of each sample; negative ones may be left out.

        Parameters
        ----------
        x
            Inputs.
        k
            How many a sample.
        among
            Only these latents count; where they are fewer than k, others may be returned beside them.
        """
        n_latents = self.w.shape[0]
        k = min(k, n_latents)
        if not compiled(self.w):
            z = self.all(x).values
            return self._active(x, reference.topk(z if among is None else z.masked_fill(~among, -torch.inf), k))
        keys = self._keys(x)
        if among is not None:
            keys.masked_fill_(~among, 0)
        if keys.is_floating_point():
            return self._active(x, _largest(keys, k))
        listed = _largest(keys, min(n_latents, k + _spare(k)))
        with torch.no_grad():
            values = ops.preactivations(x, self.w, self.b, listed)
        return self._active(x, _best(listed, values, k))

    def batch_top(self, x: Float[Tensor, "batch d_in"], k: int) -> Active:
        """Return the k·B largest of a batch of B; negative ones may be left out."""
        k = min(k, self.w.shape[0])
        if not compiled(self.w):
            return self._active(x, reference.batch_topk(self.all(x).values, k))
        keys, want = self._keys(x), k * x.shape[0]
        listed = _at_least(keys, want if keys.is_floating_point() else want + _spare(k) * x.shape[0])
        if listed.indices.shape[0] > want:
            with torch.no_grad():
                values = ops.preactivations(x, self.w, self.b, listed)
            keep = torch.zeros_like(values, dtype=torch.bool)
            keep[values.topk(want, sorted=False).indices] = True
            listed = listed.where(keep)
        return self._active(x, listed)

    def above(self, x: Float[Tensor, "batch d_in"], floor: Float[Tensor, " latent"] | float) -> Latents:
        """Return all that exceeds its latent's floor, and perhaps more: dense while that is much, by what is selected after.

        The form follows the share that was above the floor in the last batch; both have the same values and gradients.
        """
        if not compiled(self.w):
            return self.all(x)
        if self.density > SPARSE:
            pre = self.all(x)
            with torch.no_grad():
                self.density = _count(pre.values - floor, 0.0).sum().item() / pre.values.numel()
            return pre
        with torch.no_grad():
            lift = -floor * torch.ones_like(self.b)
            if rounded(x.shape[0], self.w):
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
        """Return numbers that order as z + lift and are positive where it is: itself, or the bits of its bfloat16 form."""
        b = self.b if lift is None else self.b + lift
        if not rounded(x.shape[0], self.w):
            return torch.addmm(b, x, self.w.T)
        return F.linear(x.bfloat16(), self._short.copy_(self.w), b.bfloat16()).view(torch.int16)

    @cached_property
    def _short(self) -> Tensor:
        return torch.empty_like(self.w, dtype=torch.bfloat16)


def _spare(k: int) -> int:
    """Return how many more than k a short-list holds of a sample."""
    return max(8, k // 8)


def _largest(keys: Tensor, want: int) -> Selection:
    """Return the ``want`` largest positive keys of every sample."""
    n_samples, n_latents = keys.shape
    indices, counts = torch.empty(n_samples, want, dtype=torch.int32), torch.empty(n_samples, dtype=torch.int32)
    kernels.spread(kernels.largest, n_samples, keys, want, indices, counts)
    return Selection(_filled(indices, counts), _offsets(counts), n_latents)


def _best(listed: Selection, values: Tensor, k: int) -> Selection:
    """Return the k of every sample that have the largest positive values."""
    places, counts = (
        torch.empty(listed.n_samples, k, dtype=torch.int32),
        torch.empty(listed.n_samples, dtype=torch.int32),
    )
    kernels.spread(kernels.best, listed.n_samples, values, listed.offsets, k, places, counts)
    return Selection(listed.indices[_filled(places, counts)], _offsets(counts), listed.n_latents)


def _filled(table: Tensor, counts: Tensor) -> Tensor:
    """Return the first ``counts`` entries of every row, row after row."""
    return table[torch.arange(table.shape[1]) < counts.unsqueeze(1)]


def _at_least(keys: Tensor, want: int) -> Selection:
    """Return the ``want`` largest positive keys of a batch, and some more: the bar is estimated from a part of the keys."""
    sample = keys.flatten()[:: max(1, keys.numel() // SAMPLED) | 1].numpy()
    share: float = want * len(sample) / keys.numel()
    while True:
        share = 1.1 * share + 3 * share**0.5
        if share >= len(sample):
            return _above(keys, 0)
        bar = max(0, np.partition(sample, -int(share) - 1)[-int(share) - 1])
        counts = _count(keys, bar)
        if bar == 0 or int(counts.sum()) >= want:
            return _above(keys, bar, counts)


def _count(keys: Tensor, bar: float) -> Int[Tensor, " batch"]:
    counts = torch.empty(keys.shape[0], dtype=torch.int32)
    kernels.spread(kernels.count_above, keys.shape[0], keys, _like(keys, bar), counts)
    return counts


def _above(keys: Tensor, bar: float, counts: Tensor | None = None) -> Selection:
    """Return the keys above the bar."""
    offsets = _offsets(_count(keys, bar) if counts is None else counts)
    indices = torch.empty(int(offsets[-1]), dtype=torch.int32)
    kernels.spread(kernels.list_above, keys.shape[0], keys, _like(keys, bar), offsets, indices)
    return Selection(indices, offsets, keys.shape[1])


def _like(keys: Tensor, bar: float) -> np.generic:
    kind: np.generic = keys[:0].numpy().dtype.type(bar)
    return kind


def _offsets(counts: Int[Tensor, " batch"]) -> Int[Tensor, " batch_1"]:
    return F.pad(counts.cumsum(0, dtype=torch.int32), (1, 0))
