"""Encoder and decoder are mixed up, which only sites of two sizes show."""

from dataclasses import dataclass

import torch

from lrbench import Dictionary, Method, TrainView
from lrbench.activation import ReLU


@dataclass(frozen=True)
class Broken(Method):
    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        rng = torch.Generator().manual_seed(seed)
        w_enc = torch.randn(view.budget.n_latents, view.d_out, generator=rng)
        w_dec = torch.randn(view.budget.n_latents, view.d_in, generator=rng)
        return Dictionary(w_enc, None, w_dec, None, ReLU(), self.pair)


METHOD = Broken(pair="transcoder")
