"""The contract of a method: ``fit(view, seed) -> Dictionary``, and hyper-parameters that are plain fields."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import wraps
from typing import Any, ClassVar

from typing_extensions import Self

from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError
from lrbench.seeds import fork_global_generators
from lrbench.view import TrainView


@dataclass(frozen=True)
class Method(ABC):
    """A way to find a dictionary. A file in ``methods/`` assigns one to ``METHOD``; the file's name is its name.

    Subclasses are frozen dataclasses; their fields are the hyper-parameters, which `lrbench.load_method` can override and
    every record holds.

    Parameters
    ----------
    pair
        The pairing that the method is evaluated on: ``"autoencoder"``, ``"transcoder"`` or ``"crosscoder"``.

    Attributes
    ----------
    kind
        ``"sdl"`` for what trains a sparse dictionary by gradient descent on the whole budget (its records say how many samples
        per second that were), ``"baseline"`` for any other method, ``"reference"`` for one that is not ranked. Set as a
        literal in the class: the catalogue reads it without importing the file.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> from lrbench import Dictionary, Method, activation
    >>> @dataclass(frozen=True)
    ... class FirstSamples(Method):
    ...     skip: int = 0  # a hyper-parameter
    ...
    ...     def fit(self, view, seed=0):
    ...         rows = view.head(self.skip + view.budget.n_latents)[0][self.skip :]
    ...         return Dictionary(rows, None, rows, None, activation.TopK(view.budget.k()))
    >>> METHOD = FirstSamples(skip=4)
    >>> METHOD.kind, METHOD.pair, METHOD.hyperparameters()
    ('baseline', 'autoencoder', {'skip': 4})
    """

    pair: str = field(default="autoencoder", kw_only=True)
    kind: ClassVar[str] = "baseline"

    def __init_subclass__(cls) -> None:
        """Let every ``fit`` draw from global generators that are seeded for it and put back afterwards, and spend from one account."""
        super().__init_subclass__()
        if "fit" in vars(cls):
            cls.fit = _as_a_fit(cls.fit)  # type: ignore[method-assign]

    @abstractmethod
    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        """Return a dictionary of at most ``view.budget.n_latents`` latents, trained on what the view shows.

        Parameters
        ----------
        view
            The data, the anchors and the budget.
        seed
            Seed of everything that is random in the method; the same seed gives the same dictionary. The global generators
            of `random`, NumPy and torch are seeded with it while a ``fit`` runs, see `lrbench.seeds.generator` for one of
            the method's own.
        """

    def hyperparameters(self) -> dict[str, Any]:
        """Return every hyper-parameter by name, as plain values."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "pair"}

    def with_hyperparameters(self, **changes: Any) -> Self:
        """Return a copy with other hyper-parameters, or raise `LrbenchError` for a name that it lacks."""
        known = self.hyperparameters()
        for name in changes:
            if name not in known:
                raise LrbenchError(
                    f"unknown hyper-parameter {name!r}: expected {', '.join(known) or 'none, it takes no'}"
                )
        return replace(self, **changes)


def _as_a_fit(fit: Callable[..., Dictionary]) -> Callable[..., Dictionary]:
    @wraps(fit)
    def accounted(self: Method, view: TrainView, seed: int = 0) -> Dictionary:
        with fork_global_generators(seed, "fit"), view.meter.account(view.budget.n_samples):
            return fit(self, view, seed=seed)

    return accounted
