"""Gated SAE: one path decides whether a latent is active, another how strongly.

σ: Heaviside gate times ReLU magnitude, a JumpReLU once trained. Loss: squared error + λ‖gate‖₁ + the gate's own
reconstruction through a frozen decoder. Source: Rajamanoharan et al. 2024a, arXiv 2404.16014.
Differs: decoder rows are renormalised after each step; no resampling; λ is steered to the L0 that is aimed at, and
thresholds move together at the end.
"""

from lrbench.rules import Gated
from lrbench.sdl import SDL
from lrbench.terms import GateLoss

GRID = {"lr": (0.003, 0.01, 0.03), "gate_weight": (0.3, 0.8)}
METHOD = SDL(rule=Gated(), terms=(GateLoss(weight=0.3),), pair="autoencoder", lr=3e-2)
