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
from lrbench.engine.mode import kernels, kernels_take
from lrbench.engine.rows import RowGradient, deliver_gradient
from lrbench.engine.selection import Selection


def preactivations(
    x: Float[Tensor, "batch d_in"], w: Float[Tensor, "latent d_in"], b: Float[Tensor, " latent"], chosen: Selection
) -> Float[Tensor, " selected"]:
    """Return z_j = ⟨w[indices_j], x⟩ + b[indices_j] of the selected latents."""
    z: Tensor = _Preactivations.apply(w, b, x, chosen)  # type: ignore[no-untyped-call]
    return z


def decode(
    chosen: Selection, values: Float[Tensor, " selected"], w: Float[Tensor, "latent d_out"]
) -> Float[Tensor, "batch d_out"]:
    """Return x_q W, reading the selected rows only."""
    x: Tensor = _Decode.apply(values, w, chosen)  # type: ignore[no-untyped-call]
    return x


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
    out = torch.empty_like(chosen.indices, dtype=w.dtype)
    kernels.run_in_threads(kernels.dots, chosen.n_samples, chosen.indices, chosen.offsets, w, vectors.contiguous(), out)
    return out


class _Preactivations(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, w: Tensor, b: Tensor, x: Tensor, chosen: Selection) -> Tensor:
        ctx.w, ctx.b, ctx.x, ctx.chosen = w, b, x, chosen
        return dots(chosen, w, x) + b.index_select(0, chosen.indices)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        chosen = ctx.chosen
        for_b = torch.zeros_like(ctx.b).index_add_(0, chosen.indices, grads[0])
        return deliver_gradient(ctx.w, RowGradient(chosen.indices, grads[0], chosen.samples, ctx.x)), for_b, None, None


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, w: Tensor, chosen: Selection) -> Tensor:
        ctx.values, ctx.w, ctx.chosen = values.detach(), w, chosen
        if not kernels_take(w):
            return reference.decode(chosen, values, w)
        out = w.new_zeros(chosen.n_samples, w.shape[1])
        kernels.run_in_threads(kernels.decode, chosen.n_samples, chosen.indices, values, chosen.offsets, w, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        vectors, chosen = grads[0].contiguous(), ctx.chosen
        for_values = dots(chosen, ctx.w, vectors)
        if not ctx.needs_input_grad[1]:
            return for_values, None, None
        return (
            for_values,
            deliver_gradient(ctx.w, RowGradient(chosen.indices, ctx.values, chosen.samples, vectors)),
            None,
        )


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
