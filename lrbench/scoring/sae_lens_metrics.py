"""The metrics of SAELens' synthetic evaluation, as ``sae_lens.synthetic.eval_sae_on_synthetic_data`` computes them (version 6.54).

They are there to lay a row beside a published one. Each latent is judged on the feature that its decoder row is most similar to, by
|cosine|, and means are over latents: many may be judged on the same feature, and one that no latent is similar to costs nothing. The scores of
`lrbench.METRICS` are over features instead. All features count here, anchors too.
"""

from __future__ import annotations

import torch

from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError
from lrbench.scoring.matching import mcc, similarity
from lrbench.task import Task
from lrbench.world import SparseFeatures

ROWS = 1024  # samples that are encoded at a time
SMALLEST_INPUT = 1e-6  # shorter samples have no ratio of lengths


def sae_lens_metrics(dictionary: Dictionary, task: Task) -> dict[str, float]:
    """Return SAELens' metrics of an autoencoder on the held-out samples of a task.

    Parameters
    ----------
    dictionary
        Whose `Dictionary.encode` is asked, ReLU, TopK or what it is.
    task
        Gives samples and features.

    Returns
    -------
    ``f1``, ``precision``, ``recall`` and ``accuracy`` (means over latents; a ratio without a denominator is 0), ``mcc``, ``uniqueness``
    (features that are some latent's best, per latent), ``explained_variance``, ``shrinkage`` (mean length of a reconstruction per length of
    its input), ``l0``, ``true_l0`` and ``dead`` (latents that never fire, as a number).

    Raises
    ------
    LrbenchError
        For a transcoder or crosscoder, which SAELens does not evaluate.

    Examples
    --------
    >>> import lrbench
    >>> from lrbench.scoring.sae_lens_metrics import sae_lens_metrics
    >>> task = lrbench.load_task("superposition/1.30x", "smoke")
    >>> found = sae_lens_metrics(lrbench.load_method("truth").fit(task.view()), task)
    >>> round(found["mcc"], 4), found["uniqueness"]
    (1.0, 1.0)
    """
    if dictionary.pair != "autoencoder":
        raise LrbenchError(f"pair={dictionary.pair!r}: SAELens evaluates autoencoders only")
    dictionary, n = dictionary.to("cpu"), task.spec.world.n_features
    true, features = task.truth("autoencoder")[1], task.evaluation()
    inputs = task.observed(features, "autoencoder")[0]
    similar = similarity(dictionary.W_dec, true)
    best = similar.argmax(1)
    hits, fires, shown = (torch.zeros(dictionary.n_latents, dtype=torch.float64) for _ in range(3))
    residual, ratios, with_length = 0.0, 0.0, 0
    for first in range(0, len(inputs), ROWS):
        x = inputs[first : first + ROWS]
        codes = dictionary.encode(x)
        active = _slice(features, first, first + len(x)).dense(n)[:, best] > 0
        hits += ((codes != 0) & active).sum(0)
        fires += (codes != 0).sum(0)
        shown += active.sum(0)
        output = dictionary.decode(codes)
        residual += float((x - output).double().pow(2).sum())
        lengths = x.norm(dim=1)
        long = lengths > SMALLEST_INPUT
        ratios += float((output.norm(dim=1)[long] / lengths[long]).double().sum())
        with_length += int(long.sum())
    precision, recall = hits / fires.clamp_min(1), hits / shown.clamp_min(1)
    f1 = 2 * precision * recall / (precision + recall).clamp_min(torch.finfo(torch.float64).tiny)
    agree = len(inputs) - fires - shown + 2 * hits
    variance = float((inputs.double() - inputs.double().mean(0)).pow(2).sum())
    return {
        "f1": float(f1.mean()),
        "precision": float(precision.mean()),
        "recall": float(recall.mean()),
        "accuracy": float((agree / len(inputs)).mean()),
        "mcc": mcc(dictionary.W_dec, true),
        "uniqueness": len(set(best.tolist())) / dictionary.n_latents,
        "explained_variance": 1.0 - residual / variance,
        "shrinkage": ratios / with_length,
        "l0": float(fires.sum()) / len(inputs),
        "true_l0": len(features.indices) / len(inputs),
        "dead": float((fires == 0).sum()),
    }


def _slice(features: SparseFeatures, first: int, last: int) -> SparseFeatures:
    """Return the samples from ``first`` to before ``last``."""
    begins = features.offsets
    start = int(begins[first])
    stop = int(begins[last]) if last < len(features) else len(features.indices)
    return SparseFeatures(features.indices[start:stop], features.values[start:stop], begins[first:last] - start)
