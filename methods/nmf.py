"""Non-negative matrix factorisation of the positive and the negative parts of the data, side by side.

σ: TopK with the task's L0. Source: scikit-learn's MiniBatchNMF. Differs: activations have both signs, so x is split
into [max(x, 0), max(-x, 0)] and a part-based row becomes the difference of its two halves.
"""

from dataclasses import dataclass

import torch
from sklearn.decomposition import MiniBatchNMF

from lrbench.activation import TopK
from lrbench.dictionary import Dictionary
from lrbench.method import Method
from lrbench.methods._sklearn import ended_by_budget, random_state
from lrbench.view import TrainView


@dataclass(frozen=True)
class NonNegativeParts(Method):
    """Parts as encoder and decoder rows."""

    samples: int = 4096
    max_iter: int = 10

    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        """Return the parts of the first samples."""
        x = view.head(self.samples)[0].cpu()
        parts = MiniBatchNMF(
            view.budget.n_latents,
            init="random",
            batch_size=512,
            max_iter=self.max_iter,
            random_state=random_state(seed),
        )
        with ended_by_budget():
            parts.fit(torch.cat([x.relu(), (-x).relu()], dim=1).numpy())
        halves = torch.from_numpy(parts.components_).float()
        rows = torch.nn.functional.normalize(halves[:, : view.d_in] - halves[:, view.d_in :], dim=1)
        return Dictionary(rows, None, rows, None, TopK(view.budget.k())).to(view.device)


METHOD = NonNegativeParts()
