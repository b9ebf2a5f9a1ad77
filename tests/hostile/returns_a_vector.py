"""Returns an encoder that is no matrix."""

import torch

import lrbench
from lrbench.activation import ReLU


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        w = torch.randn(view.budget.n_latents, view.d_in)
        return lrbench.Dictionary(w[0], None, w, None, ReLU())


METHOD = Hostile()
