"""Prints a gigabyte, half of it past Python."""

import os

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        for _ in range(500):
            print("x" * 1_000_000)
            os.write(1, b"y" * 1_000_000)
        return lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
