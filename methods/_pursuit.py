"""Non-negative orthogonal matching pursuit, for many samples at once."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

RIDGE = 1e-6  # keeps the weights of two atoms that have become equal finite
CHUNK = 512  # samples coded at a time


def pursue(
    x: Float[Tensor, "sample dim"], atoms: Float[Tensor, "atom dim"], k: int
) -> tuple[Int[Tensor, "sample k"], Float[Tensor, "sample k"], Float[Tensor, "sample dim"]]:
    """Return, of every sample, k distinct atoms, their weights >= 0 (0 where one is of no use), and what they leave of it.

    The atom that points most along the residual joins, then all weights are fitted by least squares and negative ones cut to 0
    (Bruckstein et al. 2008).

    Parameters
    ----------
    x
        Samples.
    atoms
        Rows of unit length, at least k.
    k
        Atoms per sample.
    """
    overlaps = atoms @ atoms.T
    parts = zip(*(_pursue(part, atoms, overlaps, k) for part in torch.split(x, CHUNK)), strict=True)
    chosen, weights, residual = (torch.cat(part) for part in parts)
    return chosen, weights, residual


def _pursue(x: Tensor, atoms: Tensor, overlaps: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """One product with the atoms; what the chosen ones take away from it is known from their overlaps (Rubinstein et al. 2008)."""
    first = x @ atoms.T
    along, chosen = first, torch.empty(len(x), 0, dtype=torch.int64, device=x.device)
    while True:
        chosen = torch.cat([chosen, along.argmax(1, keepdim=True)], dim=1)
        gram = overlaps[chosen.unsqueeze(2), chosen.unsqueeze(1)]
        gram.diagonal(dim1=1, dim2=2).add_(RIDGE)
        weights = torch.linalg.solve(gram, first.gather(1, chosen)).clamp_min(0.0)
        if chosen.shape[1] == k:
            return chosen, weights, x - embedding_bag(chosen, atoms, mode="sum", per_sample_weights=weights)
        taken = embedding_bag(chosen, overlaps, mode="sum", per_sample_weights=weights)
        along = (first - taken).scatter_(1, chosen, -torch.inf)
