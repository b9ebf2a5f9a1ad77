"""Spherical k-means: every latent is the mean direction of a cluster of samples.

σ: TopK with the task's L0. Source: scikit-learn's MiniBatchKMeans on unit vectors. Differs: a sample may use several
cluster directions, not its own only.
"""

from dataclasses import dataclass

import torch
from sklearn.cluster import MiniBatchKMeans

from lrbench.activation import TopK
from lrbench.dictionary import Dictionary
from lrbench.method import Method
from lrbench.methods._sklearn import random_state
from lrbench.view import TrainView


@dataclass(frozen=True)
class SphericalKMeans(Method):
    """Cluster means as encoder and decoder."""

    samples: int = 16_384

    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        """Return the cluster directions of the first samples that are not zero."""
        x = view.head(self.samples)[0].cpu()
        x = torch.nn.functional.normalize(x[x.norm(dim=1) > 1e-6], dim=1)
        means = MiniBatchKMeans(
            min(view.budget.n_latents, len(x)),
            batch_size=1024,
            n_init=1,
            compute_labels=False,  # a pass over all samples
            random_state=random_state(seed),
        ).fit(x.numpy())
        rows = torch.nn.functional.normalize(torch.from_numpy(means.cluster_centers_).float(), dim=1)
        return Dictionary(rows, None, rows, None, TopK(view.budget.k())).to(view.device)


METHOD = SphericalKMeans()
