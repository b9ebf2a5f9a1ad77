"""Online dictionary learning: alternate between sparse codes (lasso) and the dictionary, batch by batch.

σ: TopK with the task's L0. Source: Mairal et al. 2009; scikit-learn's
MiniBatchDictionaryLearning with non-negative codes.
Differs: a sparse code needs an optimisation per sample; the dictionary that is scored has a linear encoder instead.
"""

from dataclasses import dataclass

import torch
from sklearn.decomposition import MiniBatchDictionaryLearning

from lrbench.activation import TopK
from lrbench.dictionary import Dictionary
from lrbench.method import Method
from lrbench.methods._sklearn import ended_by_budget, random_state
from lrbench.view import TrainView


@dataclass(frozen=True)
class OnlineDictionaryLearning(Method):
    """Atoms as encoder and decoder rows."""

    samples: int = 4096
    alpha: float = 0.1
    max_iter: int = 5
    sweeps: int = 20  # of coordinate descent, for a sample's code: more takes twice the time and scores the same

    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        """Return the atoms learned on the first samples."""
        x = view.head(self.samples)[0].cpu()
        learner = MiniBatchDictionaryLearning(
            view.budget.n_latents,
            alpha=self.alpha,
            max_iter=self.max_iter,
            fit_algorithm="cd",
            transform_max_iter=self.sweeps,  # of the codes in `fit` too
            positive_code=True,
            batch_size=256,
            random_state=random_state(seed),
        )
        with ended_by_budget():
            learner.fit(x.double().numpy())
        rows = torch.nn.functional.normalize(torch.from_numpy(learner.components_).float(), dim=1)
        return Dictionary(rows, None, rows, None, TopK(view.budget.k())).to(view.device)


METHOD = OnlineDictionaryLearning()
