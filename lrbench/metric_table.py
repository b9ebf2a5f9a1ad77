"""What every score means: direction, unit, range and the tolerance within which two results count as equal (no torch)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

SCORE_VERSION = 2  # raise it whenever a score's definition changes: older records then stop being comparable
RECOVERY_THRESHOLD = 0.95  # the paper's tau
LOWEST, HIGHEST = (
    -1000.0,
    1e100,
)  # what an open range ends at all the same; the mean and the square of these are numbers
ROUNDING = 1e-3  # how far outside of its range arithmetic may leave a score
WITH_CHILD = 0.5  # share of the samples with a child from which on a parent's latent counts as firing with it


@dataclass(frozen=True)
class Metric:
    """A score's declaration.

    Parameters
    ----------
    name, label
        Its key in a record and its short heading in a table.
    direction
        ``"higher"`` or ``"lower"`` is better; ``"none"`` where neither is.
    unit
        What a value of 1 means.
    low, high
        The range, None where it is open.
    tolerance
        A difference up to this is not an effect.
    summary
        One line for a reader.
    """

    name: str
    label: str
    direction: Literal["higher", "lower", "none"]
    unit: str
    low: float | None
    high: float | None
    tolerance: float
    summary: str


_ROWS = (
    Metric("headline", "score", "higher", "share of the way from random to oracle", None, None, 0.02,
           "found, rescaled so that a random dictionary of the task's width is 0 and the oracle detector 1"),
    Metric("found", "found", "higher", "mean pointing and telling", 0.0, 1.0, 0.02,
           "who points at a feature and tells when it is there: each latent speaks for one feature, and chance is 0"),
    Metric("rare", "rare", "higher", "share of the way from random to oracle", None, None, 0.05,
           "the headline over the least frequent quarter of the features"),
    Metric("matched_dec", "matched dec", "higher", "mean |cosine|", 0.0, 1.0, 0.02,
           "decoder rows matched one-to-one to true features; a feature without a live partner counts 0"),
    Metric("matched_enc", "matched enc", "higher", "mean |cosine|", 0.0, 1.0, 0.02, "the same for encoder rows"),
    Metric("mip_dec", "MIP dec", "higher", "mean |cosine|", 0.0, 1.0, 0.02,
           "the paper's M_IP: best decoder row for each feature, not one-to-one"),
    Metric("mip_enc", "MIP enc", "higher", "mean |cosine|", 0.0, 1.0, 0.02, "the same for encoder rows"),
    Metric("recovery_dec", "recovery dec", "higher", "share of features", 0.0, 1.0, 0.05,
           "the paper's M_GT: features whose best decoder row exceeds 0.95"),
    Metric("recovery_enc", "recovery enc", "higher", "share of features", 0.0, 1.0, 0.05, "the same for encoder rows"),
    Metric("f1", "F1", "higher", "mean F1", 0.0, 1.0, 0.03, "features' latents as their detectors on held-out samples, by code > 0"),
    Metric("precision", "precision", "higher", "mean precision", 0.0, 1.0, 0.03, "firings of a feature's latent that show the feature"),
    Metric("recall", "recall", "higher", "mean recall", 0.0, 1.0, 0.03, "samples with a feature on which its latent fires"),
    Metric("fvu", "FVU", "lower", "share of variance", 0.0, None, 0.02, "fraction of the target's variance left unexplained"),
    Metric("l0", "L0", "none", "latents per sample", 0.0, None, 0.5, "mean number of active latents"),
    Metric("dead", "dead", "lower", "share of latents", 0.0, 1.0, 0.05,
           "latents that fire neither on held-out samples nor on any isolated feature"),
    Metric("polysemanticity", "polysemantic", "lower", "share of live latents", 0.0, 1.0, 0.05,
           "live latents that fire for two or more isolated features"),
    Metric("absorption", "absorption", "lower", "difference of recalls", -1.0, 1.0, 0.05,  # below 0 in records of version 1
           "recall that a parent loses to children whose latents write it, net of what a cap on L0 does"),
    Metric("recall_alone", "recall alone", "higher", "recall", 0.0, 1.0, 0.05, "recall of a parent's latent while no child is active"),
    Metric("recall_with_child", "recall with child", "higher", "recall", 0.0, 1.0, 0.05,
           "recall of a parent's latent while a child is active"),
    Metric("mcc", "MCC", "higher", "mean |cosine|", 0.0, 1.0, 0.02,
           "SAELens' mean correlation coefficient of decoder rows: matched, dead latents included"),
    Metric("escape", "escape", "higher", "share of trapped features", 0.0, 1.0, 0.05,
           "features that the start of training had trapped and that have a latent of their own at its end"),
)  # fmt: skip
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ROWS}


def range_faults(scores: Mapping[str, float | None]) -> Iterator[str]:
    """Say which numbers cannot be scores. One that `METRICS` lacks may be any number up to ±`HIGHEST`.

    Examples
    --------
    >>> [*range_faults({"f1": 1.5, "fvu": 1.5})]
    ['f1=1.5: expected 0 to 1']
    """
    for name, value in scores.items():
        low, high = _RANGES.get(name, (-HIGHEST, HIGHEST))
        if value is not None and not low - ROUNDING <= value <= high + ROUNDING:
            yield f"{name}={value:g}: expected {low:g} to {high:g}"


_RANGES = {
    metric.name: (LOWEST if metric.low is None else metric.low, HIGHEST if metric.high is None else metric.high)
    for metric in METRICS.values()
}
