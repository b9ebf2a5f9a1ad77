"""K-SVD: sparse codes by matching pursuit, then one atom at a time together with its weights.

σ: TopK with the task's L0. Source: Aharon et al. 2006; the approximate update of Rubinstein et al. 2008.
Differs: weights are non-negative; an atom that no sample uses becomes the direction of a badly reconstructed sample; the
dictionary that is scored has a linear encoder in place of the pursuit.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lrbench.activation import TopK
from lrbench.dictionary import Dictionary
from lrbench.method import Method
from lrbench.methods._pursuit import pursue
from lrbench.seeds import generator
from lrbench.view import TrainView


@dataclass(frozen=True)
class KSVD(Method):
    """Atoms as encoder and decoder rows."""

    samples: int = 8192
    max_iter: int = 8

    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        """Return the atoms learned on the first samples; every iteration is a pass over them, paid from the budget."""
        x = view.head(self.samples)[0]
        x = x[x.norm(dim=1) > 1e-6]
        order = torch.randperm(len(x), generator=generator(seed, "init"))[: view.budget.n_latents]
        atoms = normalize(x[order.to(x.device)], dim=1)
        for _ in range(min(self.max_iter, view.budget.n_samples // self.samples)):
            atoms = _updated(x, atoms, *pursue(x, atoms, min(view.budget.k(), len(atoms))))
        return Dictionary(atoms, None, atoms, None, TopK(view.budget.k()))


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


METHOD = KSVD()
