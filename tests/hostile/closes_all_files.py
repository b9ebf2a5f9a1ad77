"""Closes every file, among them the pipe that it answers through."""

import os

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        os.closerange(0, 1000)
        return lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
