"""The latent that detects a feature best, judged by whether it fires and by nothing else: its decoder row may point anywhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lrbench.dictionary import Dictionary
from lrbench.task import Task
from lrbench.world import SparseFeatures

FIT_SAMPLES = 16_384  # on which latents are chosen, where the world has so many
CHUNK = 4096  # samples that are encoded at a time


@dataclass(frozen=True)
class Choice:
    """The latents with the best and the second best F1 for every feature, chosen on samples that no score sees."""

    best: Int[Tensor, " feature"]
    second: Int[Tensor, " feature"]


def chosen(dictionary: Dictionary, task: Task) -> Choice:
    """Return the best latents of every feature of a task, for a dictionary on the CPU."""
    features = task.world.sample(FIT_SAMPLES, "causes")
    fires = firing(dictionary, task.observed(features, dictionary.pair, "causes")[0])
    best, second = latent_f1(fires, features, task.spec.world.n_features).topk(2, dim=0).indices
    return Choice(best, second)


def detection_by_best(dictionary: Dictionary, task: Task) -> dict[str, float]:
    """Return mean ``f1`` and ``recall`` of the best latents of the scored features, on held-out samples.

    Features that no such sample shows are left out.
    """
    best, held = chosen(dictionary, task).best, task.evaluation()
    fires = firing(dictionary, task.observed(held, dictionary.pair)[0])
    n = task.spec.world.n_features
    shown = torch.bincount(held.indices, minlength=n)
    hits = torch.bincount(held.indices[fires[held.rows, best[held.indices]]], minlength=n)
    scored = task.scored[shown[task.scored] > 0]
    f1 = 2 * hits / (shown + fires.sum(0)[best]).clamp_min(1)
    recall = hits / shown.clamp_min(1)
    return {"f1": float(f1[scored].mean()), "recall": float(recall[scored].mean())}


def firing(dictionary: Dictionary, inputs: Float[Tensor, "sample d_in"]) -> Bool[Tensor, "sample latent"]:
    """Return which latents are positive on which sample."""
    return torch.cat([dictionary.encode(some) > 0 for some in torch.split(inputs, CHUNK)])


def latent_f1(
    fires: Bool[Tensor, "sample latent"], features: SparseFeatures, n_features: int
) -> Float[Tensor, "latent feature"]:
    """Return the F1 of every latent as a detector of every feature: predicted active where the latent fires."""
    shown, fired = features.dense(n_features).clamp_max_(1.0), fires.float()
    return 2 * (fired.T @ shown) / (fired.sum(0).unsqueeze(1) + shown.sum(0)).clamp_min(1.0)
