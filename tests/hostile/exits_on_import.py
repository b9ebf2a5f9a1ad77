"""Leaves as soon as it is imported."""

import sys

import lrbench

sys.exit(3)


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        return lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
