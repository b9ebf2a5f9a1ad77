"""Writes one number of the data through NumPy."""

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        view.sites[0].numpy()[5, 3] = 0
        return lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
