"""Declares a number that no record can hold."""

from dataclasses import dataclass

import lrbench


@dataclass(frozen=True)
class Hostile(lrbench.Method):
    size: int = 10**5000

    def fit(self, view, seed=0):
        return lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
