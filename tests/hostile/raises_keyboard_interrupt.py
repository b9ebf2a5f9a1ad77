"""Looks like ctrl-C."""

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        raise KeyboardInterrupt


METHOD = Hostile()
