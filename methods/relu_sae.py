"""ReLU SAE: every positive latent stays, an L1 penalty keeps them few.

σ: ReLU. Loss: squared error + λ‖x_q‖₁ with unit decoder rows.
Source: Bricken et al. 2023, https://transformer-circuits.pub/2023/monosemantic-features; Cunningham et al. 2023, arXiv 2309.08600.
Differs: decoder rows are renormalised after each step without first removing the gradient's radial part; no resampling; λ is
steered to the L0 that is aimed at.
"""

from lrbench.rules import Rule
from lrbench.sdl import SDL
from lrbench.terms import L1

GRID = {"lr": (0.003, 0.01, 0.03), "l1_weight": (0.1, 0.3)}
METHOD = SDL(rule=Rule(), terms=(L1(weight=0.3),), pair="autoencoder", lr=3e-2)
