"""Finds a way to be of the kind that has no budget."""

import torch

import lrbench
from lrbench.activation import ReLU


class Hostile(lrbench.Method):
    def fit(self, view, seed=0):
        rows = torch.eye(view.d_in).repeat(128, 1)
        return lrbench.Dictionary(rows, None, rows, None, ReLU())


Hostile.kind = "reference"
METHOD = Hostile()
