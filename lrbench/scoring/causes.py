"""Why a parent's latent is silent on a child: the layer does not hold the parent there, the child's latent took it over, or neither.

`docs/studies.md` has the reasons. A sample of a child on which the parent's best latent is silent is lost to the first of three causes that
applies:

* missing: a linear probe for the parent, fitted on the same samples as all choices here, is silent too;
* absorbed: the child's own best latent fires, and its decoder row writes the parent's direction beside the child's;
* unlearned: all that is left. A dictionary that was trained for a short while shows how much of it training takes away.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lrbench.dictionary import Dictionary
from lrbench.scoring.absorption import SHARE
from lrbench.scoring.matching import unit_rows
from lrbench.scoring.oracle import probes
from lrbench.task import Task
from lrbench.world import SparseFeatures

FIT_SAMPLES = 16_384  # on which latents are chosen, where the world has so many
POINTS = 0.5  # cosine from which on a row points at something, as in `lrbench.scoring.found`
LEAST_SHOWN = 5  # held-out samples of a child, or nothing is said about it


@dataclass(frozen=True)
class ChildRecall:
    """What becomes of a parent on the held-out samples of one of its children; recall and the three causes add up to 1.

    Parameters
    ----------
    parent, child
        Features of the task.
    probe
        Recall of the linear probe: what the layer holds.
    recall
        Recall of the parent's best latent.
    missing, absorbed, unlearned
        The share of the samples that is lost to each cause.
    f1
        Of the parent's best latent over all samples: one that always fires has a recall of 1 and loses nothing.
    """

    parent: int
    child: int
    probe: float
    recall: float
    missing: float
    absorbed: float
    unlearned: float
    f1: float


def child_recalls(dictionary: Dictionary, task: Task) -> list[ChildRecall]:
    """Return what becomes of every parent on each of its children; parents with a single child are left out.

    Parameters
    ----------
    dictionary
        On the CPU.
    task
        One whose features have parents. For a proxy, a child's own direction is its class mean minus its parent's.
    """
    tree = {p: own for p, own in task.spec.world.children.items() if len(own) > 1}
    fit = task.world.sample(FIT_SAMPLES, "causes")
    best, second = _best_latents(_fires(dictionary, task, fit, "causes"), fit, task.spec.world.n_features)
    held = task.evaluation()
    fires = _fires(dictionary, task, held, "evaluation")
    probe = _probed(task, dictionary.pair, held)
    above, own = _directions(task, dictionary.pair)
    found = []
    for parent, children in tree.items():
        latent = int(best[parent])
        is_parent = torch.zeros(len(held), dtype=torch.bool)
        is_parent[held.rows[held.indices == parent]] = True
        fired = fires[:, latent]
        f1 = float(2 * (fired & is_parent).sum() / (fired.sum() + is_parent.sum()).clamp_min(1))
        for child in children:
            rows = held.rows[held.indices == child]
            if len(rows) < LEAST_SHOWN:
                continue
            taker = int(second[child] if int(best[child]) == latent else best[child])
            takes = writes_both(dictionary.W_dec[taker], own[child], above[parent])
            silent, seen = ~fires[rows, latent], probe[rows, parent]
            taken = silent & seen & fires[rows, taker] & takes
            shares = (seen, ~silent, silent & ~seen, taken, silent & seen & ~taken)
            held_here, recall, missing, absorbed, unlearned = (float(each.double().mean()) for each in shares)
            found.append(ChildRecall(parent, child, held_here, recall, missing, absorbed, unlearned, f1))
    return found


def summary(rows: Iterable[ChildRecall]) -> dict[str, float]:
    """Return the means over parents of the means over their children, and of the lowest recall among these, as ``lowest``."""
    families: dict[int, list[ChildRecall]] = {}
    for row in rows:
        families.setdefault(row.parent, []).append(row)
    names = ("probe", "recall", "missing", "absorbed", "unlearned", "f1")
    means = {name: _mean(_mean(getattr(row, name) for row in own) for own in families.values()) for name in names}
    lowest = {
        f"lowest_{name}": _mean(min(getattr(row, name) for row in own) for own in families.values())
        for name in ("probe", "recall")
    }
    return means | lowest


def writes_both(row: Float[Tensor, " dim"], child: Float[Tensor, " dim"], parent: Float[Tensor, " dim"]) -> bool:
    """Return whether a decoder row writes child and parent, at least a quarter as much of the parent as of the child, by least squares.

    The row has to lie within 60 degrees of what it writes of the two: a random row writes a little of anything.
    """
    row, child, parent = unit_rows(torch.stack([row, child, parent]))
    plane = torch.stack([child, parent]).T
    written = torch.linalg.lstsq(plane, row.unsqueeze(1), driver="gelsd").solution.flatten()
    of_child, of_parent = written.tolist()
    return of_parent > 0 and of_parent >= SHARE * of_child and float((plane @ written).norm()) > POINTS


def _directions(task: Task, pair: str) -> tuple[Tensor, Tensor]:
    """Return the direction of every feature as a parent, and what is its own as a child, on the decoder's side."""
    true = task.truth(pair)[1]
    if not task.spec.world.proxy:
        return true, true
    parents = torch.tensor(task.spec.world.parents)
    return true, torch.where(parents.unsqueeze(1) >= 0, true - true[parents.clamp_min(0)], true)


def _fires(dictionary: Dictionary, task: Task, features: SparseFeatures, stream: str) -> Bool[Tensor, "sample latent"]:
    inputs = task.observed(features, dictionary.pair, stream)[0]
    return torch.cat([dictionary.encode(some) > 0 for some in torch.split(inputs, 4096)])


def _probed(task: Task, pair: str, features: SparseFeatures) -> Bool[Tensor, "sample feature"]:
    """Return where the linear probes of all features fire."""
    (weights, biases), (cuts, _) = probes(task, pair)
    readings = torch.addmm(biases, task.observed(features, pair)[0], weights.T)
    return readings > cuts.clamp_min(0.0)


def _best_latents(
    fires: Bool[Tensor, "sample latent"], features: SparseFeatures, n_features: int
) -> tuple[Int[Tensor, " feature"], Int[Tensor, " feature"]]:
    """Return the latents with the best and the second best F1 for every feature."""
    shown, fired = features.dense(n_features).clamp_max_(1.0), fires.float()
    hits = fired.T @ shown
    f1 = 2 * hits / (fired.sum(0).unsqueeze(1) + shown.sum(0)).clamp_min(1.0)
    first, second = f1.topk(2, dim=0).indices
    return first, second


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
