"""Superposition: from fewer features than dimensions to four times as many (the paper's table 4 and beyond)."""

from __future__ import annotations

from lrbench.task import Scale, TaskSpec, family

RATIOS = (0.8, 1.04, 1.17, 1.30, 1.43, 1.56, 1.69, 1.82, 2.0, 4.0)


@family(levels={f"{ratio:.2f}x": ratio for ratio in RATIOS}, smoke=("1.30x",), quick=("4.00x",))
def superposition(ratio: float, scale: Scale) -> TaskSpec:
    """More features than dimensions."""
    # four features a dimension cannot all stay within M = 0.1 at the smallest scale
    return scale.task(n_features=round(ratio * scale.dim), interference=0.1 if ratio < 4 else 0.25)
