"""Principal component analysis: orthogonal directions of largest variance, each with both signs.

σ: ReLU, so that a component and its negative are two latents. Source: scikit-learn's PCA.
Differs: at most twice as many latents as dimensions, whatever the width allowed.
"""

from dataclasses import dataclass

import torch
from sklearn.decomposition import PCA

from lrbench.activation import ReLU
from lrbench.dictionary import Dictionary
from lrbench.method import Method
from lrbench.view import TrainView


@dataclass(frozen=True)
class PrincipalComponents(Method):
    """Both signs of the leading components."""

    samples: int = 16_384

    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        """Return the components of the first samples."""
        x = view.head(self.samples)[0].cpu()
        n_components = min(view.d_in, view.budget.n_latents // 2, len(x))
        pca = PCA(n_components, svd_solver="full").fit(x.numpy())
        rows = torch.from_numpy(pca.components_).float()
        rows = torch.cat([rows, -rows])
        mean = torch.from_numpy(pca.mean_).float()
        return Dictionary(rows, -rows @ mean, rows, mean, ReLU()).to(view.device)


METHOD = PrincipalComponents()
