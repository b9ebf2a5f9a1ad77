"""Which cells the study of real activations asks for."""

from __future__ import annotations

from lrbench.study import Block
from lrbench.task import get_suite

MODELS = ("real_minilm", "real_smollm")
METHODS = ("topk_sae", "batchtopk_sae", "matryoshka_sae", "jumprelu_sae", "transcoder", "crosscoder")
ROWS = (*METHODS, *(f"{name}+anchored" for name in METHODS), "random", "truth", "oracle")
STRONG = ("topk_sae", "batchtopk_sae", "matryoshka_sae")  # those of the paper's table 2, where the anchors' weight is 1
WEIGHT_ONE = tuple(f"{name}[anchor_weight=1]+anchored" for name in STRONG)
UNTRAINED = ("topk_sae", "jumprelu_sae", "oracle", "random")  # on a copy of the model with random weights


def plan(suite: str, seeds: int | None) -> list[Block]:
    """Return all rows on the models, and some on their copies with random weights; what cannot be had here is skipped by the run."""
    count = range(get_suite(suite).seeds if seeds is None else seeds)
    trained = [Block([f"{model}/trained"], (*ROWS, *WEIGHT_ONE), count) for model in MODELS]
    return trained + [Block([f"{model}/random"], UNTRAINED, count) for model in MODELS]
