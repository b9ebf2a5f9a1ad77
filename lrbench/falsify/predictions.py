"""The predictions: what is said, how it is observed, and the threshold that decides; ``after_look`` marks those not fixed in advance."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

from lrbench.falsify.worlds import DEAD, HIERARCHY, OWN, POLYSEMANTIC, ROTATED, THEORY

Seen = Mapping[tuple[str, str, str], Mapping[str, float]]  # (world, method, twin) → numbers, at one point and seed
PAIRS = {"transcoder": "transcoder", "crosscoder": "crosscoder"}  # losses of other pairings are another quantity


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One statement that training can contradict.

    Parameters
    ----------
    name, title
        Short name, and the heading.
    source
        Where it comes from.
    statement
        What is predicted, in words.
    measure
        What is measured.
    above, threshold
        The prediction holds where the measure is above the threshold (``above``), or at most the threshold.
    observe
        From all that was seen at one point with one seed to a number for each method it concerns.
    after_look
        Whether it was added, or its threshold chosen, after results of a smaller run had been seen.
    """

    name: str
    title: str
    source: str
    statement: str
    measure: str
    above: bool
    threshold: float
    observe: Callable[[Seen], dict[str, float]]
    after_look: bool = False

    @property
    def rule(self) -> str:
        """The decision in words."""
        return f"{'above' if self.above else 'at most'} {self.threshold:g}"


def number(kind: str, name: str) -> Callable[[Seen], dict[str, float]]:
    """Return an observer of a plain method's number in a world."""
    return lambda seen: {
        method: numbers[name]
        for (world, method, twin), numbers in seen.items()
        if world == kind and not twin and name in numbers
    }


def gain(
    kind: str, name: str, added: str, *, relative: bool = False, floor: float = -math.inf
) -> Callable[[Seen], dict[str, float]]:
    """Return an observer of what a twin changes in a score: twin − plain, or (plain − twin) / plain where ``relative``.

    Where both are at the floor nothing is observed: no change could be seen there.
    """

    def observe(seen: Seen) -> dict[str, float]:
        found = {}
        for (world, method, twin), numbers in seen.items():
            plain = seen.get((kind, method, ""))
            if world == kind and twin == added and plain is not None and max(numbers[name], plain[name]) > floor:
                change = numbers[name] - plain[name]
                found[method] = -change / plain[name] if relative else change
        return found

    return observe


def rank_agreement(seen: Seen) -> dict[str, float]:
    """Return Spearman's correlation of L and L̃ over the dictionaries of one world, all methods and twins."""
    from scipy.stats import spearmanr

    found = [numbers for (world, method, _), numbers in seen.items() if world == OWN and method != THEORY]
    pairs = [(numbers["loss"], numbers["approximate"]) for numbers in found]
    return {"all": float(spearmanr(pairs).statistic)} if len(pairs) > 2 else {}


def discordance(seen: Seen) -> dict[str, float]:
    """Return the share of pairs of dictionaries, trained on the same sites, of which the one with the lower FVU recovers less."""
    by_pair: dict[str, list[tuple[float, float]]] = {}
    for (world, method, _), numbers in seen.items():
        if world == OWN and method != THEORY:
            by_pair.setdefault(PAIRS.get(method, "autoencoder"), []).append((numbers["fvu"], numbers["matched_dec"]))
    products = [(a[0] - b[0]) * (a[1] - b[1]) for rows in by_pair.values() for a, b in combinations(rows, 2)]
    return {"all": sum(product > 0 for product in products) / len(products)} if products else {}


def log_ratio_to_truth(seen: Seen) -> dict[str, float]:
    """Return log10 of the trained dictionary's L̃ over the true dictionary's."""
    return {
        method: math.log10(ratio) if ratio else -math.inf for method, ratio in number(OWN, "true_ratio")(seen).items()
    }


PREDICTIONS = (
    Prediction(
        name="bound",
        title="The approximate loss is close to the loss",
        source="3.1",
        statement=(
            "In a sparse world the loss differs from the loss on features alone by at most n² C (1−S)². Proved for 1−S ≤ 1/n. From "
            "1−S = 1/n on, the base point included, it is at least C, which no dictionary can miss: only sparser worlds can tell."
        ),
        measure="|L − L̃| / (n² C (1−S)²), C the largest squared error of the sample",
        above=False,
        threshold=1.0,
        observe=number(OWN, "bound_ratio"),
    ),
    Prediction(
        name="share",
        title="The approximate loss is most of the loss",
        source="3.1, as it is used",
        statement="All later statements are about L̃. They are about the loss where features alone make up at least half of it.",
        measure="|L − L̃| / L",
        above=False,
        threshold=0.5,
        observe=number(OWN, "difference"),
        after_look=True,
    ),
    Prediction(
        name="proxy",
        title="The approximate loss ranks dictionaries as the loss does",
        source="3.1, as it is used",
        statement="They also bear on training where a dictionary with a lower L̃ tends to have a lower L.",
        measure="Spearman's correlation of L and L̃ over all dictionaries of a world",
        above=True,
        threshold=0.5,
        observe=rank_agreement,
    ),
    Prediction(
        name="minimum",
        title="Polysemantic partial minima exist",
        source="3.6",
        statement="Random pairs of features that share a latent are a partial minimum of L̃ (with the codes corrected as docs/theory.md says).",
        measure="largest possible fall of L̃ when one block is minimised exactly, per Σ M_d; 1 where there is no such minimum",
        above=False,
        threshold=1e-6,
        observe=number(OWN, "minimum_fall"),
    ),
    Prediction(
        name="polysemantic",
        title="Training stays in a polysemantic minimum",
        source="3.6",
        statement=(
            "A method that starts where pairs of features share a latent does not get out without help. "
            "A latent that turns to one of its two features counts as out for that one: half of the features can be had in this way."
        ),
        measure="share of the trapped features that end with a latent of their own",
        above=False,
        threshold=0.05,
        observe=number(POLYSEMANTIC, "escape"),
    ),
    Prediction(
        name="near",
        title="Trained dictionaries are near partial minima",
        source="3.2, 3.6",
        statement=(
            "What training ends in is a partial minimum: no block alone, minimised exactly with the pattern held, lowers L̃ by much. "
            "Where more latents than features are awake and the codes of the features are independent, W_D alone brings L̃ to 0."
        ),
        measure="proven fall of L̃ in its better block, as a share of L̃",
        above=False,
        threshold=0.1,
        observe=number(OWN, "fall"),
    ),
    Prediction(
        name="near-scale",
        title="The distance from a partial minimum is small",
        source="3.2, 3.6",
        statement="The same fall measured by what there is to explain, Σ M_d ‖w_r^d‖², instead of by what is left.",
        measure="proven fall of L̃ in its better block, per Σ M_d ‖w_r^d‖²",
        above=False,
        threshold=0.01,
        observe=number(OWN, "fall_scale"),
        after_look=True,
    ),
    Prediction(
        name="resample-own",
        title="Resampling lowers the loss",
        source="3.6, section 1",
        statement="Dead latents are spurious: re-initialising them during training ends at a lower loss.",
        measure="(FVU plain − FVU resampled) / FVU plain, own start",
        above=True,
        threshold=0.0,
        observe=gain(OWN, "fvu", "resample", relative=True),
    ),
    Prediction(
        name="resample-dead",
        title="Resampling gets out of dead latents",
        source="3.6, section 1",
        statement="The same from a start in which half of the features has no latent and all spare latents are dead.",
        measure="(FVU plain − FVU resampled) / FVU plain, from the dead start",
        above=True,
        threshold=0.0,
        observe=gain(DEAD, "fvu", "resample", relative=True),
    ),
    Prediction(
        name="resample-polysemantic",
        title="Resampling gets out of polysemantic latents",
        source="3.6, section 1",
        statement="The same from the polysemantic start.",
        measure="(FVU plain − FVU resampled) / FVU plain, from the polysemantic start",
        above=True,
        threshold=0.0,
        observe=gain(POLYSEMANTIC, "fvu", "resample", relative=True),
    ),
    Prediction(
        name="absorbs",
        title="Parents are absorbed",
        source="3.8",
        statement="In a hierarchy, training arrives at patterns in which a parent's latent is silent while a child is active.",
        measure="recall of parents alone − recall with a child",
        above=True,
        threshold=0.05,
        observe=number(HIERARCHY, "absorption"),
    ),
    Prediction(
        name="first-dual",
        title="The weakest sub-concept goes first (construction)",
        source="3.8",
        statement="The child that a parent's latent drops first is the one that the construction drops. Chance is 1/3.",
        measure="hit rate of the child that the parent's dual row reads weakest",
        above=True,
        threshold=0.5,
        observe=number(HIERARCHY, "hit_dual"),
    ),
    Prediction(
        name="first-direction",
        title="The weakest sub-concept goes first (geometry)",
        source="3.8",
        statement="The same with the parent's true direction as its row. Chance is 1/3.",
        measure="hit rate of the child with the smallest inner product with its parent",
        above=True,
        threshold=0.5,
        observe=number(HIERARCHY, "hit_direction"),
    ),
    Prediction(
        name="first-row",
        title="The weakest sub-concept goes first (trained row)",
        source="3.8",
        statement="The same with the trained row: no forecast, but whether 3.8's reason is the reason. Chance is 1/3.",
        measure="hit rate of the child whose situation the parent's trained row reads weakest",
        above=True,
        threshold=0.5,
        observe=number(HIERARCHY, "hit_row"),
    ),
    Prediction(
        name="rotated",
        title="Zero loss without recovery holds training",
        source="3.4",
        statement="A start with L̃ = 0 that recovers no feature is not left.",
        measure="share of the features that end with a latent of their own",
        above=False,
        threshold=0.05,
        observe=number(ROTATED, "escape"),
    ),
    Prediction(
        name="blind",
        title="The loss does not tell who recovers",
        source="3.4",
        statement="Solutions are not identified by their loss: the dictionary with the lower loss is often the one that recovers less.",
        measure="share of pairs of dictionaries in which it is",
        above=True,
        threshold=0.1,
        observe=discordance,
    ),
    Prediction(
        name="anchor-dec",
        title="Anchoring helps the other features (decoder)",
        source="feature anchoring",
        statement="Holding a tenth of the features in place lifts recovery of those that are not held.",
        measure="matched_dec anchored − plain, features not anchored",
        above=True,
        threshold=0.0,
        observe=gain(OWN, "matched_dec", "anchored"),
    ),
    Prediction(
        name="anchor-enc",
        title="Anchoring helps the other features (encoder)",
        source="feature anchoring",
        statement="The same on encoder rows, which the paper scores (its M_IP).",
        measure="mip_enc anchored − plain, features not anchored",
        above=True,
        threshold=0.0,
        observe=gain(OWN, "mip_enc", "anchored"),
    ),
    Prediction(
        name="anchor-recovery",
        title="Anchoring recovers more features (encoder)",
        source="feature anchoring",
        statement="The same counted above τ = 0.95 (the paper's M_GT). Where neither twin recovers any, nothing could be higher: nothing is observed.",
        measure="recovery_enc anchored − plain, features not anchored",
        above=True,
        threshold=0.0,
        observe=gain(OWN, "recovery_enc", "anchored", floor=0.0),
    ),
    Prediction(
        name="true-bound",
        title="The true dictionary has a bounded approximate loss",
        source="3.3",
        statement="The true directions on both sides, under ReLU, have L̃ ≤ n² M² Σ M_d.",
        measure="L̃ of the true dictionary / n² M² Σ M_d",
        above=False,
        threshold=1.0,
        observe=number(OWN, "bound"),
    ),
    Prediction(
        name="true-beaten",
        title="No trained dictionary beats the true one",
        source="not claimed; 3.3 is an upper bound only",
        statement="If the true dictionary were the minimum, training would end above it.",
        measure="log10 of L̃ trained / L̃ true",
        above=True,
        threshold=0.0,
        observe=log_ratio_to_truth,
    ),
)
