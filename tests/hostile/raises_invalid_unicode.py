"""Raises an error whose message is no valid Unicode and would colour a terminal."""

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        raise ValueError("\udc80 \x1b[31m red \0")


METHOD = Hostile()
