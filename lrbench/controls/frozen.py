"""The control whose decoder learns nothing: the same training, its decoder rows put back to where they started after every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from lrbench.dictionary import Dictionary
from lrbench.sdl import SDL, start_parameters
from lrbench.seeds import generator
from lrbench.view import Keeper, TrainView


class PutsBack(Keeper):
    """Puts decoder rows back at the end of every step; what a training would save is the live parameters.

    Parameters
    ----------
    start
        The rows, shape (latent, d_out).
    """

    def __init__(self, start: Tensor) -> None:
        self._start = start

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Put them back."""
        state()["p"]["W_dec"].data.copy_(self._start)


def fit_frozen(method: SDL, view: TrainView, seed: int) -> Dictionary:
    """Return what a method learns on a view with decoder rows that stay where the method starts them."""
    view = view.paired(method.pair)
    start = start_parameters(view, method.rule.bind(method.aim(view.budget)), generator(seed, "init"))
    return method.fit(replace(view, keeper=PutsBack(start["W_dec"].detach().clone())), seed=seed)
