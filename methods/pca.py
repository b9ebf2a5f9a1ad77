"""Principal component analysis: orthogonal directions of largest variance, each with both signs.

σ: BatchTopK with the task's L0; a component and its negative are two latents. Source: scikit-learn's PCA.
It stops after one look at every distinct sample, which is all that it can learn from.
Differs: at most twice as many latents as dimensions, whatever the width allowed.
"""

from dataclasses import dataclass

import torch
from sklearn.decomposition import PCA

from lrbench.dictionary import Dictionary
from lrbench.method import Method
from lrbench.methods._code import CALIBRATION_SAMPLES, threshold_code
from lrbench.view import TrainView


@dataclass(frozen=True)
class PrincipalComponents(Method):
    """Both signs of the leading components."""

    l0: float = 1.0
    kept: float = 1.0  # share of the components, the leading ones
    whiten: bool = False  # whether latents are measured in units of their component's deviation

    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        """Return the components of the samples."""
        x = view.head(min(view.n_head, view.budget.n_samples))[0]
        n_components = max(1, round(self.kept * min(view.d_in, view.budget.n_latents // 2, len(x))))
        pca = PCA(n_components, svd_solver="covariance_eigh").fit(x.cpu().numpy())
        rows = torch.from_numpy(pca.components_).float().to(x)
        size = torch.from_numpy(pca.explained_variance_).float().to(x).sqrt().unsqueeze(1) if self.whiten else 1.0
        encoder, decoder = torch.cat([rows / size, -rows / size]), torch.cat([rows * size, -rows * size])
        mean = torch.from_numpy(pca.mean_).float().to(x)
        bias = -encoder @ mean
        code = threshold_code(x[:CALIBRATION_SAMPLES] @ encoder.T + bias, self.l0 * view.budget.l0)
        return Dictionary(encoder, bias, decoder, mean, code)


GRID = {"kept": (0.5, 0.75, 1.0), "whiten": (False, True)}
METHOD = PrincipalComponents()
