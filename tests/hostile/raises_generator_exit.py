"""Raises what closes a generator."""

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        raise GeneratorExit


METHOD = Hostile()
