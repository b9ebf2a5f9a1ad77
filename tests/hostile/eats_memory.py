"""Asks for memory until there is none."""

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        kept = []
        while True:
            kept.append(bytearray(b"x" * 20_000_000))


METHOD = Hostile()
