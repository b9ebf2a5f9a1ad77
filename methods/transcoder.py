"""Transcoder: reads one site and reconstructs another, for instance an MLP's output from its input.

σ: TopK of ReLU. Loss: squared error at the target site + AuxK.
Source: Dunefsky et al. 2024, arXiv 2406.11944; the paper's table of families.
Differs: TopK in place of the source's ReLU with L1.
"""

from lrbench.rules import TopK
from lrbench.sdl import SDL
from lrbench.terms import AuxK

GRID = {"lr": (0.003, 0.01, 0.03), "auxk_weight": (0.03125, 0.25)}
METHOD = SDL(rule=TopK(), terms=(AuxK(),), pair="transcoder")
