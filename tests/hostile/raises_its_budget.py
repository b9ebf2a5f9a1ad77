"""Gives itself ten times the samples."""

from dataclasses import replace

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        more = replace(view.budget, n_samples=10 * view.budget.n_samples)
        object.__setattr__(view, "budget", more)
        return lrbench.load_method("random").fit(view, seed)


METHOD = Hostile()
