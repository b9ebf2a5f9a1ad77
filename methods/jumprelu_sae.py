"""JumpReLU SAE: each latent has a learned threshold, and an L0 penalty raises it.

σ: JumpReLU. Loss: squared error + λ·L0 with straight-through gradients.
Source: Rajamanoharan et al. 2024b, arXiv 2407.14435.
Differs: a rectangle kernel of width 0.3 in units of a feature's magnitude; no pre-activation ReLU; λ is steered to the L0
that is aimed at, and thresholds move together at the end.
"""

from lrbench.rules import JumpReLU
from lrbench.sdl import SDL
from lrbench.terms import L0

GRID = {"lr": (0.003, 0.01, 0.03), "bandwidth": (0.1, 0.3)}
METHOD = SDL(rule=JumpReLU(bandwidth=0.3), terms=(L0(weight=0.05),), pair="autoencoder")
