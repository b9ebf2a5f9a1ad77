"""Never returns and never lets another thread of the process run: the loop is in C."""

import re

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        re.match("(a+)+$", "a" * 64 + "b")


METHOD = Hostile()
