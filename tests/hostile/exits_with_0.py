"""Leaves the process as if all were well."""

import os

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        os._exit(0)


METHOD = Hostile()
