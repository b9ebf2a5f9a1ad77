"""What a variant adds to the reconstruction loss; each is a small object with a weight, called once a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lrbench.engine.latents import Latents
from lrbench.rules import JumpReLU, Parameters, Rule


@dataclass(frozen=True)
class Step:
    """What a training step has computed so far.

    Parameters
    ----------
    target, reconstruction
        x_r and x̂_r.
    z, latents
        Pre-activations and σ of them.
    p
        The parameters, by name.
    rule
        σ as it is learned.
    dead
        Latents that have not fired for a while.
    anchors
        The known features' directions on the input and on the target side.
    """

    target: Float[Tensor, "batch d_out"]
    reconstruction: Float[Tensor, "batch d_out"]
    z: Float[Tensor, "batch latent"]
    latents: Latents
    p: Parameters
    rule: Rule
    dead: Bool[Tensor, " latent"]
    anchors: tuple[Float[Tensor, "anchor d_in"], Float[Tensor, "anchor d_out"]]


class Term(Protocol):
    """One addend of the loss."""

    @property
    def name(self) -> str:
        """Prefix of the term's hyper-parameters."""

    def __call__(self, step: Step) -> Float[Tensor, ""]:
        """Return the addend."""


def squared_error(
    target: Float[Tensor, "batch d_out"], reconstruction: Float[Tensor, "batch d_out"]
) -> Float[Tensor, ""]:
    """Return the batch mean of ‖x_r − x̂_r‖² (the paper's SDL loss)."""
    return (target - reconstruction).pow(2).sum(1).mean()


@dataclass(frozen=True)
class L1:
    """weight · ‖x_q‖₁; decoder rows have unit length, so weighting by their norms changes nothing (Bricken et al. 2023)."""

    weight: float = 0.1
    name = "l1"

    def __call__(self, step: Step) -> Float[Tensor, ""]:
        """Return the batch mean."""
        return self.weight * step.latents.l1()


@dataclass(frozen=True)
class L0:
    """weight · number of active latents, differentiable in the thresholds (Rajamanoharan et al. 2024b)."""

    weight: float = 0.05
    name = "l0"

    def __call__(self, step: Step) -> Float[Tensor, ""]:
        """Return the batch mean."""
        assert isinstance(step.rule, JumpReLU), "the L0 term needs the JumpReLU rule's thresholds"
        return self.weight * step.rule.count(step.z, step.p).mean()


@dataclass(frozen=True)
class GateLoss:
    """weight · ‖ReLU(gate)‖₁, plus (unweighted) the error of reconstructing from the gate with a frozen decoder (Rajamanoharan et al. 2024a)."""

    weight: float = 0.1
    name = "gate"

    def __call__(self, step: Step) -> Float[Tensor, ""]:
        """Return the batch mean."""
        gate = step.z.relu()
        through_gate = torch.addmm(step.p["b_dec"].detach(), gate, step.p["W_dec"].detach())
        return self.weight * gate.sum(1).mean() + squared_error(step.target, through_gate)


@dataclass(frozen=True)
class AuxK:
    """weight · the error of reconstructing the residual from at most half as many dead latents as dimensions (Gao et al. 2024)."""

    weight: float = 1 / 32
    name = "auxk"

    def __call__(self, step: Step) -> Float[Tensor, ""]:
        """Return the batch mean; 0 while no latent is dead."""
        k = min(step.target.shape[1] // 2, int(step.dead.sum()))
        if k == 0:
            return step.target.new_zeros(())
        z = step.z.relu() * step.dead
        if k < int(step.dead.sum()):
            values, winners = z.topk(k, dim=1, sorted=False)
            z = torch.zeros_like(z).scatter(1, winners, values)
        residual = (step.target - step.reconstruction).detach()
        return self.weight * squared_error(residual, z @ step.p["W_dec"])


@dataclass(frozen=True)
class Prefixes:
    """weight · Σ_i L(first m_i latents): nested dictionaries, coarse features first (Bussmann et al. 2025).

    Parameters
    ----------
    weight
        λ_i, the same for every prefix.
    shares
        m_i as shares of the width; the full dictionary is the main loss.
    """

    weight: float = 1.0
    shares: tuple[float, ...] = (1 / 16, 1 / 4)
    name = "prefix"

    def __call__(self, step: Step) -> Float[Tensor, ""]:
        """Return the sum over prefixes of the batch mean."""
        total = step.target.new_zeros(())
        for share in self.shares:
            size = max(1, round(share * step.z.shape[1]))
            prefix = step.latents.prefix(size).decode(step.p["W_dec"], step.p["b_dec"])
            total = total + squared_error(step.target, prefix)
        return self.weight * total


@dataclass(frozen=True)
class Anchors:
    """weight · (‖W_enc[:k] − W̃_p‖² + ‖W_dec[:k] − W̃_r‖²) for k known features (the paper's feature anchoring).

    Parameters
    ----------
    weight
        λ_anchor.
    """

    weight: float = 0.1
    name = "anchor"

    def __call__(self, step: Step) -> Float[Tensor, ""]:
        """Return the penalty of the first k latents; it does not depend on the batch."""
        first, second = step.anchors
        known = len(first)
        distance = (step.p["W_enc"][:known] - first).pow(2).sum() + (step.p["W_dec"][:known] - second).pow(2).sum()
        return self.weight * distance
