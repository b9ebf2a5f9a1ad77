"""Independent component analysis: directions whose activities are as independent as they get.

σ: BatchTopK with the task's L0. Source: scikit-learn's FastICA. It stops when it has converged, or when the budget is spent.
Differs: components are turned so that their activity is skewed to the positive side, as the features' is; at most as many
latents as dimensions in which the samples vary, whatever the width allowed.
"""

from dataclasses import dataclass

import torch
from sklearn.decomposition import FastICA

from lrbench.dictionary import Dictionary
from lrbench.errors import NotApplicable
from lrbench.method import Method
from lrbench.methods._code import CALIBRATION_SAMPLES, threshold_code
from lrbench.methods._sklearn import ended_by_budget, random_state
from lrbench.view import TrainView


@dataclass(frozen=True)
class IndependentComponents(Method):
    """FastICA's unmixing rows as encoder, its mixing columns as decoder, from the first samples, as many as the budget pays the passes over."""

    l0: float = 1.0
    passes: int = 10
    contrast: str = "cube"  # or "logcosh" or "exp"

    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        """Return the components; whitening is a pass, and so is every iteration, and the activity in the end."""
        x = view.head(max(1, view.budget.n_samples // self.passes))[0]
        passes = view.budget.n_samples // len(x)
        variances, axes = torch.linalg.eigh(torch.cov(x.double().T).reshape(view.d_in, view.d_in))
        axes = axes[:, variances > 1e-9 * variances[-1]]  # whitening divides by them
        ica = FastICA(
            min(axes.shape[1], view.budget.n_latents),
            whiten="unit-variance",
            whiten_solver="eigh",  # of the covariance: a tenth of the time of the samples' svd
            fun=self.contrast,
            max_iter=max(1, passes - 2),
            random_state=random_state(seed),
        )
        try:
            with ended_by_budget():  # in single precision whitening fails on nearly equal inputs
                ica.fit((x.double() @ axes).cpu().numpy())
        except ValueError as error:  # of few samples two components become one, and their decorrelation divides by 0
            raise NotApplicable(f"FastICA diverges on these samples: {error}") from error
        view.look_again((ica.n_iter_ + 1) * len(x))
        encoder, decoder, mean = (
            (torch.from_numpy(each).to(axes) @ axes.T).float() for each in (ica.components_, ica.mixing_.T, ica.mean_)
        )
        z = (x - mean) @ encoder.T
        signs = torch.where(z.pow(3).mean(0) < 0, -1.0, 1.0)
        code = threshold_code((z * signs)[:CALIBRATION_SAMPLES], self.l0 * view.budget.l0)
        encoder, decoder = signs.unsqueeze(1) * encoder, signs.unsqueeze(1) * decoder
        return Dictionary(encoder, -encoder @ mean, decoder, mean, code)


GRID = {"passes": (6, 10, 18), "contrast": ("logcosh", "cube")}
METHOD = IndependentComponents()
