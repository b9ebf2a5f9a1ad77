"""`Stream`: samples that are drawn while training runs, block by block. It holds none, and does not know who draws them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import NoReturn

import torch
from jaxtyping import Float
from torch import Tensor

from lrbench.errors import LrbenchError

BLOCK = 4096  # samples that are drawn at once; with another number a seed gives other samples: raise WORLD_VERSION
HEAD = 32_768  # samples that `TrainView.head` shows at most: 100 MB for each site of the paper's scale

Sites = tuple[Float[Tensor, "sample _d_site"], ...]  # the same samples at every site


def n_blocks(n_samples: int) -> int:
    """Return in how many blocks the first samples of a stream lie."""
    return -(-n_samples // BLOCK)


@dataclass(frozen=True, eq=False, repr=False)
class Stream:
    """Samples without end at every site of a view, in an order of their own: sample i is the same whatever was read before.

    Parameters
    ----------
    draw
        Returns a block by its number: samples ``number * BLOCK`` and the `BLOCK` - 1 after it at every site, new float32 tensors
        of shape (BLOCK, d_site) on the CPU.
    widths
        d_site of every site.
    device
        Where samples are put.

    Examples
    --------
    >>> numbers = lambda block: (BLOCK * block + torch.arange(float(BLOCK)).unsqueeze(1),)
    >>> stream = Stream(numbers, (1,))
    >>> [batch[0].flatten().tolist() for batch in stream.batches(2, first=2049, last=2051)]
    [[4098.0, 4099.0], [4100.0, 4101.0]]
    """

    draw: Callable[[int], Sites]
    widths: tuple[int, ...]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def to(self, device: str | torch.device) -> Stream:
        """Return the same samples, put on a device."""
        return replace(self, device=torch.device(device))

    def head(self, n_samples: int) -> Sites:
        """Return the first samples, newly drawn."""
        first = next(self.batches(max(1, n_samples), 0, 1))
        return tuple(site[: max(0, n_samples)] for site in first)

    def batches(self, size: int, first: int, last: int) -> Iterator[Sites]:
        """Yield the batches from number ``first`` to before ``last``; the next block is drawn while one is in use.

        Batch b holds the samples from ``b * size`` on. A batch belongs to who takes it.
        """
        left = last - first
        if left < 1:
            return
        place, parts, missing = first * size % BLOCK, list[Sites](), size
        for block in self._blocks(range(first * size // BLOCK, n_blocks(last * size))):
            while place < BLOCK and left:
                parts.append(tuple(site[place : place + missing] for site in block))
                place, missing = place + len(parts[-1][0]), missing - len(parts[-1][0])
                if not missing:
                    batch = parts[0] if len(parts) == 1 else tuple(map(torch.cat, zip(*parts, strict=True)))
                    parts, missing, left = [], size, left - 1  # a part would keep its whole block
                    yield batch
            place = 0

    def _blocks(self, numbers: range) -> Iterator[Sites]:
        ahead = ThreadPoolExecutor(1, "lrbench-stream")
        try:
            ready = ahead.submit(self._block, numbers[0])
            for number in numbers:
                block = ready.result()
                if number + 1 in numbers:
                    ready = ahead.submit(self._block, number + 1)
                yield block
        finally:  # also where the reader stops early
            ahead.shutdown(cancel_futures=True)

    def _block(self, number: int) -> Sites:
        return tuple(site.to(self.device) for site in self.draw(number))

    def __getitem__(self, site: int) -> NoReturn:
        self._refuse()

    def __iter__(self) -> NoReturn:
        self._refuse()

    def __len__(self) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise LrbenchError(
            f"view.sites: this task draws its samples while training runs and holds none: read view.batches(), or view.head(n)"
            f" for the first {HEAD:,} at most"
        )
