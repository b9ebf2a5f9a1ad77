"""What a person reads of a latent: the held-out items that it fires on most, with their classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError
from lrbench.real.items import Item, classes, items
from lrbench.real.world import RealWorld
from lrbench.task import Task


@dataclass(frozen=True)
class Reading:
    """A latent.

    Parameters
    ----------
    latent
        Its number.
    fires
        On how many held-out items it fires.
    path, f1
        The class that it detects best, by code > 0, and how well.
    top
        The items that it is largest on, with its value.
    """

    latent: int
    fires: int
    path: tuple[str, ...]
    f1: float
    top: tuple[tuple[Item, float], ...]


def readings(
    dictionary: Dictionary, task: Task, latents: Sequence[int] = (), count: int = 8, most: int = 10
) -> list[Reading]:
    """Return what some latents fire on.

    Parameters
    ----------
    dictionary, task
        A dictionary on the CPU and the task whose items it reads.
    latents
        Their numbers; by default the ``most`` that detect their class best, no two the same class.
    count
        Items of each.

    Raises
    ------
    LrbenchError
        For a task without items, or a latent that the dictionary lacks.
    """
    for latent in latents:
        if not 0 <= latent < dictionary.n_latents:
            raise LrbenchError(f"latent={latent}: expected 0 to {dictionary.n_latents - 1}")
    if not task.spec.world.proxy:
        raise LrbenchError(
            f"{task.name}: its samples are no items that can be read; expected a real task, such as real_minilm/trained"
        )
    real = task.world
    assert isinstance(real, RealWorld)
    held = real.sample(task.spec.n_evaluation, "evaluation")
    codes = dictionary.encode(task.observed(held, dictionary.pair)[0]).float()
    shown, fired = held.dense(task.spec.world.n_features), (codes > 0).float()
    f1 = 2 * (fired.T @ shown) / (fired.sum(0).unsqueeze(1) + shown.sum(0)).clamp_min(1.0)
    best = f1.max(dim=1)
    chosen = list(latents)
    if not chosen:
        taken: set[int] = set()
        for latent in best.values.argsort(descending=True).tolist():
            own = int(best.indices[latent])
            if len(chosen) < most and own not in taken:
                chosen.append(latent)
                taken.add(own)
    table, found = items(), []
    for latent in chosen:
        value, place = codes[:, latent].topk(min(count, len(codes)))
        top = [(table[int(held.items[p])], float(v)) for v, p in zip(value, place, strict=True) if v > 0]
        path = classes()[int(best.indices[latent])]
        found.append(Reading(latent, int(fired[:, latent].sum()), path, float(best.values[latent]), tuple(top)))
    return found
