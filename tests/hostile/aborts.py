"""Aborts as a failed assertion in C does."""

import os

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        os.abort()


METHOD = Hostile()
