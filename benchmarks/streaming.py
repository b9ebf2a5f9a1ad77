"""What drawing samples while training runs adds to a training step: for the row of `speed.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from time import perf_counter, process_time

import lrbench  # isort: skip (before torch: it tells OpenMP how threads wait)
import torch
from torch import Tensor

from lrbench.streaming.stream import BLOCK, Stream
from lrbench.structure import WorldSpec
from lrbench.view import Budget, TrainView
from lrbench.world import World

WARM, ROUNDS = 4, 3  # steps before those that count; how often each kind of view has its turn


@dataclass(frozen=True, eq=False, repr=False)
class StampedView(TrainView):
    """A view that notes when it hands out a batch, on the clock and in processor time: a step is all between two."""

    stamps: list[Tensor] = field(default_factory=list)

    def batches(self, batch_size: int | None = None, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches for the warm-up and for two blocks of a stream."""
        size = self.budget.batch_size if batch_size is None else batch_size
        for batch in islice(TrainView.batches(self, size, first), WARM + 1 + max(1, 2 * BLOCK // size)):
            self.stamps.append(torch.tensor([perf_counter(), process_time()], dtype=torch.float64))
            yield batch

    def step(self) -> Tensor:
        """Return the mean seconds of a step after the warm-up: on the clock, of the processor."""
        return (self.stamps[-1] - self.stamps[WARM]) / (len(self.stamps) - WARM - 1)


def step_seconds(spec: WorldSpec, budget: Budget, tick: Callable[[str], object]) -> tuple[list[float], list[float]]:
    """Return the seconds of a TopK step, on the clock and of the processor: on samples drawn meanwhile, and on samples held.

    The two take turns; medians over `ROUNDS` turns.
    """
    world, method = World(spec, seed=0), lrbench.load_method("topk_sae", k=budget.k())

    def draw(block: int) -> tuple[Tensor]:
        return (world.represent(world.sample(BLOCK, "data", block), 0, "data", block),)

    known = (world.directions[0][: spec.n_features // 10],)
    sources: list[Stream | tuple[Tensor]] = [Stream(draw, spec.dims), (torch.cat([draw(i)[0] for i in range(4)]),)]
    times: tuple[list[Tensor], list[Tensor]] = ([], [])
    for _ in range(ROUNDS):
        for own, source in zip(times, sources, strict=True):
            view = StampedView(source, known, budget, 0)
            method.fit(view, seed=0)
            own.append(view.step())
            tick(f"a step in {own[-1][0]:.3f} s")
    drawn, held = (torch.stack(own).median(dim=0).values.tolist() for own in times)
    return drawn, held
