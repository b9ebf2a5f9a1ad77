"""What can be wrong with what `fit` returned, said once: a run raises the first fault, `lrbench check` shows them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError, one_line
from lrbench.record import LIST_LENGTH, TEXT_LENGTH, recordable
from lrbench.view import TrainView

SAMPLES = 256  # training samples that a dictionary is tried on
VIEW_CHANGED = "fit wrote into its view: head() shows the data itself, clone before writing"


@dataclass(frozen=True)
class Asked:
    """What a dictionary is held against: the view that ``fit`` was given, and the method's kind."""

    view: TrainView
    kind: str


def accepted(returned: object, asked: Asked) -> Dictionary:
    """Return the dictionary that ``fit`` returned, or raise `LrbenchError` with the first of its faults."""
    dictionary = as_dictionary(returned)
    for fault in FAULTS.values():
        found = fault(dictionary, asked)
        if found is not None:
            raise LrbenchError(found)
    return dictionary


def as_dictionary(returned: object) -> Dictionary:
    """Return what ``fit`` returned as what it has to be, or raise `LrbenchError`."""
    if not isinstance(returned, Dictionary):
        raise LrbenchError(f"fit returned {type(returned).__name__}, expected lrbench.Dictionary")
    return returned


def pair_fault(dictionary: Dictionary, asked: Asked) -> str | None:
    """Say what is wrong with the pair, or return None."""
    if dictionary.pair == asked.view.pair:
        return None
    return f"the method declares {asked.view.pair!r}, its dictionary says {dictionary.pair!r}: pass pair= to Dictionary(...)"


def shapes_fault(dictionary: Dictionary, asked: Asked) -> str | None:
    """Say what is wrong with the sizes and the number of latents, or return None."""
    found, expected = (dictionary.W_enc.shape[1], dictionary.W_dec.shape[1]), (asked.view.d_in, asked.view.d_out)
    if found != expected:
        return f"(d_in, d_out) is {found}, expected {expected}: rows are features"
    n, allowed = dictionary.n_latents, asked.view.budget.n_latents
    if n > allowed and asked.kind != "reference":
        return f"{n} latents, the budget allows 1 to {allowed} (view.budget.n_latents)"
    return None


def tensors_fault(dictionary: Dictionary, asked: Asked) -> str | None:
    """Say what is wrong with the dtype and the device of the weights, or return None."""
    dtype, device = asked.view.anchor_sites[0].dtype, asked.view.device
    for name, tensor in zip(("W_enc", "b_enc", "W_dec", "b_dec"), dictionary.weights, strict=True):
        if tensor.dtype != dtype:
            return f"{name} is {tensor.dtype}, the data {dtype}: call .float() on it"
        if tensor.device.type != device.type:
            return f"{name} is on {tensor.device}, the view on {device}: end with .to(view.device)"
    return None


def numbers_fault(dictionary: Dictionary, asked: Asked) -> str | None:
    """Say what is not finite or has another shape among the weights, the latents and the reconstructions, or return None."""
    if not dictionary.finite():
        return "the weights hold NaN or infinity"
    inputs = asked.view.head(SAMPLES)[0]
    latents = dictionary.encode(inputs)
    if latents.shape != (len(inputs), dictionary.n_latents):
        expected = (len(inputs), dictionary.n_latents)
        return f"{len(inputs)} samples give latents of shape {tuple(latents.shape)}, expected {expected}"
    if not bool(torch.isfinite(latents).all() and torch.isfinite(dictionary.decode(latents)).all()):
        return "the weights are finite, but latents or reconstructions of training samples are not"
    return None


# By the name of the check that shows each, in the order in which one presupposes those before it.
FAULTS: dict[str, Callable[[Dictionary, Asked], str | None]] = {
    "pair": pair_fault,
    "shapes": shapes_fault,
    "dtype and device": tensors_fault,
    "finiteness": numbers_fault,
}


def settings_fault(hyperparameters: Mapping[str, Any]) -> str | None:
    """Say which hyper-parameter no record can hold, or return None."""
    for name, value in hyperparameters.items():
        if not recordable(value):
            return (
                f"{name}={_shown(value)} cannot be recorded: expected a finite number (64 bits where it is whole),"
                f" up to {TEXT_LENGTH} printable characters, None or a list of up to {LIST_LENGTH} of them"
            )
    return None


def _shown(value: object) -> str:
    try:
        return one_line(repr(value), 80)
    except Exception:  # the text of a value is the method's own code, and that of a number of 5000 digits is refused
        return f"({type(value).__name__})"
