"""Interference: how close two feature directions may come (the paper's table 5).

M is an upper bound. With n = 998 random directions in d = 768 dimensions the largest inner product is about 0.18 before anything is
spread, so M = 0.2 and M = 0.5 are one world to the bit there, and `standard` runs the first only; M = 0.1 is its default world.
"""

from __future__ import annotations

from lrbench.task import Scale, TaskSpec, family


@family(levels={"0.05": 0.05, "0.1": 0.1, "0.2": 0.2, "0.5": 0.5}, smoke=("0.2",), quick=(), standard=("0.05", "0.2"))
def interference(largest: float, scale: Scale) -> TaskSpec:
    """The largest inner product M between two directions."""
    return scale.task(interference=largest)
