"""Returns in two processes."""

import os

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        os.fork()
        return lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
