"""How far two runs of the same thing are taken to differ before anything was measured of them."""

from __future__ import annotations

import math

from lrbench.metric_table import METRICS

# Method, family, metric: where the standard deviation over trainings on one world exceeds the metric's tolerance, as
# `lrbench study noise` measured it. Of the default scores that holds for 8 of 400 (method, task, score).
NOISY: dict[tuple[str, str, str], float] = {
    ("batchtopk_sae+anchored", "hierarchy", "headline"): 0.0253,
    ("dictionary_learning", "absorption", "fvu"): 0.0501,
    ("dictionary_learning", "correlation", "fvu"): 0.0278,
    ("dictionary_learning", "frequency", "fvu"): 0.053,
    ("dictionary_learning", "noise", "fvu"): 0.0554,
    ("dictionary_learning", "sparsity", "fvu"): 0.0556,
    ("dictionary_learning", "superposition", "fvu"): 0.0366,
    ("kmeans", "absorption", "fvu"): 0.0482,
    ("kmeans", "frequency", "f1"): 0.043,
    ("kmeans", "frequency", "fvu"): 0.0679,
    ("kmeans", "frequency", "headline"): 0.0632,
    ("kmeans", "hierarchy", "fvu"): 0.0261,
    ("kmeans", "interference", "fvu"): 0.0217,
    ("kmeans", "noise", "fvu"): 0.0209,
    ("kmeans", "sparsity", "fvu"): 0.0241,
    ("kmeans", "superposition", "fvu"): 0.0209,
    ("ksvd", "absorption", "fvu"): 0.0233,
    ("ksvd", "correlation", "fvu"): 0.0271,
    ("ksvd", "frequency", "fvu"): 0.0449,
    ("ksvd", "hierarchy", "fvu"): 0.0264,
    ("ksvd", "interference", "fvu"): 0.0405,
    ("ksvd", "noise", "fvu"): 0.0209,
    ("ksvd", "superposition", "fvu"): 0.0444,
    ("matryoshka_sae", "hierarchy", "headline"): 0.0205,
    ("nmf", "frequency", "fvu"): 0.036,
    ("relu_sae", "interference", "f1"): 0.0603,
    ("relu_sae", "interference", "headline"): 0.0316,
    ("relu_sae+anchored", "interference", "f1"): 0.0747,
    ("relu_sae+anchored", "interference", "headline"): 0.0403,
}


def assumed_noise(method: str, family: str, metric: str) -> float:
    """Return the standard deviation of one cell's score over trainings: the metric's tolerance, or what was measured if that is more."""
    return max(METRICS[metric].tolerance, NOISY.get((method, family, metric), 0.0))


def assumed_difference(method: str, family: str, metric: str) -> float:
    """Return the standard deviation of the difference of two such scores."""
    return math.sqrt(2) * assumed_noise(method, family, metric)
