"""Activations are taken once and kept in the user's cache folder, chunk by chunk: a capture that was ended goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from platformdirs import user_cache_path
from rich.console import Console
from rich.progress import track
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lrbench.real.capture import Capture
from lrbench.real.models import Model

CAPTURE_VERSION = 1  # raise it whenever the same model and texts would give other activations
CHUNK = 512  # texts in a file


def folder_of(model: Model, init: str, sites: Sequence[str], texts: Sequence[str]) -> Path:
    """Return where activations are kept: a folder named after all that they follow from."""
    facts = [CAPTURE_VERSION, model.name, model.weights(), model.skip, init, sorted(sites), list(texts)]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    return user_cache_path("lrbench", appauthor=False) / "activations" / f"{model.name.replace('/', '--')}-{key}"


def activations(
    model: Model, init: str, sites: Sequence[str], texts: Sequence[str]
) -> dict[str, Float[Tensor, "text dim"]]:
    """Return a model's activations at some sites on texts, from the cache as far as it holds them.

    Raises
    ------
    Unavailable
        When the model cannot be loaded.
    """
    folder = folder_of(model, init, sites, texts)
    starts = range(0, len(texts), CHUNK)
    kept = {start: _kept(folder / f"{start:06}.safetensors") for start in starts}
    missing = [start for start in starts if kept[start] is None]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        capture = Capture(*model.load(init), sites, model.skip)
        shown = Console(stderr=True, quiet=not sys.stderr.isatty())
        what = f"activations of {model.name}{'' if init == 'trained' else f' ({init})'}"
        for start in track(missing, what, console=shown, transient=True):
            kept[start] = capture(texts[start : start + CHUNK])
            _keep(folder / f"{start:06}.safetensors", kept[start] or {})
    return {site: torch.cat([(kept[start] or {})[site] for start in starts]) for site in sites}


def _kept(path: Path) -> dict[str, Tensor] | None:
    """Return a chunk, None where there is none or it was damaged: it is taken anew."""
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        return None


def _keep(path: Path, chunk: dict[str, Tensor]) -> None:
    """Write a chunk as a whole or not at all, whoever else writes it at the same time."""
    part = path.with_suffix(f".{os.getpid()}.part")
    save_file({site: rows.contiguous() for site, rows in chunk.items()}, part)
    os.replace(part, path)
