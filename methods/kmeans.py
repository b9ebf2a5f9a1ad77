"""Spherical k-means: every latent is the mean direction of a cluster of samples.

σ: BatchTopK with the task's L0. Source: scikit-learn's MiniBatchKMeans on unit vectors.
Differs: a sample may use several cluster directions, not its own only.
"""

from dataclasses import dataclass

import torch
from sklearn.cluster import MiniBatchKMeans
from torch.nn.functional import normalize

from lrbench.dictionary import Dictionary
from lrbench.method import Method
from lrbench.methods._code import CALIBRATION_SAMPLES, linear_dictionary
from lrbench.methods._sklearn import random_state
from lrbench.view import TrainView


@dataclass(frozen=True)
class SphericalKMeans(Method):
    """Cluster means as encoder and decoder; the budget is shared out evenly among the batches, and a sample moves one mean."""

    l0: float = 1.0
    batches: int = 150
    reassignment: float = 0.01  # a cluster with a smaller share than this of the largest one's samples starts anew

    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        """Return the cluster directions of the samples that are not zero."""
        n_latents = view.budget.n_latents
        means = MiniBatchKMeans(
            n_latents,
            n_init=1,
            reassignment_ratio=self.reassignment,
            compute_labels=False,  # a pass over all samples
            random_state=random_state(seed),
        )
        waiting = torch.empty(0, view.d_in)
        for x, _ in view.batches(max(1, min(view.n_distinct, view.budget.n_samples // self.batches))):
            waiting = torch.cat([waiting, x[x.norm(dim=1) > 1e-6].cpu()])
            if len(waiting) >= n_latents:  # fewer cannot be shared out among the clusters
                means.partial_fit(normalize(waiting, dim=1).numpy())
                waiting = waiting[:0]
        rows = normalize(torch.from_numpy(means.cluster_centers_).float(), dim=1)
        return linear_dictionary(rows, view.head(CALIBRATION_SAMPLES)[0], self.l0 * view.budget.l0)


GRID = {"batches": (38, 75, 150), "reassignment": (0.01, 0.1)}
METHOD = SphericalKMeans()
