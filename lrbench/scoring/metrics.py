"""Scores: pure functions of a dictionary and a task. `docs/metrics.md` defines every one; `METRICS` declares it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError
from lrbench.metric_table import METRICS, RECOVERY_THRESHOLD, WITH_CHILD
from lrbench.scoring.absorption import parent_rows, writes_parent
from lrbench.scoring.found import find, mean, rarest, scales
from lrbench.scoring.matching import best_match, match, mcc, similarity
from lrbench.task import Task
from lrbench.world import SparseFeatures

THRESHOLDS = [round(0.05 * step, 2) for step in range(21)]
CHUNK_ELEMENTS = 4_000_000  # latents times samples that are encoded at a time: 16 MB of float32


@dataclass(frozen=True)
class Evaluation:
    """All that is measured of a dictionary on a task.

    Parameters
    ----------
    scores
        One float per metric of `METRICS`; NaN where it does not apply (absorption without a hierarchy, escape without a trap).
    curves
        ``threshold`` and, at each, ``recovery_dec`` and ``recovery_enc``.
    parents
        For each scored parent: ``parent``, ``recall_alone``, ``recall_with_child``, ``absorption`` (NaN where a case never occurred).
    """

    scores: dict[str, float]
    curves: dict[str, list[float]]
    parents: list[dict[str, float]]


def score(dictionary: Dictionary, task: Task) -> dict[str, float]:
    """Return every score of a dictionary on a task; anchored features are left out, whoever used them.

    Parameters
    ----------
    dictionary
        Trained anywhere; ``dictionary.pair`` says which sites it maps.
    task
        From `lrbench.load_task`.

    Raises
    ------
    LrbenchError
        For anything but a dictionary and a task, and when the dictionary does not fit the task's dimensions or is not finite.

    Examples
    --------
    >>> import lrbench
    >>> task = lrbench.load_task("superposition/1.30x", "smoke")
    >>> dictionary = lrbench.load_method("random").fit(task.view(), seed=task.fit_seed)
    >>> round(lrbench.score(dictionary, task)["headline"], 2)  # random directions are where the headline is zero
    0.0
    """
    return evaluate(dictionary, task).scores


def evaluate(dictionary: Dictionary, task: Task) -> Evaluation:
    """Return the scores with the curves and the parents behind them (see `score`).

    Examples
    --------
    >>> import lrbench
    >>> task = lrbench.load_task("absorption/even", "smoke")
    >>> found = lrbench.evaluate(lrbench.load_method("truth").fit(task.view()), task)
    >>> found.curves["threshold"][-2:], found.curves["recovery_dec"][-2:]
    ([0.95, 1.0], [1.0, 0.0])
    """
    if not isinstance(dictionary, Dictionary):
        raise LrbenchError(
            f"cannot score {type(dictionary).__name__}: expected lrbench.Dictionary; make one with Dictionary(W_enc, b_enc,"
            " W_dec, b_dec, activation), or with Dictionary.from_sae_lens(sae) of a model of sae-lens"
        )
    if not isinstance(task, Task):
        raise LrbenchError(f"cannot score on {task!r:.80}: expected a task from lrbench.load_task(NAME)")
    dictionary = dictionary.to("cpu")
    if not dictionary.finite():
        raise LrbenchError("the dictionary holds NaN or infinite weights: it cannot be scored")
    true_enc, true_dec = (side[task.scored] for side in task.truth(dictionary.pair))
    enc, dec = similarity(dictionary.W_enc, true_enc), similarity(dictionary.W_dec, true_dec)
    best_enc, best_dec = best_match(enc), best_match(dec)
    whole, least_frequent = scales(task, dictionary.pair)
    found = find(dictionary, task)
    features = task.evaluation()
    activity = observe(dictionary, task, features)
    partner = found.partners
    fired = activity.fires[features.rows, partner[features.indices].clamp_min(0)] & (partner[features.indices] >= 0)
    detected = detection(fired, features, partner, activity.counts)
    l0 = float(activity.counts.sum()) / len(features)
    parents = _parents(dictionary, task, fired, partner, l0)
    scores = {
        "headline": whole(mean(found.values[task.scored])),
        "found": mean(found.values[task.scored]),
        "rare": least_frequent(mean(found.values[rarest(task)])),
        "matched_dec": float(match(dec, activity.live).similarities.mean()),
        "matched_enc": float(match(enc, activity.live).similarities.mean()),
        "mip_dec": float(best_dec.mean()),
        "mip_enc": float(best_enc.mean()),
        "recovery_dec": recovery(best_dec),
        "recovery_enc": recovery(best_enc),
        "fvu": activity.fvu,
        "l0": l0,
        "dead": 1.0 - float(activity.live.float().mean()),
        # classes lie in one another: a latent for the upper one is none for two features
        "polysemanticity": math.nan if task.spec.world.proxy else activity.polysemanticity,
        "mcc": mcc(dictionary.W_dec, true_dec),
        "escape": escape(dictionary, task, partner, activity.fires, features),
    }
    scores |= {name: _mean(detected[name][feature] for feature in task.scored.tolist()) for name in detected}
    scores |= {
        name: _mean(row[name] for row in parents) for name in ("absorption", "recall_alone", "recall_with_child")
    }
    curves = {"threshold": THRESHOLDS}
    curves |= {
        f"recovery_{side}": [recovery(best, t) for t in THRESHOLDS]
        for side, best in (("dec", best_dec), ("enc", best_enc))
    }
    return Evaluation({name: scores[name] for name in METRICS}, curves, parents)


def recovery(best: Float[Tensor, " feature"], threshold: float = RECOVERY_THRESHOLD) -> float:
    """Return the share of features whose best match exceeds a threshold (the paper's M_GT)."""
    return float((best > threshold).float().mean())


def escape(
    dictionary: Dictionary,
    task: Task,
    partner: Int[Tensor, " feature"],
    fires: Bool[Tensor, "sample latent"],
    features: SparseFeatures,
) -> float:
    """Return the share of the trapped, scored features that have a latent of their own; NaN where the task traps none.

    Its own is a feature's partner if its decoder row has a cosine above 0.95 with the feature. A parent's must also fire on most
    samples (more than half) in which a given child is active, for each of its children that is ever seen.

    Parameters
    ----------
    dictionary, task
        What is scored.
    partner
        The latent of every feature, -1 where there is none.
    fires, features
        Which latents are positive on which sample, and what is active there.
    """
    true, trapped = task.truth(dictionary.pair)[1], set(task.start(dictionary.pair)[1]) & set(task.scored.tolist())
    escaped = []
    for feature in sorted(trapped):
        latent = int(partner[feature])
        row, direction = dictionary.W_dec[latent : latent + 1], true[feature : feature + 1]
        own = latent >= 0 and float(similarity(row, direction)) > RECOVERY_THRESHOLD
        for child in task.spec.world.children.get(feature, ()):
            shown = fires[features.rows[features.indices == child], latent]
            own = own and (len(shown) == 0 or float(shown.float().mean()) > WITH_CHILD)
        escaped.append(float(own))
    return _mean(escaped)


def _parents(
    dictionary: Dictionary, task: Task, fired: Bool[Tensor, " active"], partner: Int[Tensor, " feature"], l0: float
) -> list[dict[str, float]]:
    spec = task.spec.world
    scored = [feature for feature in task.scored.tolist() if feature in spec.children]
    if not scored:
        return []
    writes = writes_parent(dictionary.W_dec, task.truth(dictionary.pair)[1], partner, spec.parents)
    rows = parent_rows(fired, task.evaluation(), writes, spec.parents, l0)
    return [{"parent": parent, **rows[parent]} for parent in scored]


@dataclass(frozen=True)
class Activity:
    """How a dictionary behaves on held-out samples and on isolated features.

    Parameters
    ----------
    fires
        Which latents are positive on which held-out sample.
    counts
        On how many samples each latent fires.
    live
        Latents that fire on a held-out sample or on some isolated feature: the second keeps the latent of a feature that is
        too rare for the sample from being called dead.
    fvu
        Fraction of the target's variance left unexplained.
    polysemanticity
        Share of live latents that fire for two or more isolated features.
    """

    fires: Bool[Tensor, "sample latent"]
    counts: Int[Tensor, " latent"]
    live: Bool[Tensor, " latent"]
    fvu: float
    polysemanticity: float


def observe(dictionary: Dictionary, task: Task, features: SparseFeatures) -> Activity:
    """Encode and decode the held-out samples, and every feature on its own."""
    inputs, targets = task.observed(features, dictionary.pair)
    fires = torch.empty(len(inputs), dictionary.n_latents, dtype=torch.bool)
    residual = 0.0
    for rows, codes in _encoded(dictionary, inputs):
        fires[rows] = codes > 0
        error = targets[rows] - dictionary.decode(codes)
        squares = float(error.pow(2).sum())
        residual += squares if math.isfinite(squares) else float(error.double().pow(2).sum())
    if not math.isfinite(residual):
        raise LrbenchError("latents or reconstructions of the held-out samples are not finite: they cannot be scored")
    served = torch.zeros(dictionary.n_latents)
    for _, codes in _encoded(dictionary, task.isolated(dictionary.pair)):
        served += (codes > 0).sum(0)
    counts = firings(fires)
    live = (counts > 0) | (served > 0)
    polysemantic = float((served >= 2).sum() / live.sum().clamp_min(1))
    variance = float((targets - targets.mean(0)).pow(2).sum())
    return Activity(fires, counts, live, residual / variance, polysemantic)


def detection(
    fired: Bool[Tensor, " active"],
    features: SparseFeatures,
    partner: Int[Tensor, " feature"],
    counts: Int[Tensor, " latent"],
) -> dict[str, list[float]]:
    """Return ``f1``, ``precision`` and ``recall`` of each feature's partner as its detector: predicted active where the latent fires.

    Parameters
    ----------
    fired
        For every active feature of ``features`` whether its partner fires; not where it has none.
    features
        The true features of the samples.
    partner
        The latent of every feature, -1 where there is none: all three are 0.
    counts
        On how many samples each latent fires.

    Returns
    -------
    One value per feature, NaN for a feature that no sample shows.
    """
    n_features = len(partner)
    hits = torch.bincount(features.indices[fired], minlength=n_features)
    shown = torch.bincount(features.indices, minlength=n_features)
    predicted = torch.where(partner >= 0, counts[partner.clamp_min(0)], 0)
    figures = {
        "f1": 2 * hits / (shown + predicted),
        "precision": hits / predicted.clamp_min(1),
        "recall": hits / shown,
    }
    return {name: torch.where(shown > 0, values, torch.nan).tolist() for name, values in figures.items()}


def firings(fires: Bool[Tensor, "sample latent"]) -> Int[Tensor, " latent"]:
    """Return on how many samples each latent fires; block by block, as a sum of booleans is taken over a copy in integers."""
    return torch.stack(
        [fires[start : start + 1024].sum(0, dtype=torch.int32) for start in range(0, len(fires), 1024)]
    ).sum(0)


def _encoded(dictionary: Dictionary, inputs: Tensor) -> Iterator[tuple[slice, Float[Tensor, "batch latent"]]]:
    size = max(1, CHUNK_ELEMENTS // dictionary.n_latents)
    for start in range(0, len(inputs), size):
        rows = slice(start, start + size)
        yield rows, dictionary.encode(inputs[rows])


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
