"""Calls itself for ever."""

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        return self.fit(view, seed)


METHOD = Hostile()
