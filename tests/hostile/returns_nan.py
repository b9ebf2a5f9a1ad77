"""Returns NaN in one weight."""

import torch

import lrbench


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        dictionary = lrbench.load_method("random").fit(view, seed)
        dictionary.W_dec[0, 0] = torch.nan
        return dictionary


METHOD = Hostile()
