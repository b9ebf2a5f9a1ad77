"""The activations σ of a dictionary: small objects that turn pre-activations into latents.

Every one is valid in the paper's sense, σ(z)_i ∈ {0, z_i}: it selects, it never rescales. A Gated SAE becomes a
JumpReLU when its dictionary is made (see ``methods/gated_sae.py``), so it needs no activation of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from lrbench.errors import LrbenchError

LARGEST = 2**63 - 1  # that a file can hold
DTYPES = (
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
)  # float8 holds numbers but cannot be computed with


class Activation(Protocol):
    """What a dictionary asks of σ."""

    @property
    def name(self) -> str:
        """The name that is written into files."""

    def __call__(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """Return the latents: z_i where selected, 0 elsewhere."""

    def state(self) -> dict[str, Tensor]:
        """Return all that a file needs to hold, as tensors."""


@dataclass(frozen=True)
class ReLU:
    """max(0, z): every positive pre-activation stays."""

    name = "relu"

    def __call__(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """Return max(0, z)."""
        return z.relu()

    def state(self) -> dict[str, Tensor]:
        """Return nothing: there is nothing to remember."""
        return {}


@dataclass(frozen=True)
class TopK:
    """The k largest positive pre-activations of each sample stay; all of them where k exceeds the number of latents.

    Source: Makhzani & Frey 2014, arXiv 1312.5663; Gao et al. 2024, arXiv 2406.04093.
    """

    k: int
    name = "topk"

    def __post_init__(self) -> None:
        check_k(self.k)

    def __call__(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """Return z where it is among the k largest of its row and positive, else 0."""
        if self.k >= z.shape[-1]:
            return z.relu()
        values, winners = z.topk(self.k, dim=-1, sorted=False)
        return torch.zeros_like(z).scatter(-1, winners, values.relu())

    def state(self) -> dict[str, Tensor]:
        """Return k."""
        return {"k": torch.tensor(self.k)}


@dataclass(frozen=True)
class BatchTopK:
    """The k·B largest positive pre-activations of a batch of B stay (Bussmann et al. 2024, arXiv 2412.06410).

    Parameters
    ----------
    k
        Mean number of latents that stay per sample, whole or not.
    threshold
        Once it is set (training does), a latent stays where z > threshold, and a sample's code no longer depends on its batch.
    """

    k: float
    threshold: float | None = None
    name = "batchtopk"

    def __post_init__(self) -> None:
        check_mean_k(self.k)
        if self.threshold is not None and not isinstance(self.threshold, float) and not _is_whole(self.threshold):
            raise LrbenchError(f"threshold: expected one number or None, got {describe_value(self.threshold)}")

    def __call__(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """Return z where it stays, else 0."""
        if self.threshold is not None:
            return torch.where(z > self.threshold, z, 0.0).relu()
        keep = max(1, round(self.k * z[..., 0].numel()))
        if keep >= z.numel():
            return z.relu()
        flat = z.flatten()
        values, winners = flat.topk(keep, sorted=False)
        return torch.zeros_like(flat).scatter(0, winners, values.relu()).view_as(z)

    def state(self) -> dict[str, Tensor]:
        """Return k and, once it is set, the threshold."""
        state = {"k": torch.tensor(self.k, dtype=torch.float64 if isinstance(self.k, float) else None)}
        return (
            state
            if self.threshold is None
            else state | {"threshold": torch.tensor(self.threshold, dtype=torch.float64)}
        )


class JumpReLU:
    """z where it exceeds its latent's threshold (Rajamanoharan et al. 2024b, arXiv 2407.14435).

    Parameters
    ----------
    threshold
        One threshold >= 0 for all latents, or one for each, shape (latent,).
    """

    name = "jumprelu"

    def __init__(self, threshold: float | Float[Tensor, ""] | Float[Tensor, " latent"]) -> None:
        dtype = torch.get_default_dtype() if isinstance(threshold, int | float) else None
        try:
            numbers = torch.as_tensor(threshold, dtype=dtype)
            if not numbers.is_floating_point() and not numbers.is_complex():
                numbers = numbers.to(torch.get_default_dtype())
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise LrbenchError(f"threshold: expected numbers >= 0, got {describe_value(threshold)}") from error
        unusable = "a tensor without numbers, on the device meta" if numbers.is_meta else tensor_fault(numbers)
        if unusable is not None:
            raise LrbenchError(f"threshold: expected numbers >= 0, got {unusable}")
        wrong = numbers[~(numbers >= 0)]
        if len(wrong):
            raise LrbenchError(f"threshold={float(wrong[0]):g}: expected JumpReLU thresholds >= 0")
        self.threshold = numbers

    def __call__(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """Return z where z > threshold, else 0."""
        return torch.where(z > self.threshold.to(z), z, 0.0)

    def __repr__(self) -> str:
        return (
            f"JumpReLU(threshold={self.threshold.tolist()})" if self.threshold.numel() == 1 else "JumpReLU(threshold=…)"
        )

    def state(self) -> dict[str, Tensor]:
        """Return the thresholds."""
        return {"threshold": self.threshold}


def from_state(name: str, state: dict[str, Tensor]) -> Activation:
    """Rebuild an activation from its name and `state`.

    Raises
    ------
    LrbenchError
        For a name that is not an activation, or a state that lacks what it needs.
    """
    try:
        if name == "relu":
            return ReLU()
        if name == "topk":
            return TopK(state["k"].item())  # type: ignore[arg-type]
        if name == "batchtopk":
            return BatchTopK(state["k"].item(), state["threshold"].item() if "threshold" in state else None)
        if name == "jumprelu":
            return JumpReLU(state["threshold"])
    except KeyError as missing:
        raise LrbenchError(f"activation {name!r} needs {missing} in its state; found {sorted(state)}") from missing
    except (ValueError, RuntimeError) as error:
        raise LrbenchError(f"activation {name!r}: expected single numbers for k and threshold ({error})") from error
    raise LrbenchError(f"unknown activation {name!r}: expected relu, topk, batchtopk or jumprelu")


def check_k(k: int) -> None:
    """Raise `LrbenchError` unless k is a whole number >= 1."""
    if not _is_whole(k) or k < 1:
        shown = f"{k!r}" if not isinstance(k, int) or abs(k) <= LARGEST else f"a number of {k.bit_length()} bits"
        raise LrbenchError(f"k={shown}: expected a whole number of latents >= 1")


def check_mean_k(k: float) -> None:
    """Raise `LrbenchError` unless k is a number of latents above 0, whole or not."""
    if not isinstance(k, float):
        check_k(k)
    elif not 0 < k < math.inf:
        raise LrbenchError(f"k={k!r}: expected a mean number of latents > 0")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST


def tensor_fault(value: object) -> str | None:
    """Say what a value is when it is no dense tensor of floats that can be computed with, or return None."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    if value.is_nested or value.layout != torch.strided:
        return f"a tensor of layout {'nested' if value.is_nested else value.layout}: call .to_dense()"
    if type(value).__torch_dispatch__ is not Tensor.__torch_dispatch__:  # its numbers lie elsewhere
        return f"a {type(value).__name__}: expected a plain tensor"
    return None if value.dtype in DTYPES else describe_value(value)


def describe_value(value: object) -> str:
    """Return the dtype and the shape of a tensor, the type's name of anything else."""
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
