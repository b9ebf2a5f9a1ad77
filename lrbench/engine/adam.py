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

from lrbench.engine.arrays import array_of, keep_array
from lrbench.engine.mode import kernels, kernels_take
from lrbench.engine.rows import RowGradient, SortedRows, collect_row_gradients

BETAS = (0.9, 0.999)
EPSILON = 1e-8
REST = 170  # steps after which a row's momentum, (0.9 / √0.999)^170 of what it was, moves no float of a unit row


@dataclass(frozen=True)
class _KernelState:
    """A parameter that the kernels update, with Adam's memory of it; the arrays are those of the tensors."""

    parameter: Tensor
    gradients: list[RowGradient]
    first: Float[Tensor, "*row dim"]
    second: Float[Tensor, "*row dim"]
    idle: Int[Tensor, " row"]
    arrays: tuple[Any, ...]


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
        corrections = lr / (1 - BETAS[0] ** self.steps), (1 - BETAS[1] ** self.steps) ** -0.5
        rows: SortedRows | None = None
        typed: dict[type[Any], list[Any]] = {}
        for name, entry in self.by_kernel.items():
            kind = entry.arrays[0].dtype.type
            if kind not in typed:
                typed[kind] = [kind(scalar) for scalar in (*BETAS, *corrections, EPSILON)]
            if entry.parameter.ndim == 1:
                _step_vector(entry, typed[kind])
            else:
                rows = (
                    rows
                    if rows is not None and rows.fit(entry.gradients)
                    else SortedRows(entry.gradients, entry.parameter)
                )
                _step_rows(entry, rows, name in self.unit, typed[kind])
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


def _step_vector(entry: _KernelState, scalars: list[Any]) -> None:
    gradient, entry.parameter.grad = entry.parameter.grad, None
    if gradient is not None:
        kernels.adam(array_of(gradient), *entry.arrays[:3], *scalars)


def _step_rows(entry: _KernelState, rows: SortedRows, unit: bool, scalars: list[Any]) -> None:
    matrix, entry.parameter.grad = entry.parameter.grad, None
    w = entry.arrays[0]
    kernels.run_in_threads(
        kernels.adam_rows, len(w), rows.starts, rows.order, *rows.sums(entry.gradients, entry.parameter),
        w[:0] if matrix is None else matrix, *entry.arrays, np.int32(REST), unit, *scalars,
    )  # fmt: skip
    entry.gradients.clear()


def _kernel_state(p: Tensor) -> _KernelState:
    w = p.detach()
    first, second, idle = (
        torch.zeros_like(w),
        torch.zeros_like(w),
        torch.zeros(w.shape[0] if w.ndim == 2 else 0, dtype=torch.int32),
    )
    arrays = (keep_array(p), *map(keep_array, (first, second, idle)))
    return _KernelState(p, collect_row_gradients(p) if p.ndim == 2 else [], first, second, idle, arrays)
