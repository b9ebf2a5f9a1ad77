"""Non-negative matrix factorisation of the positive and the negative parts of the data, side by side.

σ: BatchTopK with the task's L0. Source: scikit-learn's MiniBatchNMF. Differs: activations have both signs, so x is split
into [max(x, 0), max(-x, 0)] and a part-based row becomes the difference of its two halves.
"""

from dataclasses import dataclass

import torch
from sklearn.decomposition import MiniBatchNMF

from lrbench.dictionary import Dictionary
from lrbench.method import Method
from lrbench.methods._code import CALIBRATION_SAMPLES, linear_dictionary
from lrbench.methods._sklearn import ended_by_budget, random_state
from lrbench.view import TrainView


@dataclass(frozen=True)
class NonNegativeParts(Method):
    """Parts as encoder and decoder rows, from the first samples, as many as the budget pays the passes over."""

    l0: float = 1.0
    passes: int = 40
    forget: float = 0.7  # how much of what earlier batches said stays

    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        """Return the parts after the last pass that the budget pays."""
        x = view.head(max(1, view.budget.n_samples // self.passes))[0]
        passes = view.budget.n_samples // len(x)
        view.look_again((passes - 1) * len(x))
        halves = torch.cat([x.relu(), (-x).relu()], dim=1).cpu()
        parts = MiniBatchNMF(
            view.budget.n_latents,
            init="random",
            batch_size=1024,
            forget_factor=self.forget,
            max_iter=max(1, passes - 1),  # the last one is the threshold's
            tol=0.0,  # all passes
            max_no_improvement=None,
            random_state=random_state(seed),
        )
        with ended_by_budget():
            parts.fit(halves.numpy())
        found = torch.from_numpy(parts.components_).float()
        rows = torch.nn.functional.normalize(found[:, : view.d_in] - found[:, view.d_in :], dim=1)
        return linear_dictionary(rows, x[:CALIBRATION_SAMPLES], self.l0 * view.budget.l0)


GRID = {"passes": (10, 20, 40), "forget": (0.7, 0.9)}
METHOD = NonNegativeParts()
