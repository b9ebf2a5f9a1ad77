"""K-SVD: sparse codes by matching pursuit, then one atom at a time together with its weights.

σ: BatchTopK with the task's L0. Source: Aharon et al. 2006; the approximate update of Rubinstein et al. 2008. Differs: every
round sees the next batch; weights are >= 0; an unused atom becomes a badly reconstructed sample; the scored encoder is linear.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lrbench.dictionary import Dictionary
from lrbench.method import Method
from lrbench.methods._code import CALIBRATION_SAMPLES, linear_dictionary
from lrbench.methods._pursuit import pursue
from lrbench.seeds import generator
from lrbench.view import TrainView


@dataclass(frozen=True)
class KSVD(Method):
    """Atoms as encoder and decoder rows; the budget is shared out evenly among the rounds."""

    l0: float = 1.0
    rounds: int = 9
    pursuit: float = 1.5  # weights of a sample while atoms are learned, as a multiple of the code's

    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        """Return the atoms of the last round."""
        k, atoms = view.budget.k(self.pursuit * self.l0), torch.empty(0)
        for batch, _ in view.batches(max(1, min(view.n_distinct, view.budget.n_samples // self.rounds))):
            x = batch[batch.norm(dim=1) > 1e-6]
            if not len(atoms):
                order = torch.randperm(len(x), generator=generator(seed, "init"))
                atoms = normalize(x[order[: view.budget.n_latents].to(x.device)], dim=1)
            atoms = _updated(x, atoms, *pursue(x, atoms, min(k, len(atoms))))
        return linear_dictionary(atoms, view.head(CALIBRATION_SAMPLES)[0], self.l0 * view.budget.l0)


def _updated(x: Tensor, atoms: Tensor, chosen: Tensor, weights: Tensor, residual: Tensor) -> Tensor:
    """Return the atoms after one round: each becomes the weighted mean of what its users lack without it."""
    atoms = atoms.clone()
    sample, place = (weights > 0).nonzero(as_tuple=True)
    used, weight = chosen[sample, place], weights[sample, place]
    order = used.argsort(stable=True)  # atom after atom
    counts = torch.bincount(used, minlength=len(atoms)).tolist()
    users, shares = torch.split(sample[order], counts), torch.split(weight[order], counts)
    worst = iter(residual.pow(2).sum(1).argsort(descending=True).tolist())
    for atom, rows, own in zip(atoms, users, shares, strict=True):
        if len(rows) == 0:
            atom.copy_(normalize(x[next(worst)], dim=0))
            continue
        lacking = residual.index_select(0, rows) + own.unsqueeze(1) * atom
        atom.copy_(normalize(own @ lacking, dim=0))
        residual.index_copy_(0, rows, lacking - (lacking @ atom).clamp_min(0.0).unsqueeze(1) * atom)
    return atoms


GRID = {"rounds": (9, 18, 36), "pursuit": (1.0, 1.5)}
METHOD = KSVD()
