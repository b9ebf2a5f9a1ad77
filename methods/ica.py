"""Independent component analysis: directions whose activities are as independent as they get.

σ: ReLU.
Source: scikit-learn's FastICA. Differs: components are turned so that their activity is skewed to the positive
side, as the features' is; at most as many latents as dimensions, whatever the width allowed.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import FastICA

from lrbench.activation import ReLU
from lrbench.dictionary import Dictionary
from lrbench.method import Method
from lrbench.methods._sklearn import ended_by_budget, random_state
from lrbench.view import TrainView


@dataclass(frozen=True)
class IndependentComponents(Method):
    """FastICA's unmixing rows as encoder, its mixing columns as decoder."""

    samples: int = 8192
    max_iter: int = 50

    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        """Return the components of the first samples."""
        x = view.head(self.samples)[0].cpu().numpy()
        ica = FastICA(
            min(view.d_in, view.budget.n_latents),
            whiten="unit-variance",
            whiten_solver="eigh",  # of the covariance: a tenth of the time of the samples' svd
            fun=_log_cosh,
            max_iter=self.max_iter,
            random_state=random_state(seed),
        )
        with ended_by_budget():
            activity = ica.fit_transform(x)
        signs = np.where((activity**3).mean(0) < 0, -1.0, 1.0)
        encoder = torch.from_numpy(signs[:, None] * ica.components_).float()
        decoder = torch.from_numpy(signs[:, None] * ica.mixing_.T).float()
        mean = torch.from_numpy(ica.mean_).float()
        return Dictionary(encoder, -encoder @ mean, decoder, mean, ReLU()).to(view.device)


def _log_cosh(x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the derivative of log cosh and the mean of its second derivative per component; scikit-learn's own loops in Python."""
    slope = torch.from_numpy(x).tanh_().numpy()
    return slope, 1.0 - np.einsum("ij,ij->i", slope, slope) / slope.shape[1]


METHOD = IndependentComponents()
