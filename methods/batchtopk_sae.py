"""BatchTopK SAE: the k·B largest latents of a batch stay, so that samples share out their latents.

σ: BatchTopK of ReLU, a fixed threshold after training. Loss: squared error + AuxK.
Source: Bussmann et al. 2024, arXiv 2412.06410.
Differs: the threshold is calibrated once on training samples after the last step, not averaged during training; α of AuxK is 1/4.
"""

from lrbench.rules import BatchTopK
from lrbench.sdl import SDL
from lrbench.terms import AuxK

GRID = {"lr": (0.003, 0.01, 0.03), "auxk_weight": (0.03125, 0.25)}
METHOD = SDL(rule=BatchTopK(), terms=(AuxK(weight=1 / 4),), pair="autoencoder")
