"""What is seen of one trained dictionary, inside a worker: plain numbers, pure functions of dictionary and task."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch.nn.functional import normalize

from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError
from lrbench.falsify.worlds import HIERARCHY, OWN, THEORY, Cell, Point, task_of
from lrbench.matching import match, similarity
from lrbench.metrics import evaluate, observe
from lrbench.registry import load_method
from lrbench.seeds import generator
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
SCORES = ("matched_dec", "mip_enc", "recovery_dec", "recovery_enc", "fvu", "escape", "absorption")
PARENT_SAMPLES = 32_768  # a child is rare: recall in its presence needs more samples than the scores do
ABSORBED = 0.1  # a parent whose recall differs by less between its children has dropped none before the others


def run_cell(cell: Cell) -> Numbers:
    """Train a cell's dictionary and return what is seen of it.

    Raises
    ------
    LrbenchError
        When the world's construction does not exist at this point.
    """
    task = cached_task(cell.suite, cell.kind, cell.point, cell.seed)
    if cell.method == THEORY:
        return of_constructions(task)
    torch.manual_seed(cell.seed)
    method = load_method(f"{cell.method}+{cell.twin}" if cell.twin else cell.method)
    dictionary = method.fit(task.view(method.pair), seed=cell.seed)
    scores = evaluate(dictionary, task).scores
    numbers = {name: scores[name] for name in SCORES}
    if cell.kind == OWN:
        numbers |= of_loss(dictionary, task)
    if cell.kind == HIERARCHY:
        numbers |= of_parents(dictionary, task)
    return numbers


@lru_cache(maxsize=2)
def cached_task(suite: str, kind: str, point: Point, seed: int) -> Task:
    """Return a task whose world is built once for the cells that follow each other."""
    return task_of(suite, kind, point, seed)


def of_loss(dictionary: Dictionary, task: Task) -> Numbers:
    """Return a dictionary's L and L̃ (per Σ M_d ‖w_r^d‖²), 3.1's ratio, and how far a block alone lowers L̃."""
    found = certify(dictionary, task.world)
    truth = approximate_loss(true_dictionary(task.world, pair=dictionary.pair), task.world)
    fall = max(found.decoder_gap, found.encoder_gap_least)
    return {
        "loss": found.loss.mean / found.scale,
        "approximate": found.approximate_loss / found.scale,
        "difference": found.bound.difference / found.loss.mean,
        "bound_ratio": found.bound.difference / found.bound.value,
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
    partner = torch.full((world.spec.n_features,), -1)
    partner[scored] = match(similarity(dictionary.W_dec, true_dec[scored]), live).latents
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
