"""Never returns."""

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        while True:
            pass


METHOD = Hostile()
