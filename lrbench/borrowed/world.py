"""Worlds that are somebody else's model, instead of one from its seed."""

from __future__ import annotations

from dataclasses import dataclass

from lrbench.borrowed.model import Model
from lrbench.structure import WorldSpec
from lrbench.world import World


class BorrowedWorld(World):
    """A world that is a model.

    Parameters
    ----------
    spec
        What the world's hash and a task's budget go by.
    seed
        Of the samples.
    model
        Has the directions, the offset and the law of the features.
    """

    def __init__(self, spec: WorldSpec, seed: int, model: Model) -> None:
        self.spec = spec
        self.seed = seed
        self.directions = [model.directions]
        self._linear, self._bends = self.directions, [None]
        self.offsets, self.law = [model.offset], model.law


@dataclass(frozen=True)
class Lender:
    """Worlds of one model, which is at hand: see `lrbench.task.Source`."""

    model: Model

    def missing(self, law: WorldSpec) -> str:
        """Return that nothing is missing."""
        return ""

    def prepare(self, law: WorldSpec) -> None:
        """There is nothing to make."""

    def world(self, law: WorldSpec, seed: int) -> World:
        """Return the model as a world; samples are drawn from the seed."""
        return BorrowedWorld(law, seed, self.model)
