"""Raises an error with a message of 10 MB."""

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        raise ValueError("x" * 10_000_000)


METHOD = Hostile()
