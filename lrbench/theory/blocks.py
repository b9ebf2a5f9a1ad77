"""The two blocks of the biconvex problem: gradients of L̃, and the exact minimiser in W_D (`encoder` has W_E's)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lrbench.dictionary import Dictionary
from lrbench.theory.loss import Isolated, codes, isolated_for, targets_without_bias
from lrbench.world import World

RANK = 1e-10  # singular values below this share of the largest count as zero


@dataclass(frozen=True)
class Gradients:
    """∂L̃/∂W_E and ∂L̃/∂W_D within Ω_P, rows as in the dictionary."""

    W_enc: Float[Tensor, "latent d_in"]
    W_dec: Float[Tensor, "latent d_out"]


def gradients(dictionary: Dictionary, world: World | Isolated) -> Gradients:
    """Return the gradients of L̃ in the two blocks of 3.2, with the pattern held fixed.

    With e_d = w_r^d − W_D z_d: ∂L̃/∂W_D^i = −2 Σ_d M_d z_di e_d and ∂L̃/∂w_E^i = −2 Σ_{d∈F_i} M_d ⟨e_d, W_D^i⟩ w_p^d.

    Parameters
    ----------
    dictionary
        Any; its pair says which sites it maps.
    world
        A world, or its `Isolated` features.

    Raises
    ------
    LrbenchError
        When the dimensions do not fit or the dictionary is not finite.

    Examples
    --------
    >>> from lrbench.theory import gradients, worked_example
    >>> slope = gradients(*worked_example())
    >>> float(slope.W_enc.abs().max()), float(slope.W_dec.abs().max())
    (0.0, 0.0)
    """
    seen = isolated_for(dictionary, world)
    z, w_dec = codes(dictionary, seen), dictionary.W_dec.to("cpu", torch.float64)
    pull = -2.0 * seen.weights.unsqueeze(1) * (targets_without_bias(dictionary, seen) - z @ w_dec)
    return Gradients(W_enc=((pull @ w_dec.T) * (z > 0)).T @ seen.inputs, W_dec=z.T @ pull)


@dataclass(frozen=True)
class DecoderMinimum:
    """min over W_D of L̃ with the codes fixed.

    Parameters
    ----------
    W_dec
        The shortest minimiser.
    loss
        L̃ there.
    gradient
        The largest |entry| of the gradient in W_D there: how far the solver is from the exact minimum.
    """

    W_dec: Float[Tensor, "latent d_out"]
    loss: float
    gradient: float


def minimise_decoder(
    latents: Float[Tensor, "feature latent"],
    targets: Float[Tensor, "feature d_out"],
    weights: Float[Tensor, " feature"],
) -> DecoderMinimum:
    """Return min over W_D of Σ_d M_d ‖t_d − z_d W_D‖² for codes z (3.2): weighted least squares.

    On a partition the minimiser is 3.6's W_D^i = Σ_{d∈F_i} M_d z_di w_r^d / Σ_{d∈F_i} M_d z_di². Features with M_d = 0 and dead
    latents ask for nothing; the latter's rows are 0.

    Parameters
    ----------
    latents
        z, the codes of every feature alone, not negative.
    targets
        t_d, what the decoder has to give.
    weights
        M_d.

    Examples
    --------
    >>> import torch
    >>> from lrbench.theory import minimise_decoder
    >>> both = torch.ones(2, 1, dtype=torch.float64)  # one latent with score 1 for two features
    >>> found = minimise_decoder(both, torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    >>> [round(entry, 6) for entry in found.W_dec[0].tolist()], round(found.loss, 6)
    ([0.5, 0.5], 1.0)
    """
    root = weights.sqrt().unsqueeze(1)
    counted, live = (weights > 0), (latents > 0).any(0)
    w_dec = targets.new_zeros(latents.shape[1], targets.shape[1])
    matrix, wanted = (root * latents)[counted][:, live], (root * targets)[counted]
    if matrix.numel():
        tall = len(matrix) >= matrix.shape[1]
        q, r = torch.linalg.qr(matrix if tall else matrix.T)  # a small square factor holds the spectrum
        u, s, vh = torch.linalg.svd(r)
        keep = s > RANK * s[0]
        inverse = torch.where(keep, 1.0 / s, 0.0).unsqueeze(1)
        solved = vh.T @ (inverse * (u.T @ (q.T @ wanted))) if tall else q @ (u @ (inverse * (vh @ wanted)))
        w_dec[live] = solved
    left = targets - latents @ w_dec
    gradient = 2.0 * latents.T @ (weights.unsqueeze(1) * left)
    return DecoderMinimum(W_dec=w_dec, loss=float(weights @ left.pow(2).sum(1)), gradient=float(gradient.abs().max()))
