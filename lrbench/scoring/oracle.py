"""The oracle detector, the one of the headline: the true decoder with the best linear read-out and a threshold per latent.

A latent's read-out is the linear estimate of its feature's magnitude with the least mean squared error. It is estimated, as are the
thresholds, from samples of its own together with their true features: a linear encoder that knew everything about the law of the world.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor

from lrbench.activation import JumpReLU
from lrbench.dictionary import Dictionary
from lrbench.scoring.detection import Shown, Sorted
from lrbench.task import Task
from lrbench.world import SparseFeatures

BLOCK, BLOCKS = 4096, 8  # samples that are held at a time, and how often
RIDGE = 1e-6  # of the inputs' mean variance: directions that no feature has are read with weight 0


@lru_cache(maxsize=4)
def oracle_dictionary(task: Task, pair: str) -> Dictionary:
    """Return the oracle detector of a task.

    Where there are more features than the task has latents, it has those that detect best, scored ones first.

    Examples
    --------
    >>> import lrbench
    >>> oracle_dictionary(lrbench.load_task("noise/0.3", "smoke"), "autoencoder").W_dec.shape
    torch.Size([42, 32])
    """
    (w_enc, b_enc), (cuts, f1) = probes(task, pair)
    kept = torch.arange(len(w_enc))
    if len(kept) > task.spec.n_latents:
        last = torch.zeros_like(f1)
        last[task.anchors] = 1.0
        kept = (last - f1).argsort(stable=True)[: task.spec.n_latents].sort().values
    w_dec = task.truth(pair)[1]
    return Dictionary(w_enc[kept], b_enc[kept], w_dec[kept], None, JumpReLU(cuts[kept]), pair)


@lru_cache(maxsize=4)
def probes(task: Task, pair: str) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the weights and biases of a linear probe for every feature, then its threshold and the F1 that it was chosen by."""
    w_enc, b_enc = linear_estimate(task, pair)
    return (w_enc, b_enc), _thresholds(task, pair, w_enc, b_enc)


def linear_estimate(task: Task, pair: str) -> tuple[Float[Tensor, "feature d_in"], Float[Tensor, " feature"]]:
    """Return the weights and biases that estimate every feature's magnitude from the input with the least mean squared error."""
    n, d = task.spec.world.n_features, task.truth(pair)[0].shape[1]
    means, mean = torch.zeros(n, dtype=torch.float64), torch.zeros(d, dtype=torch.float64)
    cross, square = torch.zeros(n, d, dtype=torch.float64), torch.zeros(d, d, dtype=torch.float64)
    for index in range(BLOCKS):
        features, inputs = _calibration(task, pair, index)
        x, inputs = features.dense(n).double(), inputs.double()
        means += x.sum(0)
        mean += inputs.sum(0)
        cross += x.T @ inputs
        square += inputs.T @ inputs
    size = BLOCK * BLOCKS
    means, mean = means / size, mean / size
    covariance = square / size - torch.outer(mean, mean)
    covariance.diagonal().add_(RIDGE * covariance.diagonal().mean())
    weights = torch.linalg.solve(covariance, (cross / size - torch.outer(means, mean)).T).T
    return weights.float(), (means - weights @ mean).float()


def _thresholds(
    task: Task, pair: str, w_enc: Float[Tensor, "feature d_in"], b_enc: Float[Tensor, " feature"]
) -> tuple[Float[Tensor, " feature"], Float[Tensor, " feature"]]:
    """Return the threshold of every feature, and the F1 that it reaches on the samples that it was chosen on."""
    blocks = [_calibration(task, pair, BLOCKS + index) for index in range(BLOCKS)]
    readings = torch.cat([torch.addmm(b_enc, inputs, w_enc.T) for _, inputs in blocks]).T.contiguous().numpy()
    cuts, f1 = torch.zeros(len(w_enc)), torch.zeros(len(w_enc))
    shown = Shown(joined([features for features, _ in blocks]), len(w_enc))
    for feature, reading in enumerate(readings):
        cut, f1[feature] = Sorted(reading).best(shown.samples(feature))
        cuts[feature] = cut if math.isfinite(cut) else 0.0  # it never detects: any threshold will do
    return cuts, f1


def joined(batches: list[SparseFeatures]) -> SparseFeatures:
    """Return batches of features as one."""
    sizes = [0, *accumulate(len(batch.indices) for batch in batches)]
    offsets = [batch.offsets + size for batch, size in zip(batches, sizes, strict=False)]
    return SparseFeatures(
        *(torch.cat(parts) for parts in ([b.indices for b in batches], [b.values for b in batches], offsets))
    )


def _calibration(task: Task, pair: str, index: int) -> tuple[SparseFeatures, Float[Tensor, "sample d_in"]]:
    stream = f"calibration {index}"
    features = task.world.sample(BLOCK, stream)
    return features, task.observed(features, pair, stream)[0]
