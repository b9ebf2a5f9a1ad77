"""The parameters of a group as stacked tensors, and one fused Adam for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from lrbench.engine.adam import BETAS, EPSILON
from lrbench.rules import Parameters


class Stack:
    """The parameters of all members: one leaf tensor per name, with one entry per member that has the name.

    Parameters
    ----------
    members
        The parameters of each, by name. All have the four of a dictionary; what a rule adds need not be in all.
    """

    def __init__(self, members: Sequence[Parameters]) -> None:
        names = dict.fromkeys(name for p in members for name in p)
        self.owners = {name: [i for i, p in enumerate(members) if name in p] for name in names}
        self.tensors = {
            name: torch.stack([members[i][name].detach() for i in owners]).requires_grad_()
            for name, owners in self.owners.items()
        }
        self.members = self._by_member({name: list(tensor.detach()) for name, tensor in self.tensors.items()})

    def split(self) -> list[Parameters]:
        """Return each member's parameters as slices through which gradients flow to the stacked tensors."""
        return self._by_member({name: list(tensor.unbind()) for name, tensor in self.tensors.items()})

    def gradients(self) -> list[Parameters]:
        """Return each member's gradients of the last backward pass, as slices; names without a gradient are left out."""
        grads = {name: tensor.grad for name, tensor in self.tensors.items()}
        return self._by_member({name: list(grad) for name, grad in grads.items() if grad is not None})

    def _by_member(self, slices: dict[str, list[Tensor]]) -> list[Parameters]:
        found: list[Parameters] = [{} for _ in self.owners["W_enc"]]
        for name, parts in slices.items():
            for member, part in zip(self.owners[name], parts, strict=True):
                found[member][name] = part
        return found


class GroupAdam:
    """`lrbench.engine.adam.Adam` for a stack, with a learning rate per member, in tensors that a CUDA graph can read.

    Parameters
    ----------
    stack
        What is trained.
    rates
        Peak learning rate of every member.
    unit
        Names of the matrices whose rows have unit length after every step.
    """

    def __init__(self, stack: Stack, rates: Sequence[float], unit: tuple[str, ...] = ()) -> None:
        self.stack, self.unit = stack, unit
        device = stack.tensors["W_enc"].device
        self.peaks = list(dict.fromkeys(rates))
        groups: list[dict[str, Any]] = []
        for peak in self.peaks:
            own = [p for p, rate in zip(stack.members, rates, strict=True) if rate == peak]
            parameters = [tensor for p in own for tensor in p.values()]
            groups.append({"params": parameters, "lr": torch.tensor(peak, device=device)})
        self.by_torch = torch.optim.Adam(groups, betas=BETAS, eps=EPSILON, fused=True, capturable=device.type == "cuda")

    def set_share(self, share: float) -> None:
        """Let every member's learning rate be this share of its peak."""
        for group, peak in zip(self.by_torch.param_groups, self.peaks, strict=True):
            group["lr"].fill_(peak * share)

    def step(self) -> None:
        """Take a step against the gradients of the last backward pass, and clear them."""
        for p, gradients in zip(self.stack.members, self.stack.gradients(), strict=True):
            for name, tensor in p.items():
                tensor.grad = gradients.get(name)
        self.by_torch.step()
        self.by_torch.zero_grad()
        for tensor in self.stack.tensors.values():
            tensor.grad = None
        with torch.no_grad():
            for name in self.unit:
                self.stack.tensors[name].copy_(F.normalize(self.stack.tensors[name], dim=2))


@dataclass(frozen=True)
class MemberMemory:
    """What `lrbench.sdl.resample_dead` needs of an optimiser: one member's part of Adam's memory."""

    optimiser: GroupAdam
    member: int

    def forget(self, names: Iterable[str], rows: Int[Tensor, " row"]) -> None:
        """Clear the memory of these latents, as if they had never had a gradient."""
        for name in names:
            state = self.optimiser.by_torch.state[self.optimiser.stack.members[self.member][name]]
            for moment in (state["exp_avg"], state["exp_avg_sq"]):
                moment[rows] = 0.0
