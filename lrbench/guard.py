"""Notices a method that replaced code which the scores rest on, such as ``torch.matmul``."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from lrbench.errors import LrbenchError

TORCH = ("torch", "torch.nn.functional", "torch.linalg")
OWN = ("activation", "cell", "dictionary", "matching", "metrics", "seeds", "structure", "task", "view", "world")
REPLACED_BY_TORCH = {
    "torch.manual_seed",
    "torch.Storage",
}  # by the first torch.compile, and by a change of the default dtype


class Guard:
    """Remembers every function and class that scoring uses.

    It catches accidents and plain tricks. A method runs in the same process as its scores: one that is out to cheat
    can, as one that prints its own results table can.
    """

    def __init__(self) -> None:
        self._code = dict(_code())

    def check(self) -> None:
        """Raise `LrbenchError` when something is not what it was."""
        now = dict(_code())
        for name, value in self._code.items():
            if now.get(name) is not value and name not in REPLACED_BY_TORCH:
                raise LrbenchError(f"the method replaced {name}: its scores would mean nothing")


def _code() -> Iterator[tuple[str, Any]]:
    for name in TORCH:
        yield from _callables(name, import_module(name))
    yield from _callables("torch.Tensor", import_module("torch").Tensor)
    for name in (f"lrbench.{module}" for module in OWN):
        module = import_module(name)
        yield from _callables(name, module)
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == name:
                yield from _callables(f"{name}.{value.__name__}", value)


def _callables(prefix: str, owner: Any) -> Iterator[tuple[str, Any]]:
    for name, value in vars(owner).items():
        if callable(value) or isinstance(value, (property, classmethod, staticmethod)):
            yield f"{prefix}.{name}", value
