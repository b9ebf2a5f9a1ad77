"""Which latents of a batch are selected, sample after sample."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F

from lrbench.engine.arrays import array_of, room, with_array
from lrbench.engine.mode import kernels, kernels_take


@dataclass(frozen=True)
class Selection:
    """The selected latents of every sample.

    Parameters
    ----------
    indices
        Latents, sample after sample; none twice in a sample.
    offsets
        Where each sample starts, and the number of all.
    n_latents
        Width n_q.
    known_samples
        `samples`, where they are known.
    """

    indices: Int[Tensor, " selected"]
    offsets: Int[Tensor, " batch_1"]
    n_latents: int
    known_samples: Int[Tensor, " selected"] | None = None

    @property
    def n_samples(self) -> int:
        """Size B of the batch."""
        return self.offsets.shape[0] - 1

    @cached_property
    def samples(self) -> Int[Tensor, " selected"]:
        """The sample of each selected latent."""
        if self.known_samples is not None:
            return self.known_samples
        if kernels_take(self.indices):
            every = room(self.indices.shape[0], dtype=self.indices.dtype)
            kernels.run_in_threads(kernels.samples, self.n_samples, self.offsets, every)
            return every
        every = torch.arange(self.n_samples, dtype=self.indices.dtype, device=self.indices.device)
        return torch.repeat_interleave(every, self.offsets.diff(), output_size=self.indices.shape[0])

    def where(self, keep: Bool[Tensor, " selected"]) -> tuple[Selection, Int[Tensor, " kept"]]:
        """Return what a mask keeps, and where it stood."""
        if not kernels_take(self.indices):
            before = F.pad(keep.cumsum(0, dtype=self.offsets.dtype), (1, 0))
            return Selection(self.indices[keep], before[self.offsets], self.n_latents), keep.nonzero().flatten()
        mask, offsets = array_of(keep), array_of(self.offsets)
        (places,) = mask.nonzero()
        ends = np.concatenate([np.zeros(1, offsets.dtype), mask.cumsum(dtype=offsets.dtype)])
        indices, samples = (with_array(array_of(each)[places]) for each in (self.indices, self.samples))
        return Selection(indices, with_array(ends[offsets]), self.n_latents, samples), torch.from_numpy(places)
