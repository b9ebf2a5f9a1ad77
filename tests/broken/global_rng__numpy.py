"""Seeds NumPy for everybody."""

from dataclasses import dataclass

import numpy as np
import torch

from lrbench import Dictionary, Method, TrainView
from lrbench.activation import ReLU


@dataclass(frozen=True)
class Broken(Method):
    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        np.random.seed(seed)  # noqa: NPY002 (on purpose)
        w = torch.from_numpy(np.random.randn(view.budget.n_latents, view.d_in)).float()  # noqa: NPY002
        return Dictionary(w, None, w, None, ReLU())


METHOD = Broken()
