"""To and from sae-lens: against the installed package for every architecture it has, and what can be said without it."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import lrbench
from lrbench.activation import Activation, BatchTopK, JumpReLU, ReLU, TopK
from lrbench.cli import main
from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError
from lrbench.theory import certify

D_IN, D_OUT, LATENTS, BATCH = 12, 7, 20, 64
BIASED = {"apply_b_dec_to_input": True}


@pytest.fixture
def sae_lens() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages that it imports
        return pytest.importorskip("sae_lens")


def randomise(sae: Any) -> Any:
    """Give every parameter a value that matters: biases, gates and thresholds start at zero, where mistakes hide."""
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=rng))
            if name == "threshold":  # some negative, which sae-lens takes for zero
                parameter.add_(0.3)
    return sae


def inputs() -> torch.Tensor:
    return torch.randn(BATCH, D_IN, generator=torch.Generator().manual_seed(1))


def assert_equal(sae: Any, dictionary: Dictionary) -> None:
    x = inputs()
    with torch.no_grad():
        codes = sae.encode(x).float()
        assert (codes > 0).any(0).sum() > LATENTS // 4  # the comparison is about something
        assert (codes == 0).any()
        torch.testing.assert_close(dictionary.encode(x).float(), codes, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(dictionary.decode(codes).float(), decoded(sae, codes), atol=1e-5, rtol=1e-5)


def decoded(sae: Any, codes: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = sae.decode(codes.to(sae.W_dec)).float()
    return result


INFERENCE = [
    ("standard", {}),
    ("standard", BIASED),
    ("topk", {"k": 3}),
    ("topk", {"k": 3, "rescale_acts_by_decoder_norm": True, **BIASED}),
    ("jumprelu", {}),
    ("jumprelu", BIASED),
    ("gated", {}),
    ("gated", BIASED),
    ("transcoder", {"d_out": D_OUT}),
    ("jumprelu_transcoder", {"d_out": D_OUT}),
]


@pytest.mark.peers
@pytest.mark.parametrize(("architecture", "options"), INFERENCE, ids=str)
def test_a_trained_sae_is_scored_here(sae_lens: Any, architecture: str, options: dict[str, Any]) -> None:
    config = {"architecture": architecture, "d_in": D_IN, "d_sae": LATENTS, "apply_b_dec_to_input": False, **options}
    sae = randomise(sae_lens.SAE.from_dict(config))
    dictionary = Dictionary.from_sae_lens(sae)
    assert dictionary.pair == ("transcoder" if "transcoder" in architecture else "autoencoder")
    assert dictionary.W_enc.shape == (LATENTS, D_IN)
    assert_equal(sae, dictionary)


@pytest.mark.peers
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Standard", {}),
        ("TopK", {"k": 3}),
        ("TopK", {"k": 3, "rescale_acts_by_decoder_norm": False}),
        ("JumpReLU", {}),
        ("Gated", {}),
    ],
    ids=str,
)
def test_an_sae_in_its_training_form_is_scored_here(sae_lens: Any, name: str, options: dict[str, Any]) -> None:
    config = getattr(sae_lens, f"{name}TrainingSAEConfig")(d_in=D_IN, d_sae=LATENTS, **options)
    sae = randomise(getattr(sae_lens, f"{name}TrainingSAE")(config))
    if name == "JumpReLU":
        sae.threshold.data.clamp_(min=0.0)  # as its training step does
    assert_equal(sae, Dictionary.from_sae_lens(sae))


@pytest.mark.peers
@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize(
    ("name", "more"), [("BatchTopK", {}), ("MatryoshkaBatchTopK", {"matryoshka_widths": [5, LATENTS]})]
)
def test_batch_topk_is_taken_as_sae_lens_saves_it(
    sae_lens: Any, tmp_path: Path, name: str, more: dict[str, Any], rescale: bool
) -> None:
    config_class, sae_class = (getattr(sae_lens, f"{name}TrainingSAE{part}") for part in ("Config", ""))
    config = config_class(d_in=D_IN, d_sae=LATENTS, k=3.0, rescale_acts_by_decoder_norm=rescale, **more)
    sae = randomise(sae_class(config))
    sae.topk_threshold.fill_(1.3)
    dictionary = Dictionary.from_sae_lens(sae)
    sae.save_inference_model(tmp_path)
    assert_equal(sae_lens.SAE.load_from_disk(tmp_path), dictionary)


@pytest.mark.peers
@pytest.mark.parametrize(("architecture", "options"), INFERENCE[:8], ids=str)
def test_it_gets_a_certificate_like_any_other(
    sae_lens: Any, tmp_path: Path, architecture: str, options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    task = lrbench.load_task("superposition/1.30x", "smoke")
    width = task.view().sites[0].shape[1]
    config = {"architecture": architecture, "d_in": width, "d_sae": LATENTS, "apply_b_dec_to_input": False, **options}
    dictionary = Dictionary.from_sae_lens(randomise(sae_lens.SAE.from_dict(config)))
    dictionary.save(tmp_path / "sae.safetensors")
    assert main(["certify", str(tmp_path / "sae.safetensors"), "--task", task.name, "--suite", "smoke", "--json"]) == 0
    printed, here = json.loads(capsys.readouterr().out), certify(dictionary, task.world).to_dict()
    assert sum(printed["classes"].values()) == LATENTS
    assert printed["classes"] == here["classes"]
    assert printed["approximate_loss"] == pytest.approx(here["approximate_loss"])


@pytest.mark.peers
def test_half_precision_is_widened(sae_lens: Any) -> None:
    config = {"architecture": "standard", "d_in": D_IN, "d_sae": LATENTS, "dtype": "bfloat16", **BIASED}
    dictionary = Dictionary.from_sae_lens(randomise(sae_lens.SAE.from_dict(config)))
    full = Dictionary.from_sae_lens(randomise(sae_lens.SAE.from_dict(config | {"dtype": "float32"})))
    assert dictionary.W_enc.dtype == dictionary.b_enc.dtype == torch.float32
    torch.testing.assert_close(dictionary.encode(inputs()), full.encode(inputs()), atol=0.1, rtol=0.05)


@pytest.mark.peers
def test_what_is_no_dictionary_is_refused(sae_lens: Any) -> None:
    base = {"d_in": D_IN, "d_sae": LATENTS, "apply_b_dec_to_input": False}
    for architecture, more in (("abstopk", {"k": 3}), ("skip_transcoder", {"d_out": D_OUT})):
        sae = sae_lens.SAE.from_dict({"architecture": architecture, **base, **more})
        with pytest.raises(LrbenchError, match=f"architecture '{architecture}'"):
            Dictionary.from_sae_lens(sae)
    sae = randomise(sae_lens.SAE.from_dict({"architecture": "standard", "normalize_activations": "layer_norm", **base}))
    with pytest.raises(LrbenchError, match="depends on the sample"):
        Dictionary.from_sae_lens(sae)
    sae.cfg.normalize_activations = "expected_average_only_in"
    with pytest.raises(LrbenchError, match="fold_activation_norm_scaling_factor"):
        Dictionary.from_sae_lens(sae)
    folded = randomise(
        sae_lens.SAE.from_dict(
            {"architecture": "standard", "normalize_activations": "expected_average_only_in", **base}
        )
    )
    folded.fold_activation_norm_scaling_factor(1.7)
    assert_equal(folded, Dictionary.from_sae_lens(folded))


def dictionary_with(activation: Activation, pair: str = "autoencoder") -> Dictionary:
    rng = torch.Generator().manual_seed(2)
    d_out = D_OUT if pair == "transcoder" else D_IN
    shapes = ((LATENTS, D_IN), (LATENTS,), (LATENTS, d_out), (d_out,))
    w_enc, b_enc, w_dec, b_dec = (torch.randn(shape, generator=rng) for shape in shapes)
    return Dictionary(w_enc, b_enc, w_dec, b_dec, activation, pair)


THRESHOLDS = torch.linspace(0.0, 2.0, LATENTS)
EXPORTED = [
    (ReLU(), "autoencoder", "standard"),
    (ReLU(), "transcoder", "transcoder"),
    (ReLU(), "crosscoder", "standard"),
    (TopK(3), "autoencoder", "topk"),
    (TopK(3), "crosscoder", "topk"),
    (TopK(LATENTS + 5), "autoencoder", "topk"),
    (BatchTopK(3, threshold=1.1), "autoencoder", "jumprelu"),
    (BatchTopK(3, threshold=-0.5), "autoencoder", "jumprelu"),
    (JumpReLU(0.7), "autoencoder", "jumprelu"),
    (JumpReLU(THRESHOLDS), "crosscoder", "jumprelu"),
    (JumpReLU(THRESHOLDS), "transcoder", "jumprelu_transcoder"),
]


@pytest.mark.peers
@pytest.mark.parametrize(("activation", "pair", "architecture"), EXPORTED, ids=str)
def test_a_dictionary_loads_there_and_comes_back(
    sae_lens: Any, tmp_path: Path, activation: Activation, pair: str, architecture: str
) -> None:
    dictionary = dictionary_with(activation, pair)
    dictionary.to_sae_lens(tmp_path / "sae")
    sae = sae_lens.SAE.load_from_disk(tmp_path / "sae")
    assert sae.cfg.architecture() == architecture
    assert_equal(sae, dictionary)
    back = Dictionary.from_sae_lens(sae)
    assert back.pair == pair
    assert torch.equal(back.encode(inputs()), dictionary.encode(inputs()))


@pytest.mark.peers
def test_what_sae_lens_has_no_name_for_is_refused(sae_lens: Any, tmp_path: Path) -> None:
    for activation, pair in ((TopK(3), "transcoder"), (BatchTopK(3), "autoencoder")):
        with pytest.raises(LrbenchError, match="sae-lens has no"):
            dictionary_with(activation, pair).to_sae_lens(tmp_path / "sae")
    assert not (tmp_path / "sae").exists()
    (tmp_path / "file").touch()
    with pytest.raises(LrbenchError, match="cannot write to the folder"):
        dictionary_with(ReLU()).to_sae_lens(tmp_path / "file")


def test_gates_and_biases_fold_without_the_package() -> None:
    """The gated SAE as its paper writes it (Rajamanoharan et al. 2024a), with b_dec subtracted first."""
    rng = torch.Generator().manual_seed(3)
    w, w_dec = torch.randn(D_IN, LATENTS, generator=rng), torch.randn(LATENTS, D_IN, generator=rng)
    b_gate, b_mag, r_mag = (torch.randn(LATENTS, generator=rng) for _ in range(3))
    b_dec = torch.randn(D_IN, generator=rng)
    cfg = SimpleNamespace(
        architecture=lambda: "gated", normalize_activations="none", metadata=SimpleNamespace(), **BIASED
    )
    sae = SimpleNamespace(cfg=cfg, W_enc=w, W_dec=w_dec, b_dec=b_dec, b_gate=b_gate, b_mag=b_mag, r_mag=r_mag)
    centred = inputs() - b_dec
    gate = centred @ w + b_gate > 0
    expected = gate * (centred @ (w * r_mag.exp()) + b_mag).relu()
    torch.testing.assert_close(Dictionary.from_sae_lens(sae).encode(inputs()), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("value", [None, torch.nn.Linear(2, 2), {"W_enc": 1}], ids=["None", "module", "dict"])
def test_what_is_no_sae_is_one_clear_line(value: object) -> None:
    with pytest.raises(LrbenchError, match=f"^{type(value).__name__}: expected an SAE of sae-lens"):
        Dictionary.from_sae_lens(value)


def test_without_the_package_the_message_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sae_lens", None)
    with pytest.raises(LrbenchError, match=r"pip install 'linear-representation-bench\[peers\]'"):
        dictionary_with(ReLU()).to_sae_lens(tmp_path)
    assert not list(tmp_path.iterdir())
