"""Forgets to return anything."""

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
