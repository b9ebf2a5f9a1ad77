"""Which cells the study of real activations asks for."""

from __future__ import annotations

from lrbench.real.models import MINILM, SMOLLM
from lrbench.study import Block
from lrbench.task import get_suite

MODELS = {"real_minilm": MINILM.name, "real_smollm": SMOLLM.name}  # task families and their models
TRAINED, RANDOM = "trained", "random"  # their levels: the model, and a copy with random weights
METHODS = ("topk_sae", "batchtopk_sae", "matryoshka_sae", "jumprelu_sae", "transcoder", "crosscoder")
RESAMPLED = "topk_sae"  # the method whose dead latents also start anew, as in the paper's figure 7
ROWS = (*METHODS, *(f"{name}+anchored" for name in METHODS), f"{RESAMPLED}+resample", "random", "truth", "oracle")
OTHERS = (
    "relu_sae",
    "relu_sae+anchored",
    "gated_sae",
    "gated_sae+anchored",
    "acs_sae",
    "dictionary_learning",
    "ica",
    "kmeans",
    "ksvd",
    "nmf",
    "pca",
)
STRONG = ("topk_sae", "batchtopk_sae", "matryoshka_sae")  # those of the paper's table 2, where the anchors' weight is 1
WEIGHT_ONE = {name: f"{name}[anchor_weight=1]+anchored" for name in STRONG}
ON_RANDOM = ("topk_sae", "jumprelu_sae", "oracle", "random")


def plan(suite: str, seeds: int | None) -> list[Block]:
    """Return all rows on the models, some on their copies with random weights, and most other methods of the board, for the rank correlation.

    What cannot be had here is skipped by the run.
    """
    count = range(get_suite(suite).seeds if seeds is None else seeds)
    trained = [Block([f"{model}/{TRAINED}"], (*ROWS, *WEIGHT_ONE.values()), count) for model in MODELS]
    copies = [Block([f"{model}/{RANDOM}"], ON_RANDOM, count) for model in MODELS]
    return [*trained, *copies, *(Block([f"{model}/{TRAINED}"], OTHERS, count) for model in MODELS)]
