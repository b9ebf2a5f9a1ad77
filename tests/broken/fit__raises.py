"""A bug."""

from dataclasses import dataclass

from lrbench import Dictionary, Method, TrainView
from lrbench.activation import ReLU


@dataclass(frozen=True)
class Broken(Method):
    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        return Dictionary(view.weights, None, view.weights, None, ReLU())


METHOD = Broken()
