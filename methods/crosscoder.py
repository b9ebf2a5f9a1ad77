"""Crosscoder: one set of latents reads and reconstructs all sites at once.

σ: TopK of ReLU. Loss: squared error over the concatenated sites + AuxK.
Source: Lindsey et al. 2024, https://transformer-circuits.pub/2024/crosscoders; the paper's table of families.
Differs: TopK in place of the source's ReLU with L1; the concatenated decoder row has unit norm, not each site's part.
"""

from lrbench.rules import TopK
from lrbench.sdl import SDL
from lrbench.terms import AuxK

GRID = {"lr": (0.003, 0.01, 0.03), "auxk_weight": (0.03125, 0.25)}
METHOD = SDL(rule=TopK(), terms=(AuxK(),), pair="crosscoder")
