"""Gradients of weight matrices by rows: what the backward pass leaves for the optimiser in place of a matrix.

A training step touches few rows, and each by a sum of few vectors. `collect_row_gradients` asks for the parts of that sum; a weight
that nobody asked for gets an ordinary gradient, as autograd users expect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from lrbench.engine import reference
from lrbench.engine.arrays import array_of
from lrbench.engine.mode import kernels, kernels_take


@dataclass(frozen=True)
class RowGradient:
    """A gradient whose row i is Σ_{j: indices_j = i} coefficients_j vectors[places_j]."""

    indices: Int[Tensor, " term"]
    coefficients: Float[Tensor, " term"]
    places: Int[Tensor, " term"]
    vectors: Float[Tensor, "place dim"]

    def dense(self, n_latents: int) -> Float[Tensor, "latent dim"]:
        """Return it as a matrix."""
        if not kernels_take(self.vectors):
            return reference.row_gradient(self.indices, self.coefficients, self.places, self.vectors, n_latents)
        gradient = self.vectors.new_zeros(n_latents, self.vectors.shape[1])
        starts, order = by_latent(array_of(self.indices), n_latents)
        kernels.run_in_threads(
            kernels.row_gradient, n_latents, starts, order, self.coefficients, self.places, self.vectors, gradient
        )
        return gradient


def by_latent(indices: Int[np.ndarray, " term"], n_latents: int) -> tuple[Int[np.ndarray, " latent_1"], Int[np.ndarray, " term"]]:  # fmt: skip
    """Return (starts, order): ``order[starts[i]:starts[i + 1]]`` are the places of latent i in ``indices``."""
    starts, order = np.zeros(n_latents + 1, np.int32), np.empty(len(indices), np.int32)
    kernels.sort_by_latent(0, len(indices), indices, starts, order)
    return starts, order


def collect_row_gradients(w: Tensor) -> list[RowGradient]:
    """Collect the row gradients of a weight from now on, in the list returned, instead of a matrix in ``w.grad``."""
    w.row_gradients = []  # type: ignore[attr-defined]
    return w.row_gradients  # type: ignore[attr-defined, no-any-return]


def deliver_gradient(w: Tensor, gradient: RowGradient) -> Tensor | None:
    """Put a gradient into the weight's list where it has one (then None is returned), or return it as a matrix for autograd."""
    collected: list[RowGradient] | None = getattr(w, "row_gradients", None)
    if collected is None:
        return gradient.dense(w.shape[0])
    collected.append(gradient)
    return None


def add_gradient(parameter: Tensor, gradient: Tensor | RowGradient) -> None:
    """Add to a parameter's gradient what was derived by hand, as a backward pass of autograd would: as rows where they are collected."""
    matrix = deliver_gradient(parameter, gradient) if isinstance(gradient, RowGradient) else gradient
    if matrix is not None:
        parameter.grad = matrix if parameter.grad is None else parameter.grad + matrix


class SortedRows:
    """Sums of vectors by the row that they belong to: what an optimiser needs to form a row's gradient at a time.

    Parameters
    ----------
    gradients
        The gradients of a weight, which are added.
    weight
        The weight.

    Attributes
    ----------
    starts, order
        As `by_latent` returns them, of all terms of the sums.
    """

    def __init__(self, gradients: list[RowGradient], weight: Tensor) -> None:
        self.indices = [g.indices for g in gradients]
        self._known_places: tuple[list[int], Any] | None = (
            None  # those of the weight before, for the sizes of its vectors
        )
        self.starts, self.order = by_latent(
            _joined([array_of(index) for index in self.indices], np.int32), weight.shape[0]
        )

    def fit(self, gradients: list[RowGradient]) -> bool:
        """Whether the terms of other gradients belong to the same rows, and to samples in the same order."""
        return len(gradients) == len(self.indices) and all(
            g.indices is index for g, index in zip(gradients, self.indices, strict=True)
        )

    def sums(self, gradients: list[RowGradient], weight: Tensor) -> tuple[Any, ...]:
        """Return the coefficients of the terms, the places of their vectors, the first gradient's vectors, and those of the others."""
        nothing = array_of(weight)[:0]
        coefficients = _joined([array_of(g.coefficients) for g in gradients], nothing.dtype)
        vectors = [array_of(g.vectors) for g in gradients]
        first, *others = vectors or [nothing]
        return (
            coefficients,
            self._places([len(own) for own in vectors], gradients),
            first,
            _joined_rows(others, nothing),
        )

    def _places(self, sizes: list[int], gradients: list[RowGradient]) -> Any:
        if self._known_places is None or self._known_places[0] != sizes:
            starts = [sum(sizes[:i]) for i in range(len(sizes))]
            places = [array_of(g.places) + np.int32(start) for g, start in zip(gradients, starts, strict=True)]
            self._known_places = sizes, _joined(places, np.int32)
        return self._known_places[1]


def _joined(arrays: list[Any], kind: Any) -> Any:
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate(arrays) if arrays else np.empty(0, kind)


def _joined_rows(arrays: list[Any], nothing: Any) -> Any:
    return np.concatenate(arrays) if len(arrays) > 1 else next(iter(arrays), nothing)
