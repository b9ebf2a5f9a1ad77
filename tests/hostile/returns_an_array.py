"""Returns a NumPy array."""

import numpy as np

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        return np.zeros((view.budget.n_latents, view.d_in))


METHOD = Hostile()
