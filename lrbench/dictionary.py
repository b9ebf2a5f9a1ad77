"""`Dictionary`: the one artefact that every method returns and every score reads. Rows are features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lrbench.activation import Activation, describe_value, from_state, tensor_fault
from lrbench.errors import LrbenchError, one_line
from lrbench.pairing import check_pair

FORMAT = "lrbench.dictionary/1"
WEIGHTS = ("W_enc", "b_enc", "W_dec", "b_dec")


class Dictionary:
    """Latents x_q = σ(W_enc x_p + b_enc) and reconstruction x̂_r = x_q W_dec + b_dec (the paper's section 1, transposed).

    Parameters
    ----------
    W_enc
        Encoder rows, one per latent, shape (latent, d_in).
    b_enc
        Encoder bias, shape (latent,), or None for zeros.
    W_dec
        Decoder rows, one per latent, shape (latent, d_out).
    b_dec
        Decoder bias, shape (d_out,), or None for zeros.
    activation
        σ, from `lrbench.activation`.
    pair
        What it was trained to map: ``"autoencoder"`` (a site to itself), ``"transcoder"`` (the first site to the second) or
        ``"crosscoder"`` (all sites, concatenated, to themselves).

    Raises
    ------
    LrbenchError
        When shapes, dtypes or the pair do not fit.

    Examples
    --------
    >>> import torch
    >>> from lrbench import Dictionary
    >>> from lrbench.activation import TopK
    >>> dictionary = Dictionary(torch.eye(3), None, torch.eye(3), None, TopK(1))
    >>> x = torch.tensor([[1.0, 3.0, 2.0]])
    >>> dictionary.encode(x), dictionary.decode(dictionary.encode(x))
    (tensor([[0., 3., 0.]]), tensor([[0., 3., 0.]]))
    """

    def __init__(
        self,
        W_enc: Float[Tensor, "latent d_in"],
        b_enc: Float[Tensor, " latent"] | None,
        W_dec: Float[Tensor, "latent d_out"],
        b_dec: Float[Tensor, " d_out"] | None,
        activation: Activation,
        pair: str = "autoencoder",
    ) -> None:
        for name, weight in (("W_enc", W_enc), ("W_dec", W_dec)):
            fault = tensor_fault(weight)
            if fault is not None or weight.ndim != 2:
                found = fault or describe_value(weight)
                raise LrbenchError(f"{name}: expected a float matrix with one row per latent, got {found}")
        if len(W_enc) == 0:
            raise LrbenchError("W_enc has no rows: expected at least one latent")
        if len(W_enc) != len(W_dec):
            raise LrbenchError(
                f"W_enc has {len(W_enc)} latents and W_dec {len(W_dec)}: expected one row per latent in both"
            )
        b_enc = W_enc.new_zeros(len(W_enc)) if b_enc is None else b_enc
        b_dec = W_dec.new_zeros(W_dec.shape[1]) if b_dec is None else b_dec
        for name, bias, size in (("b_enc", b_enc, len(W_enc)), ("b_dec", b_dec, W_dec.shape[1])):
            fault = tensor_fault(bias)
            if fault is not None or bias.shape != (size,):
                raise LrbenchError(f"{name}: expected {size} floats, got {fault or describe_value(bias)}")
        for what in ("dtype", "device"):
            found_in = {str(getattr(t, what)) for t in (W_enc, b_enc, W_dec, b_dec)}
            if len(found_in) > 1:
                raise LrbenchError(f"weights of {', '.join(sorted(found_in))}: expected one {what} for all four")
        if not callable(activation) or not hasattr(activation, "state") or isinstance(activation, type):
            raise LrbenchError(f"activation={activation!r}: expected an object from lrbench.activation, such as ReLU()")
        threshold = getattr(activation, "threshold", None)
        if isinstance(threshold, Tensor) and threshold.shape not in ((), (1,), (len(W_enc),)):
            raise LrbenchError(f"threshold: expected 1 or {len(W_enc)} numbers, got {describe_value(threshold)}")
        self.W_enc, self.b_enc, self.W_dec, self.b_dec = (
            t.detach().as_subclass(Tensor) for t in (W_enc, b_enc, W_dec, b_dec)
        )
        self.activation = activation
        self.pair = check_pair(pair)

    @property
    def n_latents(self) -> int:
        """Number of latents n_q."""
        return len(self.W_enc)

    def encode(self, x: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch latent"]:
        """Return the latents of a batch."""
        return self.activation(torch.addmm(self.b_enc, x.to(self.W_enc), self.W_enc.T))

    def decode(self, latents: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch d_out"]:
        """Return the reconstruction from latents."""
        return torch.addmm(self.b_dec, latents.to(self.W_dec), self.W_dec)

    @property
    def weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """W_enc, b_enc, W_dec, b_dec."""
        return self.W_enc, self.b_enc, self.W_dec, self.b_dec

    def to(self, device: str | torch.device) -> Dictionary:
        """Return a copy whose tensors live on a device, or raise `LrbenchError` when they hold no numbers."""
        if self.W_enc.is_meta and torch.device(device).type != "meta":
            raise LrbenchError(
                "the weights are on the device meta, which holds no numbers: build the dictionary on cpu"
            )
        w_enc, b_enc, w_dec, b_dec = (t.to(device) for t in self.weights)
        return Dictionary(w_enc, b_enc, w_dec, b_dec, self.activation, self.pair)

    def float(self) -> Dictionary:
        """Return a copy in float32."""
        w_enc, b_enc, w_dec, b_dec = (t.float() for t in self.weights)
        return Dictionary(w_enc, b_enc, w_dec, b_dec, self.activation, self.pair)

    def finite(self) -> bool:
        """Whether no weight is NaN or infinite; none of them is a number on the device meta."""
        if self.W_enc.is_meta:
            return False
        return all(bool(torch.isfinite(t).all()) for t in (*self.weights, *self.activation.state().values()))

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, which holds numbers only: loading it runs no code."""
        tensors = dict(zip(WEIGHTS, self.to("cpu").weights, strict=True))
        tensors |= {f"activation.{key}": value for key, value in self.activation.state().items()}
        copies = {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}
        save_file(copies, path, metadata={"format": FORMAT, "activation": self.activation.name, "pair": self.pair})

    @classmethod
    def load(cls, path: str | Path) -> Dictionary:
        """Read what `save` wrote.

        Raises
        ------
        LrbenchError
            When the file is missing, damaged or of another kind.
        """
        try:
            if not Path(path).is_file():  # reading a pipe would wait for ever
                raise FileNotFoundError("no regular file")
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        except (OSError, SafetensorError, ValueError, TypeError, RuntimeError, AttributeError) as error:
            raise LrbenchError(
                f"{path}: cannot be read as a dictionary ({one_line(str(error))}); expected a file from Dictionary.save"
            ) from error
        if metadata.get("format") != FORMAT:
            raise LrbenchError(
                f"{path}: holds {metadata.get('format', 'no lrbench format')!r:.80}, expected {FORMAT!r}"
            )
        state = {
            key.removeprefix("activation."): value for key, value in tensors.items() if key.startswith("activation.")
        }
        try:
            w_enc, b_enc, w_dec, b_dec = (tensors[name] for name in WEIGHTS)
            activation = from_state(metadata["activation"], state)
            found = cls(w_enc, b_enc, w_dec, b_dec, activation, metadata["pair"])
        except KeyError as missing:
            raise LrbenchError(f"{path}: lacks {missing}; expected a file from Dictionary.save") from missing
        except LrbenchError as error:
            raise LrbenchError(f"{path}: {one_line(str(error))}") from error
        for name in tensors.keys() - {*WEIGHTS} - {f"activation.{key}" for key in activation.state()}:
            raise LrbenchError(f"{path}: holds the tensor {name!r} too; expected a file from Dictionary.save")
        return found

    @classmethod
    def from_sae_lens(cls, sae: Any) -> Dictionary:
        """Return a trained sae-lens SAE as a dictionary with the same latents and reconstructions.

        Parameters
        ----------
        sae
            An SAE of sae-lens 6: standard, topk, jumprelu, (matryoshka) batchtopk, gated, or a transcoder without a skip
            connection. Biases that it subtracts before encoding, gates and decoder norms are folded in.

        Raises
        ------
        LrbenchError
            For another architecture, or one that normalises its input.

        Examples
        --------
        >>> from sae_lens import SAE  # doctest: +SKIP
        >>> dictionary = Dictionary.from_sae_lens(SAE.load_from_disk("my_sae"))  # doctest: +SKIP
        >>> lrbench.score(dictionary, lrbench.load_task("superposition/1.30x"))["headline"]  # doctest: +SKIP
        """
        from lrbench.sae_lens import arguments_from

        return cls(**arguments_from(sae))

    def to_sae_lens(self, folder: str | Path) -> None:
        """Write a folder that ``sae_lens.SAE.load_from_disk`` reads; needs the package sae-lens.

        Raises
        ------
        LrbenchError
            When sae-lens is missing or has no architecture for this activation and pair, or the folder cannot be written.
        """
        from lrbench.sae_lens import write

        write(self, folder)


def random_dictionary(
    n_latents: int, d_in: int, d_out: int, rng: torch.Generator, pair: str = "autoencoder"
) -> Dictionary:
    """Return unit Gaussian rows, drawn apart for both sides: the floor that every headline score is measured from."""
    from lrbench.activation import ReLU

    rows = [torch.nn.functional.normalize(torch.randn(n_latents, d, generator=rng), dim=1) for d in (d_in, d_out)]
    return Dictionary(rows[0], None, rows[1], None, ReLU(), pair)
