"""σ while it is learned: which latents stay during training, and the activation that remains when training is over.

A rule works in two steps. `select` asks the encoder for the pre-activations that may matter; `activate` makes latents of them,
number by number, so that it need not know whether it sees all of them or only the selected ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Self

from lrbench import activation
from lrbench.activation import Activation, check_k, check_mean_k
from lrbench.engine.encoder import Encoder
from lrbench.engine.latents import Latents
from lrbench.engine.rows import add_gradient
from lrbench.errors import LrbenchError
from lrbench.view import Budget

Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class Rule:
    """ReLU, and the base of the others: nothing to learn, nothing to bind.

    Attributes
    ----------
    holds_l0
        Whether the rule itself lets as many latents be active as are aimed at. Where it does not, a term that punishes activity has
        to, and is steered to it (`lrbench.engine.steering`).

    Examples
    --------
    A rule of one's own changes what differs. This one lets a latent be active from 0.1 on:

    >>> class Shifted(Rule):
    ...     def activate(self, pre, p):
    ...         return pre.with_values(pre.values * (pre.values > 0.1))
    ...
    ...     def freeze(self, p, z):
    ...         return p["W_enc"], p["b_enc"], activation.JumpReLU(0.1)
    >>> Shifted().freeze({"W_enc": torch.eye(2), "b_enc": torch.zeros(2)}, torch.eye(2))[2]
    JumpReLU(threshold=0.10000000149011612)
    """

    holds_l0: ClassVar[bool] = False

    def bind(self, budget: Budget) -> Self:
        """Return the rule with what it takes from the budget filled in; the budget's L0 is what the method aims at."""
        return self

    def start(self, n_latents: int) -> Parameters:
        """Return the learned parameters that the rule adds to the weights."""
        return {}

    def start_from(self, b_enc: Float[Tensor, " given"]) -> Parameters:
        """Return the rule's own parameters of latents whose encoder is given, where they differ from `start`.

        Parameters
        ----------
        b_enc
            Encoder biases of the given latents. With what is returned these compute σ of the dictionary that they come from.
        """
        return {}

    def floor(self, p: Parameters) -> Tensor | float:
        """Return the pre-activation, one for all or one per latent, up to which a latent is 0 and has no gradient."""
        return 0.0

    def select(self, encoder: Encoder, x: Float[Tensor, "batch d_in"], p: Parameters) -> Latents:
        """Return the pre-activations of a training batch that may become latents."""
        return encoder.above(x, self.floor(p))

    def activate(self, pre: Latents, p: Parameters) -> Latents:
        """Return the latents of a training batch from what `select` returned."""
        return pre.relu()

    def backward(self, pre: Latents, p: Parameters, gradient: Tensor) -> Tensor:
        """Return what flows back through `activate`, in closed form; a rule that overrides `activate` alone goes through autograd.

        Parameters
        ----------
        pre, p
            What `activate` was given; the rule's own parameters get their gradient here, see `lrbench.engine.rows.add_gradient`.
        gradient
            The gradient of the latents' values. That of the pre-activations' values is returned, in the same shape.
        """
        return pre.where_positive(gradient)

    def freeze(self, p: Parameters, z: Float[Tensor, "sample latent"]) -> tuple[Tensor, Tensor, Activation]:
        """Return encoder rows, encoder bias and σ of the finished dictionary.

        Parameters
        ----------
        p
            The trained parameters.
        z
            Pre-activations of training samples, for whatever has to be calibrated.
        """
        return p["W_enc"], p["b_enc"], activation.ReLU()


@dataclass(frozen=True)
class TopK(Rule):
    """The k largest of a sample (Makhzani & Frey 2014, arXiv 1312.5663; Gao et al. 2024, arXiv 2406.04093).

    Parameters
    ----------
    k
        Latents a sample; None takes what is aimed at, rounded, when training begins.

    Raises
    ------
    LrbenchError
        For a k below 1, and when it is used before it knows its k.

    Examples
    --------
    >>> from lrbench.view import Budget
    >>> TopK().bind(Budget(n_latents=64, n_samples=9600, batch_size=64, l0=3.7))
    TopK(k=4)
    """

    k: int | None = None
    holds_l0: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.k is not None:
            check_k(self.k)

    def bind(self, budget: Budget) -> Self:
        """Fill in k."""
        return self if self.k is not None else replace(self, k=budget.k())

    def known_k(self) -> int:
        """Return k, or raise `LrbenchError` while neither the declaration nor `bind` has said it."""
        return _known(self, self.k)

    def select(self, encoder: Encoder, x: Float[Tensor, "batch d_in"], p: Parameters) -> Latents:
        """Return the k largest of a sample."""
        return encoder.top(x, self.known_k())

    backward = Rule.backward  # it is that of the latents which `select` lists

    def freeze(self, p: Parameters, z: Float[Tensor, "sample latent"]) -> tuple[Tensor, Tensor, Activation]:
        """Keep the same k."""
        return p["W_enc"], p["b_enc"], activation.TopK(self.known_k())


@dataclass(frozen=True)
class BatchTopK(Rule):
    """The k·B largest of a batch; the finished dictionary has the threshold that lets k per sample pass.

    Source: Bussmann et al. 2024, arXiv 2412.06410.

    Parameters
    ----------
    k
        Mean number of latents a sample, whole or not; None takes what is aimed at when training begins.

    Raises
    ------
    LrbenchError
        For a k that is not above 0, and when it is used before it knows its k.
    """

    k: float | None = None
    holds_l0: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.k is not None:
            check_mean_k(self.k)

    def bind(self, budget: Budget) -> Self:
        """Fill in k."""
        return self if self.k is not None else replace(self, k=min(float(budget.n_latents), budget.l0))

    def known_k(self) -> float:
        """Return k, or raise `LrbenchError` while neither the declaration nor `bind` has said it."""
        return _known(self, self.k)

    def select(self, encoder: Encoder, x: Float[Tensor, "batch d_in"], p: Parameters) -> Latents:
        """Return the k·B largest."""
        return encoder.batch_top(x, self.known_k())

    backward = Rule.backward  # as in `TopK`: that of the latents which `select` lists

    def freeze(self, p: Parameters, z: Float[Tensor, "sample latent"]) -> tuple[Tensor, Tensor, Activation]:
        """Calibrate the threshold: the (k·B)-th largest pre-activation of B training samples."""
        k = self.known_k()
        keep = min(max(1, round(k * len(z))), z.numel())
        threshold = max(0.0, float(z.flatten().topk(keep).values[-1]))
        return p["W_enc"], p["b_enc"], activation.BatchTopK(k, threshold)


@dataclass(frozen=True)
class JumpReLU(Rule):
    """A learned threshold per latent, with straight-through gradients of width ``bandwidth``.

    Source: Rajamanoharan et al. 2024b, arXiv 2407.14435.
    """

    threshold: float = 0.1
    bandwidth: float = 0.1

    def start(self, n_latents: int) -> Parameters:
        """Return log θ, so that θ stays positive."""
        return {"log_threshold": torch.full((n_latents,), math.log(self.threshold))}

    def floor(self, p: Parameters) -> Tensor | float:
        """Return the lower end of the box in which θ has a gradient."""
        return p["log_threshold"].detach().exp() - self.bandwidth / 2

    def activate(self, pre: Latents, p: Parameters) -> Latents:
        """Return z·1[z > θ]."""
        threshold = pre.of_latent(p["log_threshold"].exp())
        return pre.with_values(_Jump.apply(pre.values, threshold, self.bandwidth))  # type: ignore[no-untyped-call]

    def backward(self, pre: Latents, p: Parameters, gradient: Tensor) -> Tensor:
        """Return the gradient of the pre-activations, and give the thresholds theirs."""
        threshold = p["log_threshold"].exp()
        each = pre.of_latent(threshold)
        inside = (pre.values - each).abs() < self.bandwidth / 2
        for_threshold = -(threshold / self.bandwidth) * pre.sum_by_latent(gradient * inside)
        add_gradient(p["log_threshold"], threshold * for_threshold)
        return gradient * (pre.values > each)

    def count(self, pre: Latents, p: Parameters) -> Float[Tensor, ""]:
        """Return the batch mean of the number of active latents, differentiable in θ only."""
        threshold = pre.of_latent(p["log_threshold"].exp())
        return _Heaviside.apply(pre.values, threshold, self.bandwidth).sum() / pre.n_samples  # type: ignore[no-any-return, no-untyped-call]

    def count_backward(self, pre: Latents, p: Parameters, weight: Tensor | float) -> None:
        """Give the thresholds the gradient of ``weight`` times `count`."""
        threshold = p["log_threshold"].exp()
        inside = (pre.values - pre.of_latent(threshold)).abs() < self.bandwidth / 2
        share = -weight / (self.bandwidth * pre.n_samples)
        add_gradient(p["log_threshold"], share * threshold * pre.sum_by_latent(inside.to(threshold)))

    def freeze(self, p: Parameters, z: Float[Tensor, "sample latent"]) -> tuple[Tensor, Tensor, Activation]:
        """Keep the learned thresholds."""
        return p["W_enc"], p["b_enc"], activation.JumpReLU(p["log_threshold"].exp())


@dataclass(frozen=True)
class Gated(Rule):
    """A Heaviside gate z > 0 decides, a rescaled and shifted z gives the magnitude.

    Source: Rajamanoharan et al. 2024a, arXiv 2404.16014.
    """

    def start(self, n_latents: int) -> Parameters:
        """Return the logarithm of the magnitude's scale and its bias."""
        return {"log_scale": torch.zeros(n_latents), "b_mag": torch.zeros(n_latents)}

    def start_from(self, b_enc: Float[Tensor, " given"]) -> Parameters:
        """Return the gate's bias as the magnitude's: an open gate then passes the pre-activation."""
        return {"b_mag": b_enc}

    def activate(self, pre: Latents, p: Parameters) -> Latents:
        """Return the magnitude where the gate is open."""
        z = pre.values
        scale, b_enc, b_mag = (pre.of_latent(t) for t in (p["log_scale"].exp(), p["b_enc"], p["b_mag"]))
        return pre.with_values((scale * (z - b_enc) + b_mag).relu() * (z > 0))

    def backward(self, pre: Latents, p: Parameters, gradient: Tensor) -> Tensor:
        """Return the gradient of the pre-activations, and give the magnitude's scale and both biases theirs."""
        z, scale = pre.values, p["log_scale"].exp()
        each, b_enc, b_mag = (pre.of_latent(t) for t in (scale, p["b_enc"], p["b_mag"]))
        shifted = z - b_enc
        gradient = gradient * ((each * shifted + b_mag > 0) & (z > 0))
        for_b_mag = pre.sum_by_latent(gradient)
        add_gradient(p["log_scale"], scale * pre.sum_by_latent(gradient * shifted))
        add_gradient(p["b_enc"], -scale * for_b_mag)
        add_gradient(p["b_mag"], for_b_mag)
        return gradient * each

    def freeze(self, p: Parameters, z: Float[Tensor, "sample latent"]) -> tuple[Tensor, Tensor, Activation]:
        """Fold gate and magnitude into a JumpReLU, which with shared rows is the same function."""
        scale = p["log_scale"].exp()
        threshold = (p["b_mag"] - scale * p["b_enc"]).clamp_min(0.0)
        return scale.unsqueeze(1) * p["W_enc"], p["b_mag"], activation.JumpReLU(threshold)


def calibrated(sigma: Activation, z: Float[Tensor, "sample latent"], l0: float) -> Activation:
    """Return a σ with thresholds after all of them moved by the same amount, so that ``l0`` latents a sample are active.

    What the controller missed is made up so, as BatchTopK finds its threshold. Thresholds stay >= 0; another σ stays as it is.

    Examples
    --------
    >>> z = torch.tensor([[1.0, 2.0, 3.0, -1.0], [2.0, 3.0, 4.0, 5.0]])
    >>> [calibrated(activation.JumpReLU(2.5), z, l0).threshold.item() for l0 in (1.0, 3.0, 4.0)]
    [3.0, 1.0, 0.0]
    """
    if not isinstance(sigma, activation.JumpReLU):
        return sigma
    above = torch.where(z > 0, z - sigma.threshold.to(z), -math.inf).flatten()
    first_out = min(max(1, round(l0 * len(z))) + 1, above.numel())
    return activation.JumpReLU((sigma.threshold.to(z) + above.topk(first_out).values[-1]).clamp_min(0.0))


Number = TypeVar("Number", int, float)


def _known(rule: Rule, k: Number | None) -> Number:
    if k is None:
        raise LrbenchError(
            f"{type(rule).__name__}(k=None): expected a number of latents; give k, or call bind(budget) before training"
        )
    return k


class _Jump(torch.autograd.Function):
    """z·1[z > θ]; the gradient in θ is -θ/ε inside a box of width ε around the threshold."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return torch.where(z > threshold, z, 0.0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        z, threshold = ctx.saved_tensors
        inside = (z - threshold).abs() < ctx.bandwidth / 2
        for_threshold = -(threshold / ctx.bandwidth) * (grads[0] * inside).sum_to_size(threshold.shape)
        return grads[0] * (z > threshold), for_threshold, None


class _Heaviside(torch.autograd.Function):
    """1[z > θ]; the gradient in θ is -1/ε inside the same box, that in z is zero."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return (z > threshold).to(z)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        z, threshold = ctx.saved_tensors
        inside = (z - threshold).abs() < ctx.bandwidth / 2
        return None, -(grads[0] * inside).sum_to_size(threshold.shape) / ctx.bandwidth, None
