"""The contract of a method as a list of named checks, one line of verdict each: `lrbench check` and the tests run the same.

A check is a small function of a `Subject`: it returns what it saw, or raises `Breach` with what is wrong and what to do.
"""

from __future__ import annotations

import inspect
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from lrbench.backends import describe
from lrbench.dictionary import Dictionary
from lrbench.method import Method
from lrbench.registry import ANCHORED, MethodInfo, load_method
from lrbench.task import SUITES, Task
from lrbench.view import TrainView

DIMS = (32, 40)  # sites of two sizes, so that a mistaken site shows in the shapes
ROWS = 256  # samples that a dictionary is tried on


class Breach(Exception):
    """The contract is broken; the message is the one line that the verdict shows."""


@dataclass(frozen=True)
class Verdict:
    """What came of one check: ``"FAIL"`` is a breach, ``"-"`` says that it was not run because another one failed."""

    check: str
    status: Literal["ok", "FAIL", "-"]
    reason: str


@dataclass(frozen=True)
class Check:
    """A named check; ``needs`` names the one that has to be ok before it can tell anything."""

    name: str
    needs: str | None
    run: Callable[[Subject], str]


@dataclass
class Meter:
    """Samples that left the views: drawn as batches, and read with `TrainView.head`."""

    drawn: int = 0
    looked: int = 0


@dataclass(frozen=True)
class Trial:
    """The first fit of a method: what it returned and what it did to its surroundings."""

    result: object
    seconds: float
    meter: Meter
    view_changes: list[str]
    rng_changes: list[str]


class Subject:
    """A method under check, with what several checks look at: its first fit.

    Parameters
    ----------
    info
        From `lrbench.registry.select_methods`.

    Raises
    ------
    LrbenchError
        When its file does not import or declares no method.
    """

    def __init__(self, info: MethodInfo) -> None:
        self.info = info
        self.method = self.fresh()
        spec = SUITES["smoke"].scale.task(dims=DIMS)
        self.task, self.other_task = (Task("check/uneven", "smoke", seed, spec) for seed in (0, 1))

    def fresh(self) -> Method:
        """Return the method from a new import of its file, so that nothing of an earlier fit can be left in it."""
        return load_method(f"{self.info.path}{ANCHORED if self.info.name.endswith(ANCHORED) else ''}")

    def view(self, task: Task | None = None, device: str = "cpu") -> TrainView:
        """Return a new view for the method's pair."""
        return (task or self.task).view(self.method.pair, device)

    @cached_property
    def trial(self) -> Trial:
        """The first fit, seed 0, watched."""
        view = self.view()
        facts, rng = _view_facts(view), _rng_states()
        with metered() as meter:
            began = time.perf_counter()
            result = self.method.fit(view, seed=0)
            seconds = time.perf_counter() - began
        return Trial(result, seconds, meter, _changes(facts, _view_facts(view)), _changes(rng, _rng_states()))

    @property
    def dictionary(self) -> Dictionary:
        """The dictionary of the first fit."""
        assert isinstance(self.trial.result, Dictionary)
        return self.trial.result

    def samples(self) -> Tensor:
        """Return inputs to try the dictionary on."""
        return self.view().head(ROWS)[0]


CHECKS: list[Check] = []


def check(name: str, needs: str | None = None) -> Callable[[Callable[[Subject], str]], Callable[[Subject], str]]:
    """Put a function on the list of checks."""

    def register(run: Callable[[Subject], str]) -> Callable[[Subject], str]:
        CHECKS.append(Check(name, needs, run))
        return run

    return register


def check_method(info: MethodInfo) -> Iterator[Verdict]:
    """Yield the verdict of every check, in the order of the list, as soon as it is known.

    Parameters
    ----------
    info
        From `lrbench.registry.select_methods`.

    Raises
    ------
    LrbenchError
        When the file does not import or declares no method: there is nothing to check then.
    """
    subject = Subject(info)
    passed: set[str] = set()
    with one_thread():
        for each in CHECKS:
            verdict = _judge(each, subject, passed)
            if verdict.status == "ok":
                passed.add(each.name)
            yield verdict


def _judge(each: Check, subject: Subject, passed: set[str]) -> Verdict:
    if each.needs is not None and each.needs not in passed:
        return Verdict(each.name, "-", f"not run: it needs the check {each.needs!r} to be ok")
    try:
        return Verdict(each.name, "ok", each.run(subject))
    except Breach as breach:
        return Verdict(each.name, "FAIL", " ".join(str(breach).split()))
    except (Exception, SystemExit) as error:
        return Verdict(each.name, "FAIL", describe(error)[0])


@check("source")
def _source(subject: Subject) -> str:
    info, method = subject.info, subject.method
    for name, read, found in (("kind", info.kind, method.kind), ("pair", info.pair, method.pair)):
        if read != found:
            raise Breach(
                f"the file reads as {name}={read!r} but METHOD has {found!r}; the catalogue does not import files: write"
                f" METHOD = Class({'pair=' if name == 'pair' else ''}...) and every {name} as a literal"
            )
    return f"kind {info.kind}, pair {info.pair}, read without importing"


@check("hyper-parameters")
def _hyperparameters(subject: Subject) -> str:
    method = subject.method
    undeclared = sorted(_attributes(method) - {f.name for f in fields(method)})
    if undeclared:
        raise Breach(
            f"{undeclared[0]!r} is not a dataclass field, so no record holds it: put @dataclass(frozen=True) on the class"
        )
    values = method.hyperparameters()
    missing = [name for name, value in vars(method).items() if name != "pair" and not _held(name, value, values)]
    if missing:
        raise Breach(f"hyperparameters() leaves out the field {missing[0]!r}: records must hold every field")
    for name, value in values.items():
        if not _recordable(value):
            raise Breach(f"{name}={value!r} cannot be recorded: expected a finite number, a string, None or a list of them")
    if method.with_hyperparameters(**values).hyperparameters() != values:
        raise Breach("with_hyperparameters() does not give the values back that it was given")
    number = next((name for name, value in values.items() if type(value) is float), None)
    if number is None:
        return f"{len(values)} recorded: {', '.join(values) or 'it takes none'}"
    changed = method.with_hyperparameters(**{number: values[number] / 2}).hyperparameters()
    if changed != values | {number: values[number] / 2} or method.hyperparameters() != values:
        raise Breach(f"overriding {number} does not change it, it alone, in a copy")
    return f"{len(values)} recorded: {', '.join(values)}; overriding {number} works"


@check("fit")
def _fit(subject: Subject) -> str:
    result = subject.trial.result
    if not isinstance(result, Dictionary):
        raise Breach(f"fit returned {type(result).__name__}, expected lrbench.Dictionary")
    return f"returned a Dictionary of {result.n_latents} latents after {subject.trial.seconds:.2f} s"


@check("pair", needs="fit")
def _pair(subject: Subject) -> str:
    claimed, found = subject.method.pair, subject.dictionary.pair
    if claimed != found:
        raise Breach(f"the method claims {claimed!r}, its dictionary says {found!r}: pass pair= to Dictionary(...)")
    return f"{claimed}, and its dictionary says so"


@check("shapes", needs="fit")
def _shapes(subject: Subject) -> str:
    dictionary, view = subject.dictionary, subject.view()
    found = (dictionary.W_enc.shape[1], dictionary.W_dec.shape[1])
    if found != (view.d_in, view.d_out):
        raise Breach(f"(d_in, d_out) is {found}, expected {(view.d_in, view.d_out)}: rows are features")
    n, allowed = dictionary.n_latents, view.budget.n_latents
    if not 1 <= n <= allowed and subject.method.kind != "reference":
        raise Breach(f"{n} latents, the budget allows 1 to {allowed} (view.budget.n_latents)")
    codes = dictionary.encode(subject.samples())
    if codes.shape != (ROWS, n):
        raise Breach(f"{ROWS} samples give latents of shape {tuple(codes.shape)}, expected {(ROWS, n)}")
    return f"W_enc {tuple(dictionary.W_enc.shape)}, W_dec {tuple(dictionary.W_dec.shape)}, width within {allowed}"


@check("finiteness", needs="fit")
def _finiteness(subject: Subject) -> str:
    if not subject.dictionary.finite():
        raise Breach("the weights hold NaN or infinity")
    codes = subject.dictionary.encode(subject.samples())
    if not bool(torch.isfinite(codes).all() and torch.isfinite(subject.dictionary.decode(codes)).all()):
        raise Breach("the weights are finite, but latents or reconstructions of training samples are not")
    return "weights, latents and reconstructions are finite"


@check("dtype and device", needs="fit")
def _dtype_and_device(subject: Subject) -> str:
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for device in devices:
        view = subject.view(device=device)
        fitted = subject.dictionary if device == "cpu" else subject.fresh().fit(view, seed=0)
        for name, tensor in _weights(fitted).items():
            if tensor.dtype != view.sites[0].dtype:
                raise Breach(f"{name} is {tensor.dtype}, the data {view.sites[0].dtype}: call .float() on it")
            if tensor.device.type != view.device.type:
                raise Breach(f"{name} is on {tensor.device}, the view on {view.device}: end with .to(view.device)")
    return f"as the data: float32, on {' and '.join(devices)}"


@check("budget", needs="fit")
def _budget(subject: Subject) -> str:
    view, meter = subject.view(), subject.trial.meter
    allowed, distinct = view.budget.n_samples, len(view.sites[0])
    spent = meter.drawn + max(0, meter.looked - distinct)  # one look at every distinct sample is free
    if spent > allowed:
        raise Breach(
            f"spent {spent} samples, the budget allows {allowed}: {meter.drawn} in batches and {meter.looked} through head(),"
            f" of which {distinct} are free; one pass of view.batches() spends it all"
        )
    return f"spent {spent} of {allowed} samples"


@check("view", needs="fit")
def _view(subject: Subject) -> str:
    changed = subject.trial.view_changes
    if changed:
        raise Breach(f"fit changed the view's {', '.join(changed)}: head() shows the data itself, clone before writing")
    return "as it was before the fit"


@check("global rng", needs="fit")
def _global_rng(subject: Subject) -> str:
    changed = subject.trial.rng_changes
    if changed:
        raise Breach(f"fit touched the global generator of {', '.join(changed)}: use lrbench.seeds.generator(seed, 'init')")
    return "random, numpy and torch as they were before the fit"


@check("seed", needs="fit")
def _seed(subject: Subject) -> str:
    again = subject.fresh().fit(subject.view(), seed=0)
    difference = _difference(subject.dictionary, again)
    if difference:
        raise Breach(f"two fits with seed 0 differ in {difference}: everything random must follow from seed")
    return "the same seed gives the same bits"


@check("independence", needs="seed")
def _independence(subject: Subject) -> str:
    _ = subject.trial  # the fit that must leave nothing behind
    later = subject.method.fit(subject.view(subject.other_task), seed=1)
    alone = subject.fresh().fit(subject.view(subject.other_task), seed=1)
    difference = _difference(later, alone)
    if difference:
        raise Breach(f"a second fit differs in {difference} from the same fit on its own: keep no state between fits")
    return "a second fit does not depend on the first"


@check("save and load", needs="fit")
def _save_and_load(subject: Subject) -> str:
    dictionary, inputs = subject.dictionary, subject.samples()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dictionary.safetensors"
        dictionary.save(path)
        loaded = Dictionary.load(path)
    codes, again = dictionary.encode(inputs), loaded.encode(inputs)
    if _bits(codes) != _bits(again):
        raise Breach(
            f"{float((codes != again).float().mean()):.1%} of the latents change when the file is loaded again: use an"
            " activation of lrbench.activation, a file holds its name and its state() only"
        )
    if _bits(dictionary.decode(codes)) != _bits(loaded.decode(again)):
        raise Breach("the reconstructions change when the file is loaded again")
    return "a loaded file gives the same latents and reconstructions"


@contextmanager
def metered() -> Iterator[Meter]:
    """Count what any view of this process shows while the context lasts."""
    meter, head, batches = Meter(), TrainView.head, TrainView._batches

    def counted_head(view: TrainView, n_samples: int) -> tuple[Tensor, Tensor]:
        shown = head(view, n_samples)
        meter.looked += len(shown[0])
        return shown

    def counted_batches(view: TrainView, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches(view, size):
            meter.drawn += len(batch[0])
            yield batch

    with patch.object(TrainView, "head", counted_head), patch.object(TrainView, "_batches", counted_batches):
        yield meter


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread, as a run does: sums then come out in the same order."""
    threads = torch.get_num_threads()
    with threadpool_limits(1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _attributes(method: Method) -> set[str]:
    """Return what looks like a hyper-parameter: instance attributes, and annotated names of the classes below `Method`."""
    classes = type(method).__mro__[: type(method).__mro__.index(Method)]
    declared = {
        name
        for cls in classes
        for name, annotation in inspect.get_annotations(cls).items()
        if "ClassVar" not in str(annotation)
    }
    return declared | set(vars(method))


def _held(name: str, value: Any, hyperparameters: dict[str, Any]) -> bool:
    """Whether a field is recorded, by its name or, for the parts of an SDL, by the names within."""
    if isinstance(value, tuple) and value and all(hasattr(part, "__dataclass_fields__") for part in value):
        return all(_held(part.name, part, hyperparameters) for part in value)
    if hasattr(value, "__dataclass_fields__"):
        prefixes = ("", f"{name}_")
        return all(any(prefix + f.name in hyperparameters for prefix in prefixes) for f in fields(value))
    return name in hyperparameters or value == ()


def _recordable(value: Any) -> bool:
    items = value if isinstance(value, list | tuple) else [value]
    return all(
        item is None or isinstance(item, bool | int | str) or (isinstance(item, float) and math.isfinite(item))
        for item in items
    )


def _view_facts(view: TrainView) -> dict[str, object]:
    tensors = {"sites": view.sites, "anchor_sites": view.anchor_sites}
    facts = {f"{name}[{i}]": _bits(t) for name, ts in tensors.items() for i, t in enumerate(ts)}
    return facts | {name: getattr(view, name) for name in ("budget", "seed", "pair")}


def _rng_states() -> dict[str, object]:
    numpy = np.random.get_state()  # noqa: NPY002 (it is watched, not used)
    states: dict[str, object] = {"random": random.getstate(), "numpy": repr(numpy[1:]) + str(np.asarray(numpy[1]).tobytes())}
    states["torch"] = _bits(torch.get_rng_state())
    if torch.cuda.is_available():
        states["torch.cuda"] = _bits(torch.cuda.get_rng_state())
    return states


def _changes(before: dict[str, object], after: dict[str, object]) -> list[str]:
    return [name for name in before if before[name] != after[name]]


def _weights(dictionary: Dictionary) -> dict[str, Tensor]:
    return {name: getattr(dictionary, name) for name in ("W_enc", "b_enc", "W_dec", "b_dec")}


def _difference(one: Dictionary, other: Dictionary) -> str:
    """Return the name of the first tensor that is not the same bit by bit, or an empty string."""
    for name, left in (_weights(one) | one.activation.state()).items():
        right = (_weights(other) | other.activation.state()).get(name)
        if right is None or left.shape != right.shape or _bits(left) != _bits(right):
            return name
    return ""


def _bits(tensor: Tensor) -> bytes:
    """Return a tensor's bytes: NaN equals itself, and 0.0 differs from -0.0."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
