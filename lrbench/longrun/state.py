"""A training's state as bytes: tensors in safetensors, all else as JSON beside them. Reading it runs no code."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from lrbench.errors import LrbenchError, one_line

TREE = "tree"  # the tensor whose bytes are the JSON
PLAIN = (bool, int, float, str, type(None))


def packed(state: dict[str, Any]) -> bytes:
    """Return a state as bytes.

    Parameters
    ----------
    state
        Tensors, numbers, truth values, strings and None, in dicts, lists and tuples, however deep: what `torch.optim.Adam.state_dict`
        returns is one.

    Raises
    ------
    LrbenchError
        For anything else in it.

    Examples
    --------
    >>> unpacked(packed({"step": 3, "w": torch.ones(2), "betas": (0.9, 0.999)}))
    {'step': 3, 'w': tensor([1., 1.]), 'betas': (0.9, 0.999)}
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    text = json.dumps(_as_json(state, tensors, "state"))
    tensors[TREE] = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    return save(tensors)


def unpacked(content: bytes) -> dict[str, Any]:
    """Return the state that `packed` made bytes of, its tensors on the CPU."""
    from safetensors.torch import load

    tensors = load(content)
    tree = json.loads(tensors.pop(TREE).numpy().tobytes())
    state: dict[str, Any] = _from_json(tree, tensors)
    return state


def _as_json(value: Any, tensors: dict[str, Tensor], place: str) -> Any:
    if isinstance(value, Tensor):
        name, tensor = str(len(tensors)), value.detach().cpu().contiguous()
        held = {each.untyped_storage().data_ptr() for each in tensors.values()}
        tensors[name] = tensor.clone() if tensor.untyped_storage().data_ptr() in held else tensor
        return {"tensor": name}
    if isinstance(value, dict):  # as pairs: the keys of an optimiser's state are numbers
        return {
            "dict": [[_plain(key, place), _as_json(item, tensors, f"{place}[{key!r}]")] for key, item in value.items()]
        }
    if isinstance(value, (list, tuple)):
        items = [_as_json(item, tensors, f"{place}[{i}]") for i, item in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    return _plain(value, place)


def _plain(value: Any, place: str) -> Any:
    if isinstance(value, PLAIN):
        return value
    raise LrbenchError(
        f"{one_line(place, 80)} holds {type(value).__name__}: a checkpoint takes tensors, numbers, strings and None, in dicts, lists and tuples"
    )


def _from_json(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_from_json(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "tuple":
        return tuple(_from_json(item, tensors) for item in content)
    return {key: _from_json(item, tensors) for key, item in content}
