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
from lrbench.engine.ops import error, rows
from lrbench.engine.rows import RowGradient, add_gradient
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
    pressure
        By what a term that punishes activity has to multiply its weight: 1, or what the L0 controller steers.
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
    pressure: Float[Tensor, ""] | float = 1.0


@dataclass
class Gradient:
    """The gradient of the loss in what a step has computed; parameters get theirs by `lrbench.engine.rows.add_gradient`.

    Parameters
    ----------
    reconstruction
        In x̂_r.
    latents
        In the values of the latents, without what flows through x̂_r.
    pre
        In the values of the pre-activations, without what flows through the latents.
    """

    reconstruction: Float[Tensor, "batch d_out"]
    latents: Tensor | float | None = None
    pre: Tensor | float | None = None


def plus(first: Tensor | float | None, second: Tensor) -> Tensor:
    """Return the sum, where there is a first."""
    return second if first is None else first + second


class Term(ABC):
    """One addend of the loss: a frozen dataclass whose fields are its hyper-parameters.

    Autograd finds its gradient. A term may also have ``backward(step, gradient)``, which adds it to a `Gradient` and to the parameters in
    closed form: where the rule and all terms have one, training does without autograd, in about half of the time at small widths.

    Attributes
    ----------
    name
        Prefix of the term's hyper-parameters.
    needs
        The rule that the term works with, any by default; `lrbench.sdl.SDL` checks it when a method is declared.
    punishes_activity
        Whether it presses latents to be inactive. Such a term multiplies its weight by ``step.pressure``, which is steered so that as
        many are active as are aimed at (`lrbench.engine.steering`); its weight is where that begins.

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
    punishes_activity: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, step: Step) -> Float[Tensor, ""]:
        """Return the addend."""


def squared_error(
    target: Float[Tensor, "batch d_out"], reconstruction: Float[Tensor, "batch d_out"]
) -> Float[Tensor, ""]:
    """Return the batch mean of ‖x_r − x̂_r‖² (the paper's SDL loss)."""
    return F.mse_loss(reconstruction, target, reduction="sum") / len(target)


def squared_error_backward(
    target: Float[Tensor, "batch d_out"], reconstruction: Float[Tensor, "batch d_out"], weight: float = 1.0
) -> Float[Tensor, "batch d_out"]:
    """Return the gradient of ``weight`` times `squared_error` in the reconstruction."""
    return error(target, reconstruction, 2 * weight / target.shape[0])


@dataclass(frozen=True)
class L1(Term):
    """weight · ‖x_q‖₁; decoder rows have unit length, so weighting by their norms changes nothing.

    Source: Bricken et al. 2023, https://transformer-circuits.pub/2023/monosemantic-features.
    """

    weight: float = 0.1
    name = "l1"
    punishes_activity = True

    def __call__(self, step: Step) -> Float[Tensor, ""]:
        """Return the batch mean."""
        return self.weight * step.pressure * step.latents.l1()

    def backward(self, step: Step, gradient: Gradient) -> None:
        """Add the gradient in the latents."""
        share = self.weight * step.pressure / step.latents.n_samples
        gradient.latents = share if gradient.latents is None else gradient.latents + share


@dataclass(frozen=True)
class L0(Term):
    """weight · number of active latents, differentiable in the thresholds.

    Source: Rajamanoharan et al. 2024b, arXiv 2407.14435.
    """

    weight: float = 0.05
    name = "l0"
    needs = JumpReLU
    punishes_activity = True

    def __call__(self, step: Step) -> Float[Tensor, ""]:
        """Return the batch mean."""
        assert isinstance(step.rule, JumpReLU)  # for the type checker: SDL has compared it with `needs`
        return self.weight * step.pressure * step.rule.count(step.pre, step.p)

    def backward(self, step: Step, gradient: Gradient) -> None:
        """Give the thresholds their gradient."""
        assert isinstance(step.rule, JumpReLU)  # as above
        step.rule.count_backward(step.pre, step.p, self.weight * step.pressure)


@dataclass(frozen=True)
class GateLoss(Term):
    """weight · ‖ReLU(gate)‖₁, plus (unweighted) the error of reconstructing from the gate with a frozen decoder.

    Source: Rajamanoharan et al. 2024a, arXiv 2404.16014.
    """

    weight: float = 0.1
    name = "gate"
    needs = Gated
    punishes_activity = True

    def __call__(self, step: Step) -> Float[Tensor, ""]:
        """Return the batch mean."""
        gate = step.pre.relu()
        through_gate = gate.decode(step.p["W_dec"].detach(), step.p["b_dec"].detach())
        return self.weight * step.pressure * gate.l1() + squared_error(step.target, through_gate)

    def backward(self, step: Step, gradient: Gradient) -> None:
        """Add the gradient in the pre-activations; the decoder is frozen here."""
        w_dec = step.p["W_dec"].detach()
        gate = step.pre.relu()
        vectors = squared_error_backward(step.target, gate.decode(w_dec, step.p["b_dec"]))
        for_gate = gate.project(w_dec, vectors) + self.weight * step.pressure / gate.n_samples
        gradient.pre = plus(gradient.pre, step.pre.where_positive(for_gate))


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
        k, few = self._size(step)
        pre = step.encoder.top_of_last_batch(few, k, among=step.dead)
        residual = (step.target - step.reconstruction)[:few].detach()
        return self.weight * squared_error(residual, pre.relu().decode(step.p["W_dec"])) * step.dead.any()

    def backward(self, step: Step, gradient: Gradient) -> None:
        """Give the rows of dead latents their gradient; the residual is a constant."""
        if not host_waits_for(step.dead) and not step.dead.any():
            return
        p, (k, few) = step.p, self._size(step)
        target, reconstruction, scale = step.target[:few], step.reconstruction[:few], 2 * self.weight / few
        pre, vectors, for_pre = step.encoder.revive(k, step.dead, p["W_dec"], target, reconstruction, scale)
        if host_waits_for(step.dead):
            vectors, for_pre = vectors * step.dead.any(), for_pre * step.dead.any()
        pre.relu().give_rows(p["W_dec"], vectors)
        pre.encode_backward(p["W_enc"], p["b_enc"], step.x[:few], for_pre)

    def _size(self, step: Step) -> tuple[int, int]:
        """Return how many dead latents of a sample are read, and of how many samples."""
        k = max(1, step.target.shape[1] // 2)
        return k, max(1, min(step.x.shape[0], self.pairs // k))


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
        for size in self._sizes(step):
            prefix = step.latents.prefix(size).decode(step.p["W_dec"], step.p["b_dec"])
            total = total + squared_error(step.target, prefix)
        return self.weight * total

    def backward(self, step: Step, gradient: Gradient) -> None:
        """Add the gradient in the latents, and give decoder rows and the decoder's bias theirs."""
        for size in self._sizes(step):
            prefix = step.latents.prefix(size)
            decoded = prefix.decode(step.p["W_dec"], step.p["b_dec"])
            vectors = squared_error_backward(step.target, decoded, self.weight)
            prefix.give_rows(step.p["W_dec"], vectors)
            for_prefix = prefix.project(step.p["W_dec"], vectors)
            gradient.latents = plus(gradient.latents, step.latents.widen(size, for_prefix))
            add_gradient(step.p["b_dec"], vectors.sum(0))

    def _sizes(self, step: Step) -> list[int]:
        return [max(1, round(share * step.dead.shape[0])) for share in self.shares]


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

    def backward(self, step: Step, gradient: Gradient) -> None:
        """Give the first k rows their gradient."""
        known = torch.arange(len(step.anchors[0]), dtype=torch.int32, device=step.x.device)
        ones = torch.ones_like(known, dtype=step.x.dtype)
        for name, anchors in zip(("W_enc", "W_dec"), step.anchors, strict=True):
            vectors = 2 * self.weight * (step.p[name][: len(known)] - anchors)
            add_gradient(step.p[name], RowGradient(known, ones, known, vectors))


def has_closed_form(rule: Rule, terms: tuple[Term, ...]) -> bool:
    """Whether the rule and every term give their gradient in closed form, and it is that of what they compute.

    One that inherits a ``backward`` and overrides what it is the gradient of does not.
    """
    return (
        _knows(rule, "backward", "select", "activate")
        and _knows(rule, "count_backward", "count")
        and all(_knows(term, "backward", "__call__") for term in terms)
    )


def _knows(part: Rule | Term, backward: str, *forward: str) -> bool:
    """Whether the class that has the last word on a function has it on its gradient too."""
    owner = next((kind for kind in type(part).__mro__ if {backward, *forward} & set(vars(kind))), object)
    return owner is object or backward in vars(owner)
