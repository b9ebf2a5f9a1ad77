"""What a variant adds to the reconstruction loss; each is a small object with a weight, called once per step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from lrbench.engine.encoder import Encoder
from lrbench.engine.latents import Latents
from lrbench.engine.mode import host_waits_for
from lrbench.engine.ops import rows
from lrbench.rules import Gated, JumpReLU, Parameters, Rule


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a training step has computed so far.

    Parameters
    ----------
    x, target, reconstruction
        x_p, x_r and x̂_r.
    pre, latents
        The pre-activations that may become latents, and σ of them.
    p
        The parameters, by name.
    encoder, rule
        What gave the pre-activations, and σ as it is learned.
    dead
        Latents that have not fired for a while.
    anchors
        The known features' directions on the input and on the target side.
    """

    x: Float[Tensor, "batch d_in"]
    target: Float[Tensor, "batch d_out"]
    reconstruction: Float[Tensor, "batch d_out"]
    pre: Latents
    latents: Latents
    p: Parameters
    encoder: Encoder
    rule: Rule
    dead: Bool[Tensor, " latent"]
    anchors: tuple[Float[Tensor, "anchor d_in"], Float[Tensor, "anchor d_out"]]


class Term(ABC):
    """One addend of the loss: a frozen dataclass whose fields are its hyper-parameters.

    Attributes
    ----------
    name
        Prefix of the term's hyper-parameters.
    needs
        The rule that the term works with, any by default; `lrbench.sdl.SDL` checks it when a method is declared.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class SmallBias(Term):
    ...     weight: float = 0.1
    ...     name = "bias"
    ...
    ...     def __call__(self, step):
    ...         return self.weight * step.p["b_enc"].pow(2).sum()
    >>> from lrbench.sdl import SDL
    >>> SDL(terms=(SmallBias(),)).hyperparameters()["bias_weight"]
    0.1
    """

    name: ClassVar[str]
    needs: ClassVar[type[Rule]] = Rule

    @abstractmethod
    def __call__(self, step: Step) -> Float[Tensor, ""]:
        """Return the addend."""


def squared_error(
    target: Float[Tensor, "batch d_out"], reconstruction: Float[Tensor, "batch d_out"]
) -> Float[Tensor, ""]:
    """Return the batch mean of ‖x_r − x̂_r‖² (the paper's SDL loss)."""
    return F.mse_loss(reconstruction, target, reduction="sum") / len(target)


@dataclass(frozen=True)
class L1(Term):
    """weight · ‖x_q‖₁; decoder rows have unit length, so weighting by their norms changes nothing.

    Source: Bricken et al. 2023, https://transformer-circuits.pub/2023/monosemantic-features.
    """

    weight: float = 0.1
    name = "l1"

    def __call__(self, step: Step) -> Float[Tensor, ""]:
        """Return the batch mean."""
        return self.weight * step.latents.l1()


@dataclass(frozen=True)
class L0(Term):
    """weight · number of active latents, differentiable in the thresholds.

    Source: Rajamanoharan et al. 2024b, arXiv 2407.14435.
    """

    weight: float = 0.05
    name = "l0"
    needs = JumpReLU

    def __call__(self, step: Step) -> Float[Tensor, ""]:
        """Return the batch mean."""
        assert isinstance(step.rule, JumpReLU)  # for the type checker: SDL has compared it with `needs`
        return self.weight * step.rule.count(step.pre, step.p)


@dataclass(frozen=True)
class GateLoss(Term):
    """weight · ‖ReLU(gate)‖₁, plus (unweighted) the error of reconstructing from the gate with a frozen decoder.

    Source: Rajamanoharan et al. 2024a, arXiv 2404.16014.
    """

    weight: float = 0.1
    name = "gate"
    needs = Gated

    def __call__(self, step: Step) -> Float[Tensor, ""]:
        """Return the batch mean."""
        gate = step.pre.with_values(step.pre.values.relu())
        through_gate = gate.decode(step.p["W_dec"].detach(), step.p["b_dec"].detach())
        return self.weight * gate.l1() + squared_error(step.target, through_gate)


@dataclass(frozen=True)
class AuxK(Term):
    """weight · the error of reconstructing the residual from the d/2 dead latents that are nearest to firing.

    Source: Gao et al. 2024, arXiv 2406.04093.

    Parameters
    ----------
    weight
        Weight of the loss.
    pairs
        At most so many pairs of a sample and a dead latent are read in a step. In `quick` that is the whole batch; at the paper's
        scale, where it would cost twelve times what the active latents do, the loss is estimated on the first samples.
    """

    weight: float = 1 / 32
    pairs: int = 2**15
    name = "auxk"

    def __call__(self, step: Step) -> Float[Tensor, ""]:
        """Return the mean over the first samples of the batch; 0 while no latent is dead."""
        if not host_waits_for(step.dead) and not step.dead.any():
            return step.target.new_zeros(())
        k = max(1, step.target.shape[1] // 2)
        few = max(1, min(len(step.x), self.pairs // k))
        residual = (step.target - step.reconstruction)[:few].detach()
        pre = step.encoder.top_of_last_batch(few, k, among=step.dead)
        revived = pre.with_values(pre.values.relu()).decode(step.p["W_dec"], torch.zeros_like(step.p["b_dec"]))
        return self.weight * squared_error(residual, revived) * step.dead.any()


@dataclass(frozen=True)
class Prefixes(Term):
    """weight · Σ_i L(first m_i latents): nested dictionaries, coarse features first.

    Source: Bussmann et al. 2025, arXiv 2503.17547.

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
            size = max(1, round(share * step.dead.shape[0]))
            prefix = step.latents.prefix(size).decode(step.p["W_dec"], step.p["b_dec"])
            total = total + squared_error(step.target, prefix)
        return self.weight * total


@dataclass(frozen=True)
class Anchors(Term):
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
        known = torch.arange(len(first), device=first.device)
        encoder, decoder = rows(step.p["W_enc"], known), rows(step.p["W_dec"], known)
        return self.weight * (
            F.mse_loss(encoder, first, reduction="sum") + F.mse_loss(decoder, second, reduction="sum")
        )
