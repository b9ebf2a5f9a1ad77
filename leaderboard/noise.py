"""How far two runs of the same thing are taken to differ before anything was measured of them."""

from __future__ import annotations

import math
import re

from lrbench.metric_table import METRICS

BRACKETS = re.compile(r"\[[^\[\]]*\]")  # of an address: the method with other hyper-parameters

# Standard deviations over trainings on one world, as `lrbench study noise` measured them. ASSUMED: of a metric, its tolerance, or what
# 19 of 20 (method, family) stay below if that is more. NOISY: the others.
# written by benchmarks/noise_table.py
# of 2550 (method, family, metric), 33 exceed what is assumed of the metric
ASSUMED: dict[str, float] = {
    "headline": 0.02,
    "matched_dec": 0.02,
    "matched_enc": 0.02,
    "mip_dec": 0.02,
    "mip_enc": 0.02,
    "recovery_dec": 0.05,
    "recovery_enc": 0.05,
    "f1": 0.03,
    "fvu": 0.03644,
    "dead": 0.05,
    "polysemanticity": 0.05,
    "absorption": 0.05,
    "recall_alone": 0.05,
    "recall_with_child": 0.05,
    "mcc": 0.02,
}
NOISY: dict[tuple[str, str, str], float] = {
    ("batchtopk_sae+anchored", "hierarchy", "headline"): 0.02487,
    ("batchtopk_sae+anchored", "hierarchy", "recovery_dec"): 0.05914,
    ("dictionary_learning", "absorption", "fvu"): 0.05612,
    ("dictionary_learning", "correlation", "fvu"): 0.04048,
    ("dictionary_learning", "correlation", "recovery_dec"): 0.0632,
    ("dictionary_learning", "correlation", "recovery_enc"): 0.0632,
    ("dictionary_learning", "frequency", "fvu"): 0.05428,
    ("dictionary_learning", "interference", "fvu"): 0.0401,
    ("dictionary_learning", "sparsity", "fvu"): 0.04379,
    ("jumprelu_sae", "hierarchy", "recovery_dec"): 0.0521,
    ("kmeans", "absorption", "fvu"): 0.04432,
    ("kmeans", "frequency", "fvu"): 0.05832,
    ("kmeans", "frequency", "headline"): 0.04747,
    ("kmeans", "frequency", "matched_dec"): 0.03308,
    ("kmeans", "frequency", "matched_enc"): 0.03308,
    ("kmeans", "frequency", "mcc"): 0.03308,
    ("kmeans", "frequency", "mip_dec"): 0.02997,
    ("kmeans", "frequency", "mip_enc"): 0.02997,
    ("kmeans", "frequency", "recovery_dec"): 0.05229,
    ("kmeans", "frequency", "recovery_enc"): 0.05229,
    ("ksvd", "frequency", "fvu"): 0.03948,
    ("ksvd", "sparsity", "fvu"): 0.06066,
    ("ksvd", "superposition", "fvu"): 0.04905,
    ("matryoshka_sae", "correlation", "polysemanticity"): 0.06522,
    ("matryoshka_sae", "hierarchy", "headline"): 0.02065,
    ("matryoshka_sae", "hierarchy", "polysemanticity"): 0.05831,
    ("matryoshka_sae+anchored", "frequency", "polysemanticity"): 0.05268,
    ("matryoshka_sae+anchored", "hierarchy", "polysemanticity"): 0.06179,
    ("matryoshka_sae+anchored", "interference", "polysemanticity"): 0.05232,
    ("relu_sae", "interference", "f1"): 0.03502,
    ("relu_sae", "interference", "polysemanticity"): 0.05741,
    ("topk_sae+autoanchor", "correlation", "polysemanticity"): 0.055,
    ("transcoder", "hierarchy", "polysemanticity"): 0.05689,
}
# end
NOISIEST = max(
    noise / METRICS[name].tolerance for name, noise in [*ASSUMED.items(), *((key[2], x) for key, x in NOISY.items())]
)


def assumed_noise(method: str, family: str, metric: str) -> float:
    """Return the standard deviation of one cell's score over trainings that is assumed.

    It is the metric's, or what was measured of the method on the family if that is more. A metric that nothing was measured of is taken
    to be as noisy, in tolerances, as the noisiest that is known.
    """
    if metric not in ASSUMED:
        return METRICS[metric].tolerance * NOISIEST
    return NOISY.get((BRACKETS.sub("", method), family, metric), ASSUMED[metric])


def assumed_difference(method: str, family: str, metric: str) -> float:
    """Return the standard deviation of the difference of two such scores."""
    return math.sqrt(2) * assumed_noise(method, family, metric)
