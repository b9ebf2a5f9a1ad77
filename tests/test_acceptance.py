"""The order that the scores must keep in every hierarchy task: true > noisy > absorbed > half duplicated > half dead > random."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lrbench.activation import Activation, JumpReLU, ReLU, TopK
from lrbench.dictionary import Dictionary
from lrbench.scoring.metrics import score
from lrbench.task import Task

TREES = [
    *(
        f"hierarchy/{level}"
        for level in ("depth2-exclusive", "depth2-overlapping", "depth3-exclusive", "depth3-overlapping")
    ),
    *(f"absorption/{level}" for level in ("rare", "even", "dominant")),
]
CASES = [
    (name, suite, seed) for name in TREES for suite, seed in (("smoke", 0), ("smoke", 1), ("smoke", 2), ("quick", 0))
]
HALF_DEAD = ("half dead: zero rows", "half dead: true rows", "half dead: random rows")


def spoilt(task: Task, activation: Activation) -> dict[str, Dictionary]:
    """Return dictionaries of as many latents as there are features, from the truth down to chance."""
    rng = torch.Generator().manual_seed(task.seed)
    true = task.truth("autoencoder")[0]
    n, half = len(true), len(true) - len(true) // 2

    def make(enc: Tensor, dec: Tensor, bias: Tensor | None = None) -> Dictionary:
        return Dictionary(enc, bias, dec, None, activation)

    aside = torch.randn(true.shape, generator=rng)
    aside = F.normalize(aside - (aside * true).sum(1, keepdim=True) * true, dim=1)
    noisy = 0.95 * true + math.sqrt(1 - 0.95**2) * aside
    absorbing, carrying = true.clone(), true.clone()
    for parent, children in task.spec.world.children.items():
        absorbing[parent] -= true[children].sum(0)  # the parent's latent is silent when a child is active
        carrying[children] += true[parent]  # and the child's latent writes both
    duplicated = torch.cat([true[:half], true[: n - half]])
    off = torch.zeros(n).index_fill(0, torch.arange(half, n), -1e9)
    first_half = torch.where(off.unsqueeze(1) == 0, true, 0.0)
    random = F.normalize(torch.randn(true.shape, generator=rng), dim=1)
    filled = torch.where(off.unsqueeze(1) == 0, true, random)
    return {
        "true": make(true, true),
        "noisy": make(noisy, noisy),
        "absorbed": make(absorbing, carrying),
        "half duplicated": make(duplicated, duplicated),
        "half dead: zero rows": make(first_half, first_half),
        "half dead: true rows": make(true, true, off),
        "half dead: random rows": make(filled, filled, off),
        "random": make(random, F.normalize(torch.randn(true.shape, generator=rng), dim=1)),
    }


def activation_named(name: str, task: Task) -> Activation:
    # k >= 2: with k = 1 an exact copy never wins against its original, so that half of "half duplicated" would be dead
    k = max(2, math.ceil(task.spec.world.mean_l0))
    return {"ReLU": ReLU(), "JumpReLU": JumpReLU(0.3), "TopK": TopK(k)}[name]


@pytest.mark.parametrize("name", ["ReLU", "JumpReLU", "TopK"])
@pytest.mark.parametrize(("task_name", "suite", "seed"), CASES)
def test_the_headlines_keep_the_order(
    task_name: str, suite: str, seed: int, name: str, load_task: Callable[..., Task]
) -> None:
    task = load_task(task_name, suite, seed)
    scores = {kind: score(dictionary, task) for kind, dictionary in spoilt(task, activation_named(name, task)).items()}
    for metric in ("headline", "found", "matched_dec"):
        values = {kind: row[metric] for kind, row in scores.items()}
        assert values["true"] > values["noisy"] > values["absorbed"] > values["half duplicated"], metric
        for half_dead in HALF_DEAD:
            assert values[half_dead] > values["random"], half_dead
            if metric == "matched_dec":
                assert values["half duplicated"] > values[half_dead], half_dead
            else:  # a copy brings nothing, and costs nothing
                assert values["half duplicated"] == pytest.approx(values[half_dead], abs=1e-5), half_dead
    assert 0.85 < scores["true"]["headline"] < 1.0  # the oracle is 1: it reads better than by the true directions
    assert scores["random"]["headline"] == pytest.approx(0.0, abs=0.02)
    assert scores["true"]["matched_dec"] == pytest.approx(1.0, abs=1e-6)
    assert scores["noisy"]["matched_dec"] == pytest.approx(0.95, abs=0.002)
    for half_dead in HALF_DEAD:  # the rest of the features have no partner
        assert scores[half_dead]["matched_dec"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("task_name", "suite", "seed"), CASES)
def test_f1_puts_the_truth_first_and_chance_last(
    task_name: str, suite: str, seed: int, load_task: Callable[..., Task]
) -> None:
    """With a threshold that interference does not cross; a ReLU fires at any, so that its F1 says little of its rows."""
    task = load_task(task_name, suite, seed)
    f1 = {kind: score(dictionary, task)["f1"] for kind, dictionary in spoilt(task, JumpReLU(0.3)).items()}
    assert max(f1, key=lambda kind: f1[kind]) == "true"
    assert min(f1, key=lambda kind: f1[kind]) == "random"
    top_k = {
        kind: score(dictionary, task)["f1"] for kind, dictionary in spoilt(task, activation_named("TopK", task)).items()
    }
    assert min(top_k, key=lambda kind: top_k[kind]) == "random"


@pytest.mark.parametrize("task_name", TREES)
def test_absorption_is_seen_where_it_is_and_only_there(task_name: str, load_task: Callable[..., Task]) -> None:
    task = load_task(task_name, "quick")
    rows = {kind: score(dictionary, task) for kind, dictionary in spoilt(task, JumpReLU(0.3)).items()}
    assert abs(rows["true"]["absorption"]) < 0.05
    assert rows["true"]["recall_with_child"] > 0.9
    assert rows["absorbed"]["absorption"] > 0.4
    assert rows["absorbed"]["recall_alone"] > 0.8
