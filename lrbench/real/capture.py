"""Activations of a model at some sites, one vector per text: the mean over its tokens.

A site is ``layer3``, what the third block adds up to, or ``mlp3.in`` and ``mlp3.out``, what its MLP reads and writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lrbench.errors import LrbenchError

SITE = re.compile(r"layer(\d+)|mlp(\d+)\.(in|out)")
BLOCKS = ("encoder.layer", "layers", "h", "model.layers", "transformer.h")  # where models of transformers keep them
MLPS = (("intermediate", "output.dense"), ("mlp", "mlp"), ("feed_forward", "feed_forward"))  # what reads, what writes
MOST_TOKENS = 64
BATCH = 64


def depth(site: str) -> int:
    """Return the number of the block that a site belongs to, counted from 1, or raise `LrbenchError`."""
    found = SITE.fullmatch(site)
    number = int(found[1] or found[2]) if found else 0
    if number < 1:
        raise LrbenchError(f"site={site!r}: expected layer3, mlp3.in or mlp3.out, with a block's number from 1 on")
    return number


class Capture:
    """Reads texts and returns what a model holds at some sites.

    Parameters
    ----------
    tokenizer, model
        From `lrbench.real.models.Model.load`; the blocks behind the last site are taken off.
    sites
        Their names.
    skip
        Positions at the start that the mean leaves out.
    """

    def __init__(self, tokenizer: Any, model: nn.Module, sites: Sequence[str], skip: int = 0) -> None:
        self._tokenizer, self._model, self._sites, self._skip = tokenizer, model, tuple(sites), skip
        self._seen: dict[str, Tensor] = {}
        name, blocks = _first(model, BLOCKS)
        last = max(map(depth, sites))
        if last > len(blocks):
            raise LrbenchError(f"sites={','.join(sites)}: the model has {len(blocks)} blocks")
        for site in self._sites:
            self._watch(site, blocks[depth(site) - 1])
        owner, _, own = name.rpartition(".")
        setattr(model.get_submodule(owner), own, blocks[:last])

    def _watch(self, site: str, block: nn.Module) -> None:
        if site.startswith("layer"):
            block.register_forward_hook(lambda _, __, out: self._keep(site, out))
            return
        reads, writes = next(pair for pair in MLPS if hasattr(block, pair[0]))
        if site.endswith(".in"):
            block.get_submodule(reads).register_forward_pre_hook(lambda _, given: self._keep(site, given))
        else:
            block.get_submodule(writes).register_forward_hook(lambda _, __, out: self._keep(site, out))

    def _keep(self, site: str, value: Tensor | tuple[Tensor, ...]) -> None:
        self._seen[site] = value[0] if isinstance(value, tuple) else value

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> dict[str, Float[Tensor, "text dim"]]:
        """Return the mean over tokens at every site, in the order of the texts."""
        found: dict[str, list[Tensor]] = {site: [] for site in self._sites}
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))  # alike lengths: little padding
        for some in _parts(order, BATCH):
            tokens = self._tokenizer(
                [texts[place] for place in some],
                return_tensors="pt",
                padding=True,
                truncation=True,
                max_length=MOST_TOKENS,
            )
            self._model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
            weight = tokens["attention_mask"].clone().float().unsqueeze(2)
            weight[:, : self._skip] = 0.0
            for site in self._sites:
                found[site].append((self._seen[site].float() * weight).sum(1) / weight.sum(1).clamp_min(1.0))
        back = torch.tensor(order).argsort()
        return {site: torch.cat(parts)[back].clone() for site, parts in found.items()}


def _first(model: nn.Module, names: Sequence[str]) -> tuple[str, nn.ModuleList]:
    for name in names:
        try:
            found = model.get_submodule(name)
        except AttributeError:
            continue
        if isinstance(found, nn.ModuleList):
            return name, found
    raise LrbenchError(f"{type(model).__name__}: its blocks were not found; expected them under {', '.join(names)}")


def _parts(places: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(places), size):
        yield places[start : start + size]
