"""Adam for a dictionary's parameters: rows of weight matrices in one pass of a kernel, everything else by torch.

The numbers are those of `torch.optim.Adam` followed by a normalisation of the unit rows, up to the rounding of sums.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from lrbench.engine.mode import kernels, kernels_take
from lrbench.engine.rows import RowGradient, by_latent, collect_row_gradients, joined

BETAS = (0.9, 0.999)
EPSILON = 1e-8
REST = 170  # steps after which a row's momentum, (0.9 / √0.999)^170 of what it was, moves no float of a unit row


@dataclass(frozen=True)
class _KernelState:
    """A parameter that the kernels update, with Adam's memory of it; ``none`` is a gradient of no rows."""

    parameter: Tensor
    weight: Float[Tensor, "*row dim"]
    gradients: list[RowGradient]
    first: Float[Tensor, "*row dim"]
    second: Float[Tensor, "*row dim"]
    idle: Int[Tensor, " row"]
    none: tuple[RowGradient, Tensor, Tensor]


class Adam:
    """The optimiser of a training run.

    Parameters
    ----------
    parameters
        What is trained, by name.
    unit
        Names of the matrices whose rows have unit length after every step.
    """

    def __init__(self, parameters: dict[str, Tensor], unit: tuple[str, ...] = ()) -> None:
        self.parameters, self.unit = parameters, unit
        self.steps = 0
        self.by_kernel = {
            name: _kernel_state(p) for name, p in parameters.items() if kernels_take(p) and p.ndim in (1, 2)
        }
        others = [p for name, p in parameters.items() if name not in self.by_kernel]
        self.by_torch = torch.optim.Adam(others, betas=BETAS, eps=EPSILON, fused=True) if others else None

    def step(self, lr: float) -> None:
        """Take a step against the gradients of the last backward pass, and clear them."""
        self.steps += 1
        for name, entry in self.by_kernel.items():
            self._step(entry, lr, name in self.unit)
        if self.by_torch is None:
            return
        self.by_torch.param_groups[0]["lr"] = lr
        self.by_torch.step()
        self.by_torch.zero_grad()
        with torch.no_grad():
            for name in self.unit:
                if name not in self.by_kernel:
                    self.parameters[name].copy_(F.normalize(self.parameters[name], dim=1))

    def forget(self, names: Iterable[str], rows: Int[Tensor, " row"]) -> None:
        """Clear the memory of these latents, as if they had never had a gradient."""
        for name in names:
            if name in self.by_kernel:
                memory = (self.by_kernel[name].first, self.by_kernel[name].second)
            else:
                assert self.by_torch is not None
                state = self.by_torch.state[self.parameters[name]]
                memory = (state["exp_avg"], state["exp_avg_sq"])
            for moment in memory:
                moment[rows] = 0.0

    def state(self) -> dict[str, Any]:
        """Return what the next steps depend on beside the parameters: the tensors themselves, not copies."""
        memory = {name: (entry.first, entry.second, entry.idle) for name, entry in self.by_kernel.items()}
        return {"steps": self.steps, "memory": memory, "by_torch": self.by_torch and self.by_torch.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned for the same parameters on the same path of the engine."""
        self.steps = state["steps"]
        for name, memory in state["memory"].items():
            entry = self.by_kernel[name]
            for own, saved in zip((entry.first, entry.second, entry.idle), memory, strict=True):
                own.copy_(saved)
        if self.by_torch is not None:
            self.by_torch.load_state_dict(state["by_torch"])

    def _step(self, entry: _KernelState, lr: float, unit: bool) -> None:
        w, gradient = entry.weight, entry.parameter.grad
        number = np.float32 if w.dtype == torch.float32 else np.float64
        corrections = lr / (1 - BETAS[0] ** self.steps), (1 - BETAS[1] ** self.steps) ** -0.5
        scalars = [number(scalar) for scalar in (*BETAS, *corrections, EPSILON)]
        entry.parameter.grad = None
        if w.ndim == 1:
            if gradient is not None:
                vectors = gradient, w, entry.first, entry.second
                kernels.adam(*(vector.numpy() for vector in vectors), *scalars)
            return
        terms, starts, order = none = entry.none
        if entry.gradients:
            terms = joined(entry.gradients)
            starts, order = by_latent(terms.indices, w.shape[0])
        kernels.run_in_threads(
            kernels.adam_rows, w.shape[0], starts, order, terms.coefficients, terms.places, terms.vectors,
            none[0].vectors if gradient is None else gradient, w, entry.first, entry.second, entry.idle,
            np.int32(REST), unit, *scalars,
        )  # fmt: skip
        entry.gradients.clear()


def _kernel_state(p: Tensor) -> _KernelState:
    w, gradients = p.detach(), collect_row_gradients(p) if p.ndim == 2 else []
    vectors, indices = w.new_empty(0, w.shape[-1]), torch.empty(0, dtype=torch.int32)
    none = RowGradient(indices, vectors[:, 0], indices, vectors), *by_latent(indices, w.shape[0])
    idle = torch.zeros(w.shape[0], dtype=torch.int32)
    return _KernelState(p, w, gradients, torch.zeros_like(w), torch.zeros_like(w), idle, none)
