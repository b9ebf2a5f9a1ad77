"""Directions of features: spread until no two interfere too much, or made orthogonal as far as some steps go."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lrbench.errors import LrbenchError

PROJECTION_STEPS = 2000
GRAM_ROWS = 4096  # rows of the Gram matrix that are held at a time
LEARNING_RATE = 3e-4  # of `orthogonalise`, as published


def spread_directions(
    n_features: int, dim: int, interference: float, rng: torch.Generator, steps: int = PROJECTION_STEPS
) -> Float[Tensor, "feature dim"]:
    """Return unit rows whose signed inner products are all at most ``interference`` (the paper's section 3).

    Normalised Gaussian rows, then projected gradient descent on
    sum max(0, <w_i,w_j> - (M - eps))^2 + lambda * sum max(0, <w_i,w_j>)^2, until the largest inner product is <= M.

    Raises
    ------
    LrbenchError
        When ``steps`` do not reach M.
    """
    step_size, push, margin = 0.5, 0.01, 0.02 * interference  # the paper leaves lambda and eps open
    rows = F.normalize(torch.randn(n_features, dim, generator=rng), dim=1)
    if interference >= 1.0:
        return rows  # unit rows reach no more: no Gram matrix is needed
    reached = lowest = max_interference(rows)
    for _ in range(steps):
        if reached <= interference:
            return rows
        gram = (rows @ rows.T).fill_diagonal_(0.0)
        pull = (gram - (interference - margin)).clamp_min_(0.0) + push * gram.clamp_min(0.0)
        pull /= pull.sum(1).max().clamp_min(1.0)  # crowded rows would overshoot
        rows = F.normalize(rows - step_size * (pull @ rows), dim=1)
        reached = max_interference(rows)
        lowest = min(lowest, reached)
    if reached <= interference:
        return rows
    raise LrbenchError(
        f"interference M={interference} was not reached with n={n_features} features in d={dim} dimensions: "
        f"{steps} steps came down to {lowest:.4f}; ask for a larger M or for fewer features"
    )


def max_interference(directions: Float[Tensor, "feature dim"]) -> float:
    """Return the largest signed inner product between two different rows (the paper's M); -1 for a single row."""
    if len(directions) < 2:
        return -1.0
    largest = -1.0
    for first in range(0, len(directions), GRAM_ROWS):
        gram = directions[first : first + GRAM_ROWS] @ directions.T
        gram.diagonal(first).fill_(-1.0)
        largest = max(largest, float(gram.max()))
    return largest


def orthogonalise(rows: Float[Tensor, "feature dim"], steps: int) -> Float[Tensor, "feature dim"]:
    """Return unit rows after some steps of Adam on Σ_{i≠j} ⟨wᵢ, wⱼ⟩² + n Σ (‖wᵢ‖² − 1)² (SynthSAEBench, arXiv 2602.14687).

    The gradient of the first sum is 4 (W Wᵀ W − diag(‖wᵢ‖²) W). With Wᵀ W of d times d it costs n d², not n² d.

    Parameters
    ----------
    rows
        Where it starts: unit rows.
    steps
        Steps of Adam with a learning rate of 3e-4.
    """
    rows = rows.clone()
    adam = torch.optim.Adam([rows.requires_grad_()], lr=LEARNING_RATE)
    for _ in range(steps):
        with torch.no_grad():
            squares = rows.pow(2).sum(1, keepdim=True)
            rows.grad = 4.0 * (rows @ (rows.T @ rows) + (len(rows) * (squares - 1.0) - squares) * rows)
        adam.step()
    return F.normalize(rows.detach(), dim=1)
