"""Scores: pure functions of a dictionary and a task. `docs/metrics.md` defines every one; `METRICS` declares it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lrbench.dictionary import Dictionary, random_dictionary
from lrbench.errors import LrbenchError
from lrbench.metric_table import METRICS, RECOVERY_THRESHOLD, WITH_CHILD
from lrbench.scoring.matching import Match, best_match, match, mcc, similarity
from lrbench.seeds import generator
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
        For each scored parent: ``parent``, ``recall_alone``, ``recall_with_child`` (NaN where the case never occurred).
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
    floor = floor_score(task, dictionary.pair)  # before the activity: both hold a matrix of sample x latent
    features = task.evaluation()
    activity = observe(dictionary, task, features)
    matched = match(dec, activity.live)
    matched_dec = float(matched.similarities.mean())
    partner = matched.partners(task.scored, task.spec.world.n_features)
    f1 = detection_f1(activity.fires, features, partner, activity.counts)
    parents = _parents(task, activity.fires, features, partner)
    scores = {
        "headline": (matched_dec - floor) / (1.0 - floor),
        "matched_dec": matched_dec,
        "matched_enc": float(match(enc, activity.live).similarities.mean()),
        "mip_dec": float(best_dec.mean()),
        "mip_enc": float(best_enc.mean()),
        "recovery_dec": recovery(best_dec),
        "recovery_enc": recovery(best_enc),
        "f1": _mean(f1[feature] for feature in task.scored.tolist()),
        "fvu": activity.fvu,
        "l0": float(activity.counts.sum()) / len(features),
        "dead": 1.0 - float(activity.live.float().mean()),
        "polysemanticity": activity.polysemanticity,
        "absorption": _mean(row["recall_alone"] - row["recall_with_child"] for row in parents),
        "recall_alone": _mean(row["recall_alone"] for row in parents),
        "recall_with_child": _mean(row["recall_with_child"] for row in parents),
        "mcc": mcc(dictionary.W_dec, true_dec),
        "escape": escape(dictionary, task, matched, activity.fires, features),
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
    matched: Match,
    fires: Bool[Tensor, "sample latent"],
    features: SparseFeatures,
) -> float:
    """Return the share of the trapped, scored features that have a latent of their own; NaN where the task traps none.

    Its own is a feature's partner in the one-to-one matching of decoder rows, with a cosine above 0.95. A parent's must also
    fire on most samples (more than half) in which a given child is active, for each of its children that is ever seen.

    Parameters
    ----------
    dictionary, task
        What is scored.
    matched
        The partners of the scored features, in the order of ``task.scored``.
    fires, features
        As for `detection_f1`.
    """
    scored = task.scored.tolist()
    trapped = set(task.start(dictionary.pair)[1]) & set(scored)
    found = []
    for place in (place for place, feature in enumerate(scored) if feature in trapped):
        own = float(matched.similarities[place]) > RECOVERY_THRESHOLD
        for child in task.spec.world.children.get(scored[place], ()):
            shown = fires[features.rows[features.indices == child], matched.latents[place]]
            own = own and (len(shown) == 0 or float(shown.float().mean()) > WITH_CHILD)
        found.append(float(own))
    return _mean(found)


@lru_cache(maxsize=64)
def floor_score(task: Task, pair: str) -> float:
    """Return ``matched_dec`` of the random dictionary at the task's width: the zero of the headline."""
    true_enc, true_dec = task.truth(pair)
    shape = (task.spec.n_latents, true_enc.shape[1], true_dec.shape[1])
    floor = random_dictionary(*shape, rng=generator(task.fit_seed, "init"), pair=pair)
    live = observe(floor, task, task.evaluation()).live
    return float(match(similarity(floor.W_dec, true_dec[task.scored]), live).similarities.mean())


def _parents(
    task: Task, fires: Bool[Tensor, "sample latent"], features: SparseFeatures, partner: Int[Tensor, " feature"]
) -> list[dict[str, float]]:
    spec = task.spec.world
    scored = [feature for feature in task.scored.tolist() if feature in spec.children]
    if not scored:
        return []
    recalls = parent_recalls(fires, features, partner, spec.parents)
    return [{"parent": p, "recall_alone": recalls[p][0], "recall_with_child": recalls[p][1]} for p in scored]


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


def detection_f1(
    fires: Bool[Tensor, "sample latent"],
    features: SparseFeatures,
    partner: Int[Tensor, " feature"],
    counts: Int[Tensor, " latent"],
) -> list[float]:
    """Return the F1 of each feature's partner as its detector: predicted active where the latent fires.

    Parameters
    ----------
    fires
        Which latents are positive on which sample.
    features
        The true features of the samples.
    partner
        The latent of every feature, -1 where there is none: its F1 is 0.
    counts
        On how many samples each latent fires.

    Returns
    -------
    One value per feature, NaN for a feature that no sample shows.
    """
    n_features = len(partner)
    active = features.indices
    hit = fires[features.rows, partner[active].clamp_min(0)] & (partner[active] >= 0)
    hits = torch.bincount(active[hit], minlength=n_features)
    shown = torch.bincount(active, minlength=n_features)
    predicted = torch.where(partner >= 0, counts[partner.clamp_min(0)], 0)
    f1 = 2 * hits / (shown + predicted)
    return torch.where(shown > 0, f1, torch.nan).tolist()


def firings(fires: Bool[Tensor, "sample latent"]) -> Int[Tensor, " latent"]:
    """Return on how many samples each latent fires; block by block, as a sum of booleans is taken over a copy in integers."""
    return torch.stack(
        [fires[start : start + 1024].sum(0, dtype=torch.int32) for start in range(0, len(fires), 1024)]
    ).sum(0)


def parent_recalls(
    fires: Bool[Tensor, "sample latent"], features: SparseFeatures, partner: Int[Tensor, " feature"], parents: list[int]
) -> list[tuple[float, float]]:
    """Return, for every feature, the recall of its partner while no child is active, and while one is.

    Parameters
    ----------
    fires, features, partner
        As for `detection_f1`.
    parents
        The parent of every feature, -1 where there is none.

    Returns
    -------
    One pair per feature, NaN where the case never occurred. Without a partner the recall is 0. Absorption is the difference
    (Chanin et al. 2024, arXiv 2409.14507, find it with probes; here the truth is known).
    """
    n_features = len(partner)
    parent_of, rows, active = torch.tensor(parents), features.rows, features.indices
    child = parent_of[active] >= 0
    woken = torch.unique(rows[child] * n_features + parent_of[active[child]])  # (sample, parent) with an active child
    with_child = torch.isin(rows * n_features + active, woken)
    fired = fires[rows, partner[active].clamp_min(0)] & (partner[active] >= 0)
    recalls = []
    for case in (~with_child, with_child):
        shown = torch.bincount(active[case], minlength=n_features)
        recalls.append(
            torch.bincount(active[case & fired], minlength=n_features) / shown
        )  # 0/0 is NaN: it never occurred
    return list(zip(recalls[0].tolist(), recalls[1].tolist(), strict=True))


def _encoded(dictionary: Dictionary, inputs: Tensor) -> Iterator[tuple[slice, Float[Tensor, "batch latent"]]]:
    size = max(1, CHUNK_ELEMENTS // dictionary.n_latents)
    for start in range(0, len(inputs), size):
        rows = slice(start, start + size)
        yield rows, dictionary.encode(inputs[rows])


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
