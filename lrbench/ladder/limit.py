"""Up to which density sparse non-negative codes are recovered when the dictionary is known."""

from __future__ import annotations

import math
from statistics import NormalDist

NORMAL = NormalDist()
LARGEST_Z, STEPS = 8.0, 200


def density_limit(undersampling: float) -> float:
    """Return ρ₊(δ): the largest k/d at which ℓ1 minimisation finds a non-negative code with k entries from d = δ n random measurements.

    ρ₊(δ) = max over z of (1 − g/δ) / (1 + z² − g), with g = (1 + z²) Φ(−z) − z φ(z); in the limit of large n.

    Parameters
    ----------
    undersampling
        δ in (0, 1].

    References
    ----------
    Donoho, Maleki, Montanari: Message-passing algorithms for compressed sensing (arXiv 0907.3574).

    Examples
    --------
    >>> round(density_limit(0.5), 3)
    0.558
    """
    if undersampling >= 1.0:
        return 1.0  # reached at z = 0, where the fraction is 0/0

    def at(z: float) -> float:
        g = (1.0 + z * z) * NORMAL.cdf(-z) - z * NORMAL.pdf(z)
        return (1.0 - g / undersampling) / (1.0 + z * z - g)

    low, high = 0.0, LARGEST_Z
    for _ in range(STEPS):  # one maximum: a golden-section search
        left, right = (high - (high - low) * (math.sqrt(5) - 1) / 2, low + (high - low) * (math.sqrt(5) - 1) / 2)
        low, high = (low, right) if at(left) > at(right) else (left, high)
    return at((low + high) / 2)
