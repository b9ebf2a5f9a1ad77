"""The non-negative lasso, for many samples at once."""

from jaxtyping import Float
from torch import Tensor

SWEEPS = 5  # of coordinate descent


def lasso(
    x: Float[Tensor, "sample dim"], atoms: Float[Tensor, "atom dim"], alpha: float, candidates: int
) -> Float[Tensor, "sample atom"]:
    """Return weights c >= 0 that lower ½‖x − c·atoms‖² + α‖c‖₁, by coordinate descent over every sample's most promising atoms.

    Parameters
    ----------
    x
        Samples.
    atoms
        Rows of unit length.
    alpha
        The penalty α.
    candidates
        How many atoms of a sample may have a weight: those that point most along it.
    """
    gram, codes = atoms @ atoms.T, x.new_zeros(len(x), len(atoms))
    left, chosen = (x @ atoms.T).topk(candidates, dim=1)
    own = gram[chosen.unsqueeze(2), chosen.unsqueeze(1)].permute(2, 1, 0).contiguous()  # a candidate after the other
    left, weights = left.T.contiguous(), x.new_zeros(candidates, len(x))
    for _ in range(SWEEPS):
        for place in range(candidates):
            change = (weights[place] + left[place] - alpha).clamp_min(0.0) - weights[place]
            weights[place] += change
            left -= change * own[place]
    return codes.scatter(1, chosen, weights.T)
