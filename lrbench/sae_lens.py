"""Conversion from and to sae-lens, for `Dictionary.from_sae_lens` and `Dictionary.to_sae_lens`.

sae-lens stores encoders as (d_in, d_sae), may subtract b_dec before it encodes, may measure latents in units of the decoder
rows' norms, and keeps gates apart from magnitudes. All of that folds into rows, one bias and a threshold, exactly.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lrbench.activation import Activation, BatchTopK, JumpReLU, ReLU, TopK
from lrbench.errors import LrbenchError

if TYPE_CHECKING:
    from lrbench.dictionary import Dictionary

ARCHITECTURES = (
    "standard",
    "topk",
    "jumprelu",
    "batchtopk",
    "matryoshka_batchtopk",
    "gated",
    "transcoder",
    "jumprelu_transcoder",
)
FOLDS = {
    "expected_average_only_in": "sae.fold_activation_norm_scaling_factor(factor)",
    "covariance_whitening": "sae.fold_activation_whitening(mean, whitening, unwhitening)",
}
PAIR_KEY = (
    "lrbench_pair"  # in the SAE's metadata: sae-lens has no crosscoder, a dictionary over concatenated sites is one
)
SMALLEST_NORM = 1e-8  # as in sae-lens


def arguments_from(sae: Any) -> dict[str, Any]:
    """Return the arguments of the `Dictionary` that gives the same latents and reconstructions as an SAE.

    Parameters
    ----------
    sae
        From sae-lens 6, in its inference or its training form; batch top-k becomes the JumpReLU that sae-lens saves it as.

    Raises
    ------
    LrbenchError
        For what is not of the form σ(W_enc x + b_enc) with a linear decoder, or normalises its input.
    """
    cfg = getattr(sae, "cfg", None)
    if not callable(getattr(cfg, "architecture", None)):
        raise LrbenchError(f"{type(sae).__name__}: expected an SAE of sae-lens 6.0 or newer")
    assert cfg is not None
    architecture: str = cfg.architecture()
    if architecture not in ARCHITECTURES:
        raise LrbenchError(
            f"sae-lens architecture {architecture!r}: only {', '.join(ARCHITECTURES)} have the form of a Dictionary"
        )
    _check_normalisation(cfg.normalize_activations)
    dtype = torch.promote_types(sae.W_enc.dtype, torch.float32)  # half precision is widened before anything is folded
    w_enc, w_dec, b_dec = (t.detach().to(dtype) for t in (sae.W_enc.T, sae.W_dec, sae.b_dec))
    if architecture == "gated":
        scale, b_gate, b_enc = (t.detach().to(dtype) for t in (sae.r_mag.exp(), sae.b_gate, sae.b_mag))
        w_enc = scale.unsqueeze(1) * w_enc
        activation: Activation = JumpReLU((b_enc - scale * b_gate).clamp_min(0.0))  # where the gate opens
    else:
        b_enc = sae.b_enc.detach().to(dtype)
        activation = _activation_of(sae, architecture, dtype)
    if getattr(cfg, "rescale_acts_by_decoder_norm", False):
        norm = w_dec.norm(dim=1).clamp_min(SMALLEST_NORM)
        w_enc, b_enc, w_dec = norm.unsqueeze(1) * w_enc, norm * b_enc, w_dec / norm.unsqueeze(1)
    if cfg.apply_b_dec_to_input:
        b_enc = b_enc - w_enc @ b_dec
    pair = "transcoder" if architecture.endswith("transcoder") else "autoencoder"
    return {
        "W_enc": w_enc.contiguous(),
        "b_enc": b_enc,
        "W_dec": w_dec,
        "b_dec": b_dec,
        "activation": activation,
        "pair": getattr(cfg.metadata, PAIR_KEY, None) or pair,
    }


def _check_normalisation(name: str) -> None:
    if name in FOLDS:
        raise LrbenchError(
            f"normalize_activations={name!r}: its statistics are not in the SAE; call {FOLDS[name]} first"
        )
    if name != "none":
        raise LrbenchError(f"normalize_activations={name!r}: it depends on the sample, so no linear encoder equals it")


def _activation_of(sae: Any, architecture: str, dtype: torch.dtype) -> Activation:
    if architecture in ("standard", "transcoder"):
        return ReLU()
    if architecture == "topk":
        return TopK(int(sae.cfg.k))
    if architecture in ("batchtopk", "matryoshka_batchtopk"):
        return JumpReLU(torch.full_like(sae.b_enc, float(sae.topk_threshold), dtype=dtype))
    return JumpReLU(sae.threshold.detach().to(dtype).clamp_min(0.0))  # sae-lens takes the ReLU first


def write(dictionary: Dictionary, folder: str | Path) -> None:
    """Write a dictionary as a folder that ``sae_lens.SAE.load_from_disk`` reads.

    Raises
    ------
    LrbenchError
        Without sae-lens, for a dictionary that it has no architecture for, or a folder that cannot be written.
    """
    try:
        sae_lens = import_module("sae_lens")
    except ImportError as error:
        raise LrbenchError(
            f"to_sae_lens needs sae-lens ({error}): pip install 'linear-representation-bench[peers]'"
        ) from error
    transcoder = dictionary.pair == "transcoder"
    architecture, config, weights = _target(dictionary.activation, dictionary.n_latents, transcoder)
    dtype = torch.promote_types(dictionary.W_enc.dtype, dictionary.W_dec.dtype)
    sae = sae_lens.SAE.from_dict(
        {
            "architecture": architecture,
            "d_in": dictionary.W_enc.shape[1],
            "d_sae": dictionary.n_latents,
            "dtype": str(dtype).removeprefix("torch."),
            "apply_b_dec_to_input": False,
            "metadata": {PAIR_KEY: dictionary.pair},
            **config,
            **({"d_out": dictionary.W_dec.shape[1]} if transcoder else {}),
        }
    )
    weights |= {"W_enc": dictionary.W_enc.T, "W_dec": dictionary.W_dec}
    weights |= {"b_enc": dictionary.b_enc, "b_dec": dictionary.b_dec}
    sae.load_state_dict({name: tensor.cpu() for name, tensor in weights.items()})
    try:
        sae.save_model(folder)
    except OSError as error:
        raise LrbenchError(f"cannot write to the folder {folder}: {error.strerror}") from error


def _target(activation: Activation, n_latents: int, transcoder: bool) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """Return the architecture, its part of the configuration and of the weights."""
    if isinstance(activation, ReLU):
        return ("transcoder" if transcoder else "standard"), {}, {}
    if isinstance(activation, TopK) and not transcoder:
        return "topk", {"k": min(activation.k, n_latents), "rescale_acts_by_decoder_norm": False}, {}
    threshold = getattr(activation, "threshold", None)
    if threshold is not None and isinstance(activation, JumpReLU | BatchTopK):
        thresholds = torch.as_tensor(threshold).clamp_min(0.0).expand(n_latents)
        return ("jumprelu_transcoder" if transcoder else "jumprelu"), {}, {"threshold": thresholds}
    raise LrbenchError(
        f"sae-lens has no {'transcoder' if transcoder else 'SAE'} with the activation {activation!r}:"
        f" it has ReLU{'' if transcoder else ', TopK'} and JumpReLU (batch top-k once its threshold is set)"
    )
