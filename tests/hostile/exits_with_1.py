"""Leaves the process."""

import os

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        os._exit(1)


METHOD = Hostile()
