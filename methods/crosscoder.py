"""Crosscoder: one set of latents reads and reconstructs all sites at once.

σ: TopK of ReLU. Loss: squared error over the concatenated sites + AuxK.
Source: Lindsey et al. 2024, https://transformer-circuits.pub/2024/crosscoders; the paper's table of families.
Differs: TopK in place of the source's ReLU with L1; the concatenated decoder row has unit norm, not each site's part.
"""

from lrbench.rules import TopK
from lrbench.sdl import SDL
from lrbench.terms import AuxK

METHOD = SDL(rule=TopK(), terms=(AuxK(),), pair="crosscoder")
