"""Non-negative orthogonal matching pursuit, for many samples at once."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

RIDGE = 1e-6  # keeps the weights of two atoms that have become equal finite
CHUNK = 512  # samples coded at a time
STEPS = 8  # atoms join one by one up to this many, and otherwise in this many groups


def pursue(
    x: Float[Tensor, "sample dim"], atoms: Float[Tensor, "atom dim"], k: int
) -> tuple[Int[Tensor, "sample k"], Float[Tensor, "sample k"], Float[Tensor, "sample dim"]]:
    """Return, of every sample, k distinct atoms, their weights >= 0 (0 where one is of no use), and what they leave of it.

    The atom that points most along the residual joins, then all weights are fitted by least squares and negative ones cut to 0
    (Bruckstein et al. 2008). Of more than `STEPS` atoms several join at a time (Wang et al. 2012, arXiv 1111.6664).

    Parameters
    ----------
    x
        Samples.
    atoms
        Rows of unit length, at least k.
    k
        Atoms per sample.
    """
    parts = zip(*(_pursue(part, atoms, k) for part in torch.split(x, CHUNK)), strict=True)
    chosen, weights, residual = (torch.cat(part) for part in parts)
    return chosen, weights, residual


def _pursue(x: Tensor, atoms: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    chosen = torch.empty(len(x), 0, dtype=torch.int64, device=x.device)
    weights, residual = x.new_zeros(len(x), 0), x
    group = -(-k // STEPS)
    for before in range(0, k, group):
        size = min(k, before + group)
        along = (residual @ atoms.T).scatter(1, chosen, -torch.inf)
        chosen = torch.cat([chosen, along.topk(size - before, dim=1).indices], dim=1)
        picked = atoms.index_select(0, chosen.flatten()).view(len(x), size, -1)
        gram = picked @ picked.transpose(1, 2) + RIDGE * torch.eye(size, device=x.device, dtype=x.dtype)
        weights = torch.linalg.solve(gram, picked @ x.unsqueeze(2)).squeeze(2).clamp_min(0.0)
        residual = x - (weights.unsqueeze(1) @ picked).squeeze(1)
    return chosen, weights, residual
