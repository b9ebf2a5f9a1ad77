"""Scales the data in place."""

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        view.head(10)[0].mul_(2)
        return lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
