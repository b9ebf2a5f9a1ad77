"""Notices a method that replaced code which the scores rest on, such as ``torch.matmul``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

from lrbench.errors import LrbenchError

TORCH = ("torch", "torch.nn.functional", "torch.linalg")
OWN = (
    *("activation", "contract.faults", "dictionary", "scoring.matching", "scoring.metrics"),
    *("seeds", "structure", "task", "view", "world"),
)
REPLACED_BY_TORCH = {
    "torch.manual_seed",
    "torch.Storage",
}  # by the first torch.compile, and by a change of the default dtype


class Guard:
    """Remembers every function and class that scoring uses, and those of more modules where some are named.

    It catches accidents and plain tricks. A method runs in the same process as its scores: one that is out to cheat
    can, as one that prints its own results table can.
    """

    def __init__(self, *more: str) -> None:
        self._modules = (*(f"lrbench.{module}" for module in OWN), *more)
        self._code = dict(_code(self._modules))

    def check(self) -> None:
        """Raise `LrbenchError` when something is not what it was."""
        now = dict(_code(self._modules))
        for name, value in self._code.items():
            if now.get(name) is not value and name not in REPLACED_BY_TORCH:
                raise LrbenchError(f"the method replaced {name}: its scores would mean nothing")


def _code(modules: Iterable[str]) -> Iterator[tuple[str, Any]]:
    for name in TORCH:
        yield from _callables(name, import_module(name))
    yield from _callables("torch.Tensor", import_module("torch").Tensor)
    for name in modules:
        module = import_module(name)
        yield from _callables(name, module)
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == name:
                yield from _callables(f"{name}.{value.__name__}", value)


def _callables(prefix: str, owner: Any) -> Iterator[tuple[str, Any]]:
    for name, value in vars(owner).items():
        if callable(value) or isinstance(value, (property, classmethod, staticmethod)):
            yield f"{prefix}.{name}", value
