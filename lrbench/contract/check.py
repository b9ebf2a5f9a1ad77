"""The contract of a method as a list of named checks, one line of verdict each: `lrbench check` and the tests run the same.

A check is a small function of a `Subject`: it returns what it saw, or raises `Breach` with what is wrong and what to do.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lrbench.catalogue.source import MethodInfo
from lrbench.contract.subject import ROWS, Subject, bits, one_thread
from lrbench.dictionary import Dictionary
from lrbench.errors import describe
from lrbench.method import Method
from lrbench.record import recordable
from lrbench.sdl import SDL


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
        From `lrbench.catalogue.methods.select_methods`.

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
    parts = {"rule", "terms"} if isinstance(method, SDL) else set()  # recorded one by one, by the names within
    missing = sorted({f.name for f in fields(method)} - parts - {"pair", *values})
    if missing:
        raise Breach(f"hyperparameters() leaves out the field {missing[0]!r}: records must hold every field")
    for name, value in values.items():
        if not recordable(value):
            raise Breach(
                f"{name}={value!r} cannot be recorded: expected a finite number, a string, None or a list of them"
            )
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


@check("finiteness", needs="shapes")
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
    if subject.trial.view_changed:
        raise Breach("fit wrote into its view: head() shows the data itself, clone before writing")
    return "as it was before the fit"


@check("global rng", needs="fit")
def _global_rng(subject: Subject) -> str:
    touched = subject.trial.rngs_touched
    if touched:
        raise Breach(
            f"fit touched the global generator of {', '.join(touched)}: use lrbench.seeds.generator(seed, 'init')"
        )
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


@check("save and load", needs="shapes")
def _save_and_load(subject: Subject) -> str:
    dictionary, inputs = subject.dictionary, subject.samples()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dictionary.safetensors"
        dictionary.save(path)
        loaded = Dictionary.load(path)
    codes, again = dictionary.encode(inputs), loaded.encode(inputs)
    if bits(codes) != bits(again):
        raise Breach(
            f"{float((codes != again).float().mean()):.1%} of the latents change when the file is loaded again: use an"
            " activation of lrbench.activation, a file holds its name and its state() only"
        )
    if bits(dictionary.decode(codes)) != bits(loaded.decode(again)):
        raise Breach("the reconstructions change when the file is loaded again")
    return "a loaded file gives the same latents and reconstructions"


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


def _weights(dictionary: Dictionary) -> dict[str, Tensor]:
    return {name: getattr(dictionary, name) for name in ("W_enc", "b_enc", "W_dec", "b_dec")}


def _difference(one: Dictionary, other: Dictionary) -> str:
    """Return the name of the first tensor that is not the same bit by bit, or an empty string."""
    for name, left in (_weights(one) | one.activation.state()).items():
        right = (_weights(other) | other.activation.state()).get(name)
        if right is None or left.shape != right.shape or bits(left) != bits(right):
            return name
    return ""
