"""Needs a package that nobody has."""

import no_such_package  # noqa: F401

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        return lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
