"""The law of a real world is read off labelled items; which ones, of which model and at which sites, is all that defines it (no torch)."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from lrbench.errors import LrbenchError
from lrbench.real.items import PROXY, classes, items, labels, parents, texts_hash
from lrbench.real.models import INITS, Model
from lrbench.structure import WorldSpec

REAL_VERSION = (
    1  # raise it whenever the same model and seed would give another split, other scores or another standardisation
)
HELD_OUT = 4_500  # items that training never sees
L0 = 16  # active latents per sample that methods are told
ANCHOR_SHARE = 0.5  # of the classes; the others are scored


@dataclass(frozen=True, kw_only=True)
class RealSpec(WorldSpec):
    """A world of activations: its features are classes, and their directions class means, which stand for a truth that nobody knows.

    Parameters
    ----------
    model
        Whose activations they are.
    sites
        Where they are taken, see `lrbench.real.capture`.
    init
        ``"trained"``, or ``"random"`` for a copy of the model with random weights.

    Raises
    ------
    LrbenchError
        For another ``init``.
    """

    model: Model
    sites: tuple[str, ...]
    init: str = "trained"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init not in INITS:
            raise LrbenchError(f"init={self.init!r}: expected one of {', '.join(INITS)}")

    @property
    def proxy(self) -> str:
        """What stands for the truth."""
        return PROXY

    @cached_property
    def parents(self) -> list[int]:
        """The class above every class, -1 for a domain."""
        return [*parents()]

    @cached_property
    def rates(self) -> list[float]:
        """The share of the items that every class has."""
        counts = Counter(label for own in labels() for label in own)
        return [counts[place] / len(items()) for place in range(self.n_features)]

    def hash(self, seed: int | None = None) -> str:
        """Return the content hash of the question, and of its split when a seed is given."""
        model = [self.model.name, self.model.dim, self.model.skip]
        content = [REAL_VERSION, seed, model, list(self.sites), self.init, texts_hash(), HELD_OUT]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def real_spec(model: Model, sites: tuple[str, ...], init: str = "trained") -> RealSpec:
    """Return the law of a model's activations at some sites.

    An autoencoder reads the first site, a transcoder maps it to the second, a crosscoder reads all of them.

    Examples
    --------
    >>> from lrbench.real.models import MINILM
    >>> spec = real_spec(MINILM, ("mlp5.in", "mlp5.out", "layer6"))
    >>> spec.dims, spec.mean_l0, spec.proxy
    ((384, 384, 384), 3.0, 'WordNet 3.1 class means')
    """
    n = len(classes())
    return RealSpec(
        n_features=n, dims=(model.dim,) * len(sites), rate=3 / n, interference=1.0, magnitude_min=1.0,
        magnitude_scale=0.0, model=model, sites=sites, init=init,
    )  # fmt: skip
