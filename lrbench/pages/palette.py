"""Colours that can be told apart, as many as are asked for."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

LIGHTNESS = 0.42, 0.74  # in OKLab: dark enough on white, and not black
LEAST_CHROMA = 0.09  # greys are for the references
STEPS = 16  # per channel, of the colours to choose from


@lru_cache(maxsize=1)
def palette(count: int) -> list[str]:
    """Return colours as far apart as can be: each is the one farthest from those before it, in OKLab (Ottosson 2020).

    A longer palette begins with the shorter one.

    Examples
    --------
    >>> palette(3)[:2] == palette(2)
    True
    """
    import numpy as np

    levels = np.linspace(0.0, 1.0, STEPS)
    rgb = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _oklab(rgb)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    usable = (lab[:, 0] > LIGHTNESS[0]) & (lab[:, 0] < LIGHTNESS[1]) & (chroma > LEAST_CHROMA)
    rgb, lab = rgb[usable], lab[usable]
    distances = np.linalg.norm(lab - _oklab(np.array([[0.12, 0.47, 0.71]])), axis=1)  # the first is a calm blue
    chosen = [int(distances.argmin())]
    distances = np.full(len(lab), np.inf)
    while len(chosen) < count:
        distances = np.minimum(distances, np.linalg.norm(lab - lab[chosen[-1]], axis=1).round(9))
        chosen.append(int(distances.argmax()))
    return ["#" + "".join(f"{round(255 * channel):02x}" for channel in rgb[place]) for place in chosen[:count]]


def _oklab(rgb: Any) -> Any:
    import numpy as np

    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    cones = np.cbrt(linear @ np.array(TO_CONES).T)
    return cones @ np.array(TO_LAB).T


TO_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
TO_LAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)
