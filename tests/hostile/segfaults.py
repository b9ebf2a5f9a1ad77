"""Reads from address 0."""

import ctypes

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        ctypes.string_at(0)


METHOD = Hostile()
