"""What crosses the boundary: a request with the view, and back a start, what is kept meanwhile, then one answer with the dictionary.

In between a fit may ask for blocks of a view that streams. JSON and safetensors only; a block is raw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lrbench.boundary.wire import Breach
from lrbench.longrun.report import Report
from lrbench.record import JsonScalar
from lrbench.streaming.meter import Spent

if TYPE_CHECKING:
    from torch import Tensor

    from lrbench.dictionary import Dictionary
    from lrbench.longrun.keeper import Sink
    from lrbench.streaming.stream import Sites
    from lrbench.view import TrainView

SITE, ANCHOR, START, STATE = "site.", "anchor.", "start.", "activation."
WEIGHTS = ("W_enc", "b_enc", "W_dec", "b_dec")
SMALL = 1 << 26  # bytes that every answer may have, so that one of a wrong size is told what is wrong with it


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DictionaryFacts(_Message):
    """What is known of a dictionary beside its tensors."""

    activation: str
    pair: str


class Kept(_Message):
    """What is to be kept of a fit, see `lrbench.longrun.keeper.Keeping`; with ``resumes`` a checkpoint follows the request as a frame."""

    every: float
    rows: bool
    resumes: bool


class Request(_Message):
    """Fit this method on the view that follows, or, with ``settings``, say how its addresses are spelled.

    ``stream`` holds d_site of every site where samples are to be asked for.
    """

    source: str
    settings: str | None = None
    seed: int = 0
    threads: int = 1
    device: str = "cpu"
    pair: str = ""
    view_seed: int = 0
    budget: dict[str, Any] = {}
    stream: list[int] | None = None
    start: DictionaryFacts | None = None
    kept: Kept | None = None


class Started(_Message):
    """The method is loaded and begins to fit; these are its hyper-parameters."""

    kind: Literal["started"] = "started"
    key: str
    hyperparameters: dict[str, JsonScalar | list[JsonScalar]]


class Saved(_Message):
    """A checkpoint follows."""

    kind: Literal["saved"] = "saved"
    key: str


class Reported(_Message):
    """How far the fit is."""

    kind: Literal["reported"] = "reported"
    key: str
    report: Report


class Noted(_Message):
    """A line for the user."""

    kind: Literal["noted"] = "noted"
    key: str
    text: str


class Wanted(_Message):
    """Send this block of the stream."""

    kind: Literal["wanted"] = "wanted"
    key: str
    block: int


class Answer(_Message):
    """What came of it. ``names`` answers a request for settings; a dictionary comes with what it took, and its tensors follow the message."""

    kind: Literal["answer"] = "answer"
    key: str
    status: Literal["ok", "failed", "skipped"]
    reason: str | None = None
    traceback: str | None = None
    dictionary: DictionaryFacts | None = None
    spent: Spent | None = None
    names: list[str] | None = None


Message = Started | Wanted | Saved | Reported | Noted | Answer
MESSAGES: dict[object, type[Message]] = {
    "started": Started, "wanted": Wanted, "saved": Saved, "reported": Reported, "noted": Noted,
}  # fmt: skip


def parsed(header: dict[str, Any]) -> Message:
    """Return a message from the other side, or raise `Breach`."""
    try:
        return MESSAGES.get(str(header.get("kind")), Answer).model_validate(header, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "message"
        raise Breach(f"it sent a message that is none: {where}: {first['msg']}") from error


def deliver(message: Saved | Reported | Noted, body: bytearray, sink: Sink) -> None:
    """Hand what the other side says between its start and its answer to a sink that believes nothing, or raise `Breach`."""
    if isinstance(message, Saved):
        sink.checkpoint(bytes(body))
    elif body:
        raise Breach("it sent bytes behind a message that has none")
    elif isinstance(message, Reported):
        sink.report(message.report)
    else:
        sink.note(message.text)


def pack_view(view: TrainView, **facts: Any) -> tuple[Request, bytes]:
    """Return a request and the tensors of a view; ``facts`` are the other fields of `Request`."""
    from lrbench.streaming.stream import Stream

    stream = list(view.widths) if isinstance(view.sites, Stream) else None
    tensors = (
        {} if isinstance(view.sites, Stream) else {f"{SITE}{place}": site for place, site in enumerate(view.sites)}
    )
    tensors |= {f"{ANCHOR}{place}": rows for place, rows in enumerate(view.anchor_sites)}
    start = None
    if view.start is not None:
        start, weights = _facts_and_tensors(view.start)
        tensors |= {f"{START}{name}": tensor for name, tensor in weights.items()}
    budget = asdict(view.budget)
    request = Request(pair=view.pair, view_seed=view.seed, budget=budget, stream=stream, start=start, **facts)
    return request, _as_bytes(tensors)


def unpack_view(request: Request, body: bytearray, draw: Callable[[int], Sites] | None = None) -> TrainView:
    """Return the view that `pack_view` packed, on the CPU; ``draw`` gives the blocks of a stream."""
    from lrbench.streaming.stream import Stream
    from lrbench.view import Budget, TrainView

    tensors = _as_tensors(body)
    anchors = _numbered(tensors, ANCHOR)
    sites: tuple[Tensor, ...] | Stream = _numbered(tensors, SITE)
    if request.stream is not None:
        assert draw is not None
        sites = Stream(draw, tuple(request.stream))
    weights = {name.removeprefix(START): tensor for name, tensor in tensors.items() if name.startswith(START)}
    start = None if request.start is None else _built(request.start, weights)
    return TrainView(sites, anchors, Budget(**request.budget), request.view_seed, request.pair, start)


def pack_dictionary(dictionary: Dictionary) -> tuple[DictionaryFacts, bytes]:
    """Return a dictionary as its facts and the bytes of its tensors."""
    facts, tensors = _facts_and_tensors(dictionary)
    return facts, _as_bytes(tensors)


def unpack_dictionary(facts: DictionaryFacts, body: bytearray) -> Dictionary:
    """Return the dictionary of an answer, on the CPU.

    Raises
    ------
    LrbenchError
        For parts that do not fit, or an activation that is not of `lrbench.activation`.
    Breach
        For bytes that are no tensors.
    """
    from safetensors import SafetensorError

    try:
        tensors = _as_tensors(body)
        return _built(facts, tensors)
    except (SafetensorError, KeyError, ValueError) as error:
        raise Breach(f"it sent no readable dictionary ({type(error).__name__}: {error})") from error


def largest_answer(view: TrainView) -> int:
    """Return how many bytes the dictionary of an answer may have: twice what float64 needs for the budget, and never little."""
    latents, width = view.budget.n_latents, view.d_in + view.d_out
    return max(SMALL, 2 * 8 * (latents * (width + 4) + width))


def _facts_and_tensors(dictionary: Dictionary) -> tuple[DictionaryFacts, dict[str, Tensor]]:
    tensors = dict(zip(WEIGHTS, dictionary.weights, strict=True))
    tensors |= {f"{STATE}{name}": value for name, value in dictionary.activation.state().items()}
    return DictionaryFacts(activation=dictionary.activation.name, pair=dictionary.pair), tensors


def _built(facts: DictionaryFacts, tensors: dict[str, Tensor]) -> Dictionary:
    from lrbench.activation import from_state
    from lrbench.dictionary import Dictionary

    state = {name.removeprefix(STATE): tensor for name, tensor in tensors.items() if name.startswith(STATE)}
    w_enc, b_enc, w_dec, b_dec = (tensors[name] for name in WEIGHTS)
    return Dictionary(w_enc, b_enc, w_dec, b_dec, from_state(facts.activation, state), facts.pair)


def _numbered(tensors: dict[str, Tensor], kind: str) -> tuple[Tensor, ...]:
    return tuple(tensors[f"{kind}{place}"] for place in range(sum(name.startswith(kind) for name in tensors)))


def _as_bytes(tensors: dict[str, Tensor]) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()})


def _as_tensors(body: bytearray) -> dict[str, Tensor]:
    from safetensors.torch import load

    content = bytes(body)
    body.clear()  # at the paper's scale it is large
    return load(content)
