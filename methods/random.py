"""A random dictionary: the floor of every table.

σ: ReLU. Unit Gaussian rows, drawn apart for encoder and decoder; nothing is learned.
"""

from dataclasses import dataclass
from typing import ClassVar

from lrbench.dictionary import Dictionary, random_dictionary
from lrbench.method import Method
from lrbench.seeds import generator
from lrbench.view import TrainView


@dataclass(frozen=True)
class Random(Method):
    """The dictionary that the headline score takes for its zero."""

    kind: ClassVar[str] = "reference"

    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        """Return random directions at the full width."""
        shape = (view.budget.n_latents, view.d_in, view.d_out)
        return random_dictionary(*shape, rng=generator(seed, "init"), pair=view.pair).to(view.device)


METHOD = Random()
