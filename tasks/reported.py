"""Reported: the worlds of the paper's tables, sizes as they are given there; the study `replicate` asks."""

from __future__ import annotations

from lrbench.task import Scale, TaskSpec, family, get_suite

DIM, RATE = 768, 0.01  # the paper's; at another scale n goes with the dimensions, and 1-S with the scale's own rate
LEVELS = {"default": (1000.0, 0.1, 0.01)}


@family(levels=LEVELS, smoke=(), quick=(), standard=())
def reported(setting: tuple[float, ...], scale: Scale) -> TaskSpec:
    """A world of the paper's tables: features n, largest inner product M, activation probability 1-S; distinct samples per feature."""
    n, largest, rate, *samples = setting
    n_features = round(n * scale.dim / DIM)
    n_distinct = round(samples[0] * n_features) if samples else None
    return scale.task(n_features, n_distinct=n_distinct, interference=largest, rate=rate * scale.rate / RATE)


@family(levels=LEVELS, smoke=(), quick=(), standard=())
def reported_small(setting: tuple[float, ...], scale: Scale) -> TaskSpec:
    """The same world at the scale of `quick`, whatever the suite, for what the paper's scale is too slow for."""
    return reported.build(setting, get_suite("quick").scale)
