"""`Dictionary`: its formulas, its file, and what it refuses."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lrbench.activation import Activation, BatchTopK, JumpReLU, ReLU, TopK
from lrbench.dictionary import Dictionary, random_dictionary
from lrbench.errors import LrbenchError
from lrbench.pairing import PAIRS
from lrbench.seeds import generator

ACTIVATIONS = [ReLU(), TopK(2), BatchTopK(2), BatchTopK(2, 0.25), JumpReLU(0.3), JumpReLU(torch.linspace(0, 1, 5))]


def weights() -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(0)
    shapes = {"W_enc": (5, 3), "b_enc": (5,), "W_dec": (5, 4), "b_dec": (4,)}
    return {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}


def make(activation: Activation | None = None, **changes: Any) -> Dictionary:
    return Dictionary(**weights() | {"activation": activation or ReLU(), "pair": "transcoder"} | changes)


def inputs() -> Tensor:
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(1))


def test_encode_and_decode_are_the_papers_formulas() -> None:
    dictionary, x, w = make(JumpReLU(0.3)), inputs(), weights()
    latents, reconstruction = dictionary.encode(x), dictionary.decode(dictionary.encode(x))
    assert latents.shape == (6, 5)
    for s in range(6):
        expected = w["b_dec"].clone()
        for i in range(5):
            z = float((w["W_enc"][i] * x[s]).sum() + w["b_enc"][i])
            assert float(latents[s, i]) == pytest.approx(z if z > 0.3 else 0.0, abs=1e-5)
            expected += (z if z > 0.3 else 0.0) * w["W_dec"][i]
        assert torch.allclose(reconstruction[s], expected, atol=1e-5)
    assert 0 < int((latents > 0).sum()) < 30


def test_missing_biases_are_zero() -> None:
    dictionary = make(b_enc=None, b_dec=None)
    assert torch.equal(dictionary.b_enc, torch.zeros(5))
    assert torch.equal(dictionary.b_dec, torch.zeros(4))
    assert torch.equal(dictionary.encode(torch.zeros(2, 3)), torch.zeros(2, 5))


def test_it_takes_trained_parameters_without_their_history() -> None:
    trained = {name: tensor.requires_grad_() for name, tensor in weights().items()}
    dictionary = make(**trained)
    assert not dictionary.decode(dictionary.encode(inputs())).requires_grad


def test_it_computes_in_its_own_precision() -> None:
    double = make(**{name: tensor.double() for name, tensor in weights().items()})
    assert double.decode(double.encode(inputs())).dtype == torch.float64
    assert torch.allclose(double.encode(inputs()).float(), make().encode(inputs()), atol=1e-5)
    assert make().encode(inputs().double()).dtype == torch.float32


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
@pytest.mark.parametrize("pair", PAIRS)
def test_a_file_gives_the_same_dictionary_back(tmp_path: Path, activation: Activation, pair: str) -> None:
    dictionary = make(activation, pair=pair)
    dictionary.save(tmp_path / "one.safetensors")
    again = Dictionary.load(tmp_path / "one.safetensors")
    assert again.pair == pair
    assert type(again.activation) is type(activation)
    for name, tensor in weights().items():
        assert torch.equal(getattr(again, name), tensor)
        assert getattr(again, name).dtype == tensor.dtype
    assert torch.equal(again.encode(inputs()), dictionary.encode(inputs()))
    assert torch.equal(again.decode(again.encode(inputs())), dictionary.decode(dictionary.encode(inputs())))


def test_weights_that_are_views_of_one_another_can_be_saved(tmp_path: Path) -> None:
    rows = torch.randn(4, 5).T
    Dictionary(rows, None, rows, None, ReLU()).save(tmp_path / "tied.safetensors")
    again = Dictionary.load(tmp_path / "tied.safetensors")
    assert torch.equal(again.W_enc, rows)
    assert torch.equal(again.W_dec, rows)


class Explosive:
    """Pickle runs this when it is loaded."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (Path.touch, (Path("exploded"),))


def test_a_pickle_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil").write_bytes(pickle.dumps(Explosive()))
    torch.save(weights(), "torch")
    for name in ("evil", "torch"):
        with pytest.raises(LrbenchError, match=f"{name}: cannot be read as a dictionary"):
            Dictionary.load(name)
    assert not Path("exploded").exists()


def test_a_file_is_a_json_header_and_numbers(tmp_path: Path) -> None:
    make(TopK(2)).save(str(tmp_path / "file"))
    content = (tmp_path / "file").read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    assert header.pop("__metadata__") == {"format": "lrbench.dictionary/1", "activation": "topk", "pair": "transcoder"}
    assert sorted(header) == ["W_dec", "W_enc", "activation.k", "b_dec", "b_enc"]
    assert len(content) == 8 + size + 4 * (5 * 3 + 5 + 5 * 4 + 4) + 8


def write(path: Path, drop: str = "", metadata: dict[str, str] | None = None, **tensors: Tensor) -> None:
    content = {**weights(), "activation.k": torch.tensor(2), **tensors}
    content.pop(drop, None)
    facts = {"format": "lrbench.dictionary/1", "activation": "topk", "pair": "autoencoder"} | (metadata or {})
    save_file(content, path, metadata={key: value for key, value in facts.items() if key != drop})


def reheaded(path: Path, old: str, new: str) -> None:
    """Write a file whose header says something else than what lies behind it."""
    write(path)
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].replace(old.encode(), new.encode())
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])


FILES: list[tuple[str, Any, str]] = [
    ("missing", lambda path: None, "cannot be read as a dictionary"),
    ("a folder", lambda path: path.mkdir(), "cannot be read as a dictionary"),
    ("empty", lambda path: path.touch(), "cannot be read as a dictionary"),
    ("text", lambda path: path.write_text("W_enc: 1"), "cannot be read as a dictionary"),
    ("foreign", lambda path: save_file(weights(), path), "holds 'no lrbench format'"),
    (
        "newer",
        lambda path: write(path, metadata={"format": "lrbench.dictionary/2"}),
        "holds 'lrbench.dictionary/2', expected",
    ),
    ("no W_dec", lambda path: write(path, drop="W_dec"), "lacks 'W_dec'"),
    ("no pair", lambda path: write(path, drop="pair"), "lacks 'pair'"),
    ("no activation", lambda path: write(path, drop="activation"), "lacks 'activation'"),
    ("no k", lambda path: write(path, drop="activation.k"), "'topk' needs 'k'"),
    ("k = 0", lambda path: write(path, **{"activation.k": torch.tensor(0)}), "k=0"),
    ("two k", lambda path: write(path, **{"activation.k": torch.tensor([1, 2])}), "k"),
    ("strange activation", lambda path: write(path, metadata={"activation": "gelu"}), "unknown activation 'gelu'"),
    ("k = 2.5", lambda path: write(path, **{"activation.k": torch.tensor(2.5)}), "k=2.5"),
    ("infinite k", lambda path: write(path, **{"activation.k": torch.tensor(float("inf"))}), "k=inf"),
    ("true k", lambda path: write(path, **{"activation.k": torch.tensor(True)}), "k=True"),
    ("one tensor too many", lambda path: write(path, W_skip=torch.zeros(3)), "holds the tensor 'W_skip' too"),
    (
        "a state too many",
        lambda path: write(path, metadata={"activation": "relu"}),
        "holds the tensor 'activation.k' too",
    ),
    ("float8", lambda path: write(path, W_enc=torch.zeros(5, 3).to(torch.float8_e4m3fn)), "W_enc: .*float8_e4m3fn"),
    ("a pipe", os.mkfifo, "cannot be read as a dictionary .no regular file"),
    ("a long lie", lambda path: write(path, metadata={"format": "x" * 10_000}), "holds 'xxx.{,90}, expected"),
    ("a long name", lambda path: write(path, metadata={"activation": "x\n" * 10_000}), "unknown activation 'x.{,300}$"),
    ("a header of a kind that torch lacks", lambda path: reheaded(path, "F32", "F4"), "cannot be read as a dictionary"),
    ("a header that is too long", lambda path: reheaded(path, "[5,3]", "[9,9]"), "cannot be read as a dictionary"),
    ("strange pair", lambda path: write(path, metadata={"pair": "pear"}), "pair='pear'"),
    ("wrong shape", lambda path: write(path, b_enc=torch.zeros(4)), "b_enc: expected 5 floats"),
    (
        "wrong dtype",
        lambda path: write(path, W_enc=torch.zeros(5, 3, dtype=torch.int64)),
        "W_enc: expected a float matrix",
    ),
]


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(("prepare", "message"), [row[1:] for row in FILES], ids=[row[0] for row in FILES])
def test_a_file_that_holds_no_dictionary_is_refused_in_one_line(tmp_path: Path, prepare: Any, message: str) -> None:
    path = tmp_path / "file.safetensors"
    prepare(path)
    with pytest.raises(LrbenchError, match=message) as caught:
        Dictionary.load(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    make(TopK(2)).save(path)
    whole = path.read_bytes()
    for length in (4, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(LrbenchError, match=r"cut\.safetensors"):
            Dictionary.load(path)


class Opaque(torch.Tensor):
    """A tensor whose numbers lie elsewhere."""

    @classmethod
    def __torch_dispatch__(cls, *_: Any, **__: Any) -> Any:
        raise RuntimeError("opaque")


class Subclass(torch.Tensor):
    """A tensor that is one."""


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("vector", {"W_enc": torch.zeros(5)}, "W_enc: expected a float matrix .* got torch.float32 of shape"),
    ("integers", {"W_dec": torch.zeros(5, 4, dtype=torch.int64)}, "W_dec: expected a float matrix"),
    ("no tensor", {"W_enc": [[1.0]]}, "W_enc: .* got list"),
    ("transposed", {"W_dec": torch.zeros(4, 5)}, "W_enc has 5 latents and W_dec 4"),
    ("b_enc size", {"b_enc": torch.zeros(4)}, "b_enc: expected 5 floats"),
    ("b_dec size", {"b_dec": torch.zeros(5)}, "b_dec: expected 4 floats"),
    ("b_dec matrix", {"b_dec": torch.zeros(1, 4)}, "b_dec: expected 4 floats"),
    ("no latents", {"W_enc": torch.zeros(0, 3), "W_dec": torch.zeros(0, 4), "b_enc": None}, "latent"),
    ("mixed precision", {"b_enc": torch.zeros(5, dtype=torch.float64)}, "float64"),
    ("activation by name", {"activation": "relu"}, "activation='relu'"),
    ("foreign activation", {"activation": torch.relu}, "activation=<built-in"),
    ("too few thresholds", {"activation": JumpReLU(torch.ones(4))}, "threshold"),
    ("pair", {"pair": "encoder"}, "pair='encoder'"),
    ("float8", {name: t.to(torch.float8_e4m3fn) for name, t in weights().items()}, "W_enc: .* got torch.float8_e4m3fn"),
    ("complex", {"W_enc": torch.zeros(5, 3, dtype=torch.complex64)}, "W_enc: .* got torch.complex64"),
    ("sparse", {"W_enc": torch.ones(5, 3).to_sparse()}, r"W_enc: .* layout torch.sparse_coo: call .to_dense\(\)"),
    ("sparse bias", {"b_dec": torch.ones(4).to_sparse()}, "b_dec: expected 4 floats, got .* layout torch.sparse_coo"),
    ("opaque", {"W_dec": torch.ones(5, 4).as_subclass(Opaque)}, "W_dec: .* got a Opaque: expected a plain tensor"),
    ("two devices", {"W_dec": torch.zeros(5, 4, device="meta")}, "weights of cpu, meta: expected one device"),
    ("an activation's class", {"activation": ReLU}, "activation=.*: expected an object"),
]


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(("changes", "message"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_parts_that_do_not_fit_are_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LrbenchError, match=message) as caught:
        make(**changes)
    assert "\n" not in str(caught.value)


def test_finite_looks_at_everything() -> None:
    assert make(JumpReLU(0.1)).finite()
    for name, tensor in weights().items():
        for bad in (float("nan"), float("inf")):
            spoilt = tensor.clone()
            spoilt.view(-1)[-1] = bad
            assert not make(**{name: spoilt}).finite()
    assert not make(JumpReLU(float("inf"))).finite()


def test_a_random_dictionary_has_unit_rows_drawn_apart() -> None:
    dictionary = random_dictionary(40, 8, 8, generator(0, "init"))
    assert torch.allclose(dictionary.W_enc.norm(dim=1), torch.ones(40))
    assert torch.allclose(dictionary.W_dec.norm(dim=1), torch.ones(40))
    assert (dictionary.W_enc * dictionary.W_dec).sum(1).mean().abs() < 0.2
    assert torch.equal(dictionary.W_enc, random_dictionary(40, 8, 8, generator(0, "init")).W_enc)
    assert not torch.equal(dictionary.W_enc, random_dictionary(40, 8, 8, generator(1, "init")).W_enc)


def test_to_moves_a_copy() -> None:
    dictionary = make(TopK(2))
    copy = dictionary.to("meta")
    assert {getattr(copy, name).device.type for name in weights()} == {"meta"}
    assert dictionary.W_enc.device.type == "cpu"
    assert (copy.activation, copy.pair) == (TopK(2), "transcoder")


def test_a_subclass_and_a_parameter_become_plain_tensors() -> None:
    w = weights()
    dictionary = make(W_enc=w["W_enc"].as_subclass(Subclass), W_dec=torch.nn.Parameter(w["W_dec"]))
    assert {type(t) for t in dictionary.weights} == {Tensor}
    assert torch.equal(dictionary.encode(inputs()), make().encode(inputs()))


def test_the_meta_device_holds_no_numbers(tmp_path: Path) -> None:
    empty = make(TopK(2)).to("meta")
    assert not empty.finite()
    for use in (lambda: empty.to("cpu"), lambda: empty.save(tmp_path / "file")):
        with pytest.raises(LrbenchError, match="the device meta, which holds no numbers"):
            use()
