"""Replaces a method of every dictionary."""

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        lrbench.Dictionary.encode = lambda self, x: x
        return lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
