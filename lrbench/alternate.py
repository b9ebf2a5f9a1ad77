"""The two blocks of the SDL problem on data, each a least-squares problem while the other and the activation pattern are held.

min Σ_s ‖t_s − Σ_{i∈P_s} ⟨w_E^i, x_s⟩ w_D^i‖² is convex in W_D, and in W_E within the pattern P (the paper's theorem 3.2). Both
are solved by conjugate gradients on the selected latents only, so no matrix of (sample, latent) or (latent, latent) is ever formed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lrbench.engine import ops
from lrbench.engine.encoder import Encoder
from lrbench.engine.latents import Active
from lrbench.engine.rows import RowGradient
from lrbench.engine.selection import Selection

CHUNK = 4096  # samples whose pre-activations are held at a time
SMALL = 1e-10  # share of the first residual's energy at which a solve has converged


@torch.no_grad()
def topk_codes(
    w_enc: Float[Tensor, "latent d_in"], b_enc: Float[Tensor, " latent"], x: Float[Tensor, "sample d_in"], k: int
) -> Active:
    """Return the k largest latents of every sample as far as they are positive: the codes, and the pattern P."""
    parts = [Encoder(w_enc, b_enc).top(part, k) for part in torch.split(x, CHUNK)]
    indices, values = torch.cat([p.chosen.indices for p in parts]), torch.cat([p.values for p in parts])
    counts = torch.cat([p.chosen.offsets.diff() for p in parts])
    ends = F.pad(counts.cumsum(0, dtype=parts[0].chosen.offsets.dtype), (1, 0))
    keep = values > 0
    chosen, places = Selection(indices, ends, w_enc.shape[0]).where(keep)
    return Active(chosen, values[places])


def reconstruction_error(
    codes: Active, w_dec: Float[Tensor, "latent d_out"], target: Float[Tensor, "sample d_out"]
) -> float:
    """Return the mean over samples of ‖t_s − t̂_s‖²."""
    return float((target - ops.decode(codes.chosen, codes.values, w_dec)).pow(2).sum(1).mean())


@torch.no_grad()
def refit_decoder(
    codes: Active, w_dec: Float[Tensor, "latent d_out"], target: Float[Tensor, "sample d_out"], iterations: int
) -> Float[Tensor, "latent d_out"]:
    """Return W_D that fits the targets best with the codes held; rows of latents that never fire stay as they are."""
    chosen, values = codes.chosen, codes.values

    def gather(vectors: Tensor) -> Tensor:
        return RowGradient(chosen.indices, values, chosen.samples, vectors).dense(chosen.n_latents)

    sizes = values.new_zeros(chosen.n_latents).index_add_(0, chosen.indices, values.pow(2))
    start = gather(target - ops.decode(chosen, values, w_dec))
    return w_dec + _solve(lambda w: gather(ops.decode(chosen, values, w)), start, sizes, iterations)


@torch.no_grad()
def refit_encoder(
    codes: Active,
    w_enc: Float[Tensor, "latent d_in"],
    w_dec: Float[Tensor, "latent d_out"],
    x: Float[Tensor, "sample d_in"],
    target: Float[Tensor, "sample d_out"],
    iterations: int,
) -> Float[Tensor, "latent d_in"]:
    """Return W_E that fits the targets best with W_D and the pattern held; every iteration is a pass over the samples.

    That the result still has the pattern is not asked for: with many samples the region around W_E is tiny.
    """
    chosen, zero = codes.chosen, w_enc.new_zeros(w_enc.shape[0])

    def predict(w: Tensor) -> Tensor:
        return ops.decode(chosen, ops.preactivations(x, w, zero, chosen), w_dec)

    def gather(vectors: Tensor) -> Tensor:
        return RowGradient(chosen.indices, ops.dots(chosen, w_dec, vectors), chosen.samples, x).dense(chosen.n_latents)

    energy = zero.index_add(0, chosen.indices, x.pow(2).sum(1)[chosen.samples])
    start = gather(target - ops.decode(chosen, codes.values, w_dec))
    return w_enc + _solve(lambda w: gather(predict(w)), start, w_dec.pow(2).sum(1) * energy / x.shape[1], iterations)


def _solve(apply: Callable[[Tensor], Tensor], residual: Tensor, sizes: Tensor, iterations: int) -> Tensor:
    """Return A⁻¹ residual by conjugate gradients from 0, preconditioned by a size per row; rows of size 0 stay 0."""
    inverse = torch.where(sizes > 0, 1.0 / sizes, 0.0).unsqueeze(1)
    solution, direction = torch.zeros_like(residual), inverse * residual
    energy = first = float((residual * direction).sum())
    for _ in range(iterations):
        if not energy > SMALL * first:
            break
        image = apply(direction)
        step = energy / float((direction * image).sum())
        solution, residual = solution + step * direction, residual - step * image
        scaled = inverse * residual
        previous, energy = energy, float((residual * scaled).sum())
        direction = scaled + energy / previous * direction
    return solution
