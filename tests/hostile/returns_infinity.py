"""Returns an infinite bias."""

import torch

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        dictionary = lrbench.load_method("random").fit(view, seed)
        dictionary.b_enc[0] = torch.inf
        return dictionary


METHOD = Hostile()
