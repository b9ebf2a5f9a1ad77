"""The contract of a method: ``fit(view, seed) -> Dictionary``, and hyper-parameters that are plain fields."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from typing_extensions import Self

from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError
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
    """

    pair: str = field(default="autoencoder", kw_only=True)
    kind: ClassVar[str] = "baseline"

    @abstractmethod
    def fit(self, view: TrainView, seed: int = 0) -> Dictionary:
        """Return a dictionary of at most ``view.budget.n_latents`` latents, trained on what the view shows.

        Parameters
        ----------
        view
            The data, the anchors and the budget.
        seed
            Seed of everything that is random in the method; the same seed gives the same dictionary.
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
