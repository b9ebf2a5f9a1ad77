"""What the settling test sees of one dictionary, inside a worker: plain numbers, pure functions of dictionary and task."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import normalize

from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError
from lrbench.scoring.matching import match, similarity
from lrbench.scoring.metrics import observe
from lrbench.seeds import generator
from lrbench.study import Trained
from lrbench.task import Task
from lrbench.theory import (
    approximate_loss,
    certify,
    dropped_leaves,
    isolated,
    situations,
    spurious_minimum,
    true_dictionary,
    true_dictionary_bound,
)

Numbers = dict[str, float]
OWN, HIERARCHY = "own", "own-hierarchy"  # the starts that are the method's own, in two kinds of worlds
PARENT_SAMPLES = 32_768  # a child is rare: recall in its presence needs more samples than the scores do
ABSORBED = 0.1  # a parent whose recall differs by less between its children has dropped none before the others


def measure(trained: Trained) -> Numbers:
    """Return what is seen of one dictionary: what its kind of world is for, or the constructions beside the true dictionary."""
    dictionary, task = trained.dictionary, trained.task
    if trained.method.kind == "reference":
        return of_constructions(task)
    if task.spec.start == OWN:
        return of_loss(dictionary, task)
    if task.spec.start == HIERARCHY:
        return of_parents(dictionary, task)
    return {}


def of_loss(dictionary: Dictionary, task: Task) -> Numbers:
    """Return a dictionary's L and L̃ (per Σ M_d ‖w_r^d‖²), 3.1's ratio, and how far a block alone lowers L̃."""
    found = certify(dictionary, task.world)
    truth = approximate_loss(true_dictionary(task.world, pair=dictionary.pair), task.world)
    fall = max(found.decoder_gap, found.encoder_gap_least)
    law = task.spec.world
    # from 1-S = 1/n on the bound is at least C, the largest error: every dictionary keeps it, the zero one too
    tells = law.n_features * law.rate < 1.0 - 1e-9
    return {
        "loss": found.loss.mean / found.scale,
        "approximate": found.approximate_loss / found.scale,
        "difference": found.bound.difference / found.loss.mean,
        "bound_ratio": found.bound.difference / found.bound.value if tells else math.nan,
        "fall": fall / found.approximate_loss if found.approximate_loss else 0.0,
        "fall_scale": fall / found.scale,
        "true_ratio": found.approximate_loss / truth,
    }


def of_constructions(task: Task) -> Numbers:
    """Return what the constructions 3.3 and 3.6 come to in this world, and how far the world is from a linear one.

    ``minimum_fall`` is 1, all of the loss, where no minimum with random pairs of features exists.
    """
    world = task.world
    features = world.sample(task.spec.n_evaluation, "evaluation")
    whole, parts = world.represent(features), features.represent(world.isolated() / world.spec.mean_magnitude)
    truth = approximate_loss(true_dictionary(world), world)
    numbers = {
        "bent": float((whole - parts).pow(2).sum() / whole.pow(2).sum()),
        "interference": max(world.interference),
        "bound": truth / true_dictionary_bound(world),
        "minimum_fall": 1.0,
    }
    n = world.spec.n_features
    order = torch.randperm(n, generator=generator(task.seed, "falsify", "pairs")).tolist()
    try:
        minimum = spurious_minimum(world, [order[first : first + 2] for first in range(0, n, 2)])
    except LrbenchError:
        return numbers
    found = certify(minimum, world)
    return numbers | {"minimum_fall": max(found.decoder_gap, found.encoder_gap_most) / found.scale}


def of_parents(dictionary: Dictionary, task: Task) -> Numbers:
    """Return how often the child that a parent's latent drops first is the predicted one.

    The first is the child in whose presence the parent's partner has the lowest recall, where that is lower than for another
    child by at least `ABSORBED`. Predicted before training: the child whose situation the dual row reads weakest (3.8's
    construction), and the one with the smallest inner product with the parent's direction; after training: the one whose
    situation the parent's own trained row reads weakest. NaN where no parent has dropped a child.
    """
    world, scored = task.world, task.scored
    _, true_dec = task.truth(dictionary.pair)
    live = observe(dictionary, task, task.evaluation()).live
    matched = match(similarity(dictionary.W_dec, true_dec[scored]), live)
    partner = matched.partners(scored, world.spec.n_features)
    features = world.sample(PARENT_SAMPLES, "falsify")
    inputs, _ = task.observed(features, dictionary.pair, "falsify")
    parents = [p for p in world.spec.children if int(partner[p]) >= 0]
    fires = torch.cat([dictionary.encode(x)[:, partner[parents]] > 0 for x in torch.split(inputs, 4096)])
    alone = normalize(isolated(world, dictionary.pair).inputs, dim=1)
    families = situations(world, dictionary.pair).inputs
    reading = families @ dictionary.W_enc.double().T
    dual = dropped_leaves(world, dictionary.pair)
    hits: list[tuple[bool, bool, bool]] = []
    for place, parent in enumerate(parents):
        children = world.spec.children[parent]
        shown = [fires[features.rows[features.indices == child], place] for child in children]
        recalls = [float(rows.float().mean()) if len(rows) else 1.0 for rows in shown]
        if max(recalls) - min(recalls) < ABSORBED:
            continue
        first = children[recalls.index(min(recalls))]
        near = children[int((alone[children] @ alone[parent]).argmin())]
        own = children[int(reading[children, int(partner[parent])].argmin())]
        hits.append((first == dual[parent], first == near, first == own))
    shares = torch.tensor(hits, dtype=torch.float64).mean(0).tolist() if hits else [float("nan")] * 3
    return dict(zip(("hit_dual", "hit_direction", "hit_row"), shares, strict=True)) | {"dropped": float(len(hits))}
