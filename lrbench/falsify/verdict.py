"""From numbers over seeds to a verdict, and from verdicts along an axis to the place where a prediction stops holding."""

from __future__ import annotations

from collections.abc import Sequence

from lrbench.pages.interval import Interval

HOLDS, FAILS, OPEN = "holds", "fails", "cannot tell"


def judge(seen: Interval, above: bool, threshold: float) -> str:
    """Return the verdict on a prediction that a number is above a threshold, or at most the threshold.

    It holds where the whole interval agrees, fails where the whole interval disagrees; else nobody can tell, as with one seed. The
    threshold itself does not count as above it.
    """
    low, high = seen.mean - seen.half, seen.mean + seen.half
    if low > threshold:
        return HOLDS if above else FAILS
    if high <= threshold:
        return FAILS if above else HOLDS
    return OPEN


def stops(values: Sequence[float], verdicts: Sequence[str]) -> str:
    """Return how far along an axis a prediction holds, in words.

    Parameters
    ----------
    values
        Places on the axis, ascending.
    verdicts
        The verdict at each.
    """
    held = [verdict == HOLDS for verdict in verdicts]
    if all(held):
        return f"all tested, to {values[-1]:.3g}"
    if not any(held):
        return f"nowhere ({_summary(verdicts)})"
    if not held[0] or any(held[held.index(False) :]):
        return "only at " + ", ".join(f"{value:.3g}" for value, holds in zip(values, held, strict=True) if holds)
    last = held.index(False)
    return f"{values[last - 1]:.3g}; at {values[last]:.3g}: {verdicts[last]}"


def _summary(verdicts: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(verdicts))
