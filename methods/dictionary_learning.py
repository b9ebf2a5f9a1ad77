"""Online dictionary learning: alternate between sparse codes (a non-negative lasso) and the dictionary, batch by batch.

σ: BatchTopK with the task's L0. Source: Mairal et al. 2009, https://dl.acm.org/doi/10.1145/1553374.1553463.
Differs: a lasso is solved over those atoms only that point most along the sample, in a few sweeps of coordinate descent; an atom
without weight becomes a sample's direction; the dictionary that is scored has a linear encoder in place of the lasso.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lrbench.dictionary import Dictionary
from lrbench.method import Method
from lrbench.methods._code import CALIBRATION_SAMPLES, linear_dictionary
from lrbench.methods._lasso import lasso
from lrbench.view import TrainView

CANDIDATES = 6  # atoms of a sample's lasso, as a multiple of the L0
MOST = 48  # of them: the time grows with their square
UNUSED = 1e-6  # sum of an atom's squared weights


@dataclass(frozen=True)
class OnlineDictionaryLearning(Method):
    """Atoms as encoder and decoder rows; the budget is shared out evenly among the batches."""

    l0: float = 1.0
    alpha: float = 0.05
    batches: int = 75

    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        """Return the atoms after the last batch; what a batch said of them fades as 1/t."""
        n, target = view.budget.n_latents, self.l0 * view.budget.l0
        atoms, used, meant = torch.zeros(n, view.d_in), torch.zeros(n, n), torch.zeros(n, view.d_in)
        size = max(1, min(view.n_distinct, view.budget.n_samples // self.batches))
        for step, (batch, _) in enumerate(view.batches(size)):
            x = batch[batch.norm(dim=1) > UNUSED].cpu()
            unused = (used.diagonal() <= UNUSED).nonzero().flatten()[: len(x)]
            atoms[unused] = normalize(x[: len(unused)], dim=1)
            codes = lasso(x, atoms, self.alpha, min(MOST, view.budget.k(CANDIDATES * self.l0)))
            used.mul_(step / (step + 1)).addmm_(codes.T, codes)
            meant.mul_(step / (step + 1)).addmm_(codes.T, x)
            _update(atoms, used, meant)
        return linear_dictionary(atoms.to(view.device), view.head(CALIBRATION_SAMPLES)[0], target)


def _update(atoms: Tensor, used: Tensor, meant: Tensor) -> None:
    """Move each atom, one after the other, to where it fits what its weights said best; in place."""
    rows, gram, goal = atoms.numpy(), used.numpy(), meant.numpy()
    for atom in (used.diagonal() > UNUSED).nonzero().flatten().tolist():
        row = rows[atom] + (goal[atom] - gram[atom] @ rows) / gram[atom, atom]
        rows[atom] = row / max((row @ row) ** 0.5, UNUSED)


GRID = {"alpha": (0.05, 0.1, 0.2), "batches": (75, 150)}
METHOD = OnlineDictionaryLearning()
