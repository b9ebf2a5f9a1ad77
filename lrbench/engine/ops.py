"""Differentiable operations on selected latents: the kernels where they run, the reference elsewhere, one gradient for both.

Values and gradients are those of the dense formulas with every other latent at 0; no gradient flows to the inputs x, which are data.
A weight whose row gradients are collected gets them as rows (`lrbench.engine.rows`).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lrbench.engine import reference
from lrbench.engine.arrays import array_of, room
from lrbench.engine.mode import kernels, kernels_take
from lrbench.engine.rows import RowGradient, deliver_gradient
from lrbench.engine.selection import Selection


def preactivations(
    x: Float[Tensor, "batch d_in"],
    w: Float[Tensor, "latent d_in"],
    b: Float[Tensor, " latent"],
    chosen: Selection,
    known: Float[Tensor, " selected"] | None = None,
) -> Float[Tensor, " selected"]:
    """Return z_j = ⟨w[indices_j], x⟩ + b[indices_j] of the selected latents, which may be ``known`` from the product that selected them."""
    if known is None:
        with torch.no_grad():
            known = dots(chosen, w, x) + b.index_select(0, chosen.indices)
    z: Tensor = known
    if torch.is_grad_enabled():
        z = _Preactivations.apply(w, b, x, chosen, z)  # type: ignore[no-untyped-call]
    return z


def decode(
    chosen: Selection,
    values: Float[Tensor, " selected"],
    w: Float[Tensor, "latent d_out"],
    b: Float[Tensor, " d_out"] | Float[Tensor, "batch d_out"] | None = None,
) -> Float[Tensor, "batch d_out"]:
    """Return x_q W + b, reading the selected rows only; b is one row for all samples, or one for each, or left out."""
    b = w.new_zeros(w.shape[1]) if b is None else b
    if not torch.is_grad_enabled():
        return _decoded(chosen, values, w, b)
    x: Tensor = _Decode.apply(values, w, b, chosen)  # type: ignore[no-untyped-call]
    return x


def _decoded(chosen: Selection, values: Tensor, w: Tensor, b: Tensor) -> Tensor:
    if not kernels_take(w):
        return reference.decode(chosen, values, w) + b
    out = room(chosen.n_samples, w.shape[1], dtype=w.dtype)
    added = array_of(b).reshape(-1, w.shape[1])
    kernels.run_in_threads(kernels.decode, chosen.n_samples, chosen.indices, values, chosen.offsets, w, added, out)
    return out


def error(
    target: Float[Tensor, "batch dim"], reconstruction: Float[Tensor, "batch dim"], scale: float
) -> Float[Tensor, "batch dim"]:
    """Return scale · (reconstruction - target)."""
    if not kernels_take(target):
        return (reconstruction - target).mul_(scale)
    out = room(*target.shape, dtype=target.dtype)
    number = array_of(target).dtype.type(scale)
    kernels.run_in_threads(kernels.error, target.shape[0], number, target, reconstruction, out)
    return out


def rows(w: Float[Tensor, "latent dim"], indices: Int[Tensor, " row"]) -> Float[Tensor, "row dim"]:
    """Return w[indices] for distinct ``indices``, with a gradient that touches these rows only."""
    taken: Tensor = _Rows.apply(w, indices)  # type: ignore[no-untyped-call]
    return taken


def dots(
    chosen: Selection, w: Float[Tensor, "latent dim"], vectors: Float[Tensor, "batch dim"]
) -> Float[Tensor, " selected"]:
    """Return `reference.dots`, by the kernel where it runs."""
    if not kernels_take(w):
        return reference.dots(chosen, w, vectors)
    out = room(chosen.indices.shape[0], dtype=w.dtype)
    kernels.run_in_threads(kernels.dots, chosen.n_samples, chosen.indices, chosen.offsets, w, vectors.contiguous(), out)
    return out


class _Preactivations(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor, b: Tensor, x: Tensor, chosen: Selection, z: Tensor) -> Tensor:
        ctx.w, ctx.b, ctx.x, ctx.chosen = w, b, x, chosen
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, None, None, None]:
        chosen = ctx.chosen
        for_b = torch.zeros_like(ctx.b).index_add_(0, chosen.indices, grads[0])
        for_w = deliver_gradient(ctx.w, RowGradient(chosen.indices, grads[0], chosen.samples, ctx.x))
        return for_w, for_b, None, None, None


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, w: Tensor, b: Tensor, chosen: Selection) -> Tensor:
        ctx.values, ctx.w, ctx.chosen, ctx.for_all = values.detach(), w, chosen, b.ndim == 1
        return _decoded(chosen, values, w, b)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, Tensor, None]:
        vectors, chosen = grads[0].contiguous(), ctx.chosen
        for_values, for_w = dots(chosen, ctx.w, vectors), None
        if ctx.needs_input_grad[1]:
            for_w = deliver_gradient(ctx.w, RowGradient(chosen.indices, ctx.values, chosen.samples, vectors))
        return for_values, for_w, vectors.sum(0) if ctx.for_all else vectors, None


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor, indices: Tensor) -> Tensor:
        ctx.w, ctx.indices = w, indices
        return w[indices]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None]:
        places = torch.arange(ctx.indices.shape[0], dtype=ctx.indices.dtype, device=ctx.indices.device)
        ones = grads[0].new_ones(places.shape)
        return deliver_gradient(ctx.w, RowGradient(ctx.indices, ones, places, grads[0].contiguous())), None
