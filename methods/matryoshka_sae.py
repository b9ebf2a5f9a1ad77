"""Matryoshka SAE: nested prefixes of the dictionary must each reconstruct, so general features come first.

σ: TopK of ReLU. Loss: squared error of the whole and of every prefix + AuxK.
Source: Bussmann et al. 2025, arXiv 2503.17547; the paper's table.
Differs: TopK as in the paper, where the source uses BatchTopK; fixed prefixes of 1/16 and 1/4 of the width.
"""

from lrbench.rules import TopK
from lrbench.sdl import SDL
from lrbench.terms import AuxK, Prefixes

GRID = {"lr": (0.003, 0.01, 0.03), "prefix_weight": (0.3, 1.0)}
METHOD = SDL(rule=TopK(), terms=(AuxK(), Prefixes(weight=0.3)), pair="autoencoder")
