"""TopK SAE: the k largest latents of a sample stay, dead ones learn from the residual.

σ: TopK of ReLU. Loss: squared error + AuxK.
Source: Makhzani & Frey 2014, arXiv 1312.5663; Gao et al. 2024, arXiv 2406.04093.
Differs: k is a multiple of the task's L0; the pre-encoder bias is not subtracted (it folds into b_enc).
"""

from lrbench.rules import TopK
from lrbench.sdl import SDL
from lrbench.terms import AuxK

GRID = {"lr": (0.003, 0.01, 0.03), "auxk_weight": (0.03125, 0.25)}
METHOD = SDL(rule=TopK(), terms=(AuxK(),), pair="autoencoder")
