"""Which cells the study of real activations asks for."""

from __future__ import annotations

from lrbench.catalogue.tasks import select_tasks
from lrbench.study import Block
from lrbench.task import get_suite

METHODS = ("topk_sae", "batchtopk_sae", "matryoshka_sae", "jumprelu_sae", "transcoder", "crosscoder")
ROWS = (*METHODS, *(f"{name}+anchored" for name in METHODS), "random", "truth", "oracle")
STRONG = ("topk_sae", "batchtopk_sae", "matryoshka_sae")  # those of the paper's table 2, where the anchors' weight is 1
WEIGHT_ONE = tuple(f"{name}[anchor_weight=1]+anchored" for name in STRONG)
UNTRAINED = ("topk_sae", "jumprelu_sae", "oracle", "random")  # on a copy of the model with random weights


def plan(suite: str, seeds: int | None) -> list[Block]:
    """Return all rows on the models that can be had here, and some on their copies with random weights."""
    count = range(get_suite(suite).seeds if seeds is None else seeds)
    infos = [info for info in select_tasks(suite, ["real_*/*"]) if not info.unavailable]
    named = {
        control: [info.name for info in infos if info.name.endswith("/random") == control] for control in (False, True)
    }
    return [
        *(Block([name], (*ROWS, *WEIGHT_ONE), count) for name in named[False]),
        *(Block([name], UNTRAINED, count) for name in named[True]),
    ]
