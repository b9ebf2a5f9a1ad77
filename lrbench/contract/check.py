"""The contract of a method as a list of named checks, one line of verdict each: `lrbench check` and the tests run the same.

A check is a small function of a `Subject`: it returns what it saw, or raises `Breach` with what is wrong and what to do.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lrbench.catalogue.source import MethodInfo
from lrbench.contract.faults import FAULTS, VIEW_CHANGED, Asked, as_dictionary, settings_fault
from lrbench.contract.subject import Subject, bits, one_thread
from lrbench.dictionary import Dictionary
from lrbench.errors import LrbenchError, describe
from lrbench.method import Method
from lrbench.scoring.metrics import evaluate
from lrbench.sdl import SDL
from lrbench.view import TrainView
from lrbench.world import World

KNOWN_WORLD = 0.3  # of the headline: more than two worlds of one law differ for any method of the catalogue


class Breach(Exception):
    """The contract is broken; the message is the one line that the verdict shows."""


@dataclass(frozen=True)
class Verdict:
    """What came of one check: ``"FAIL"`` is a breach, ``"-"`` says that it was not run because another one failed."""

    check: str
    status: Literal["ok", "FAIL", "-"]
    reason: str
    printed: str = ""  # by the method, meanwhile


@dataclass(frozen=True)
class Check:
    """A named check; ``needs`` names those that have to be ok before it can tell anything."""

    name: str
    needs: tuple[str, ...]
    run: Callable[[Subject], str]


CHECKS: list[Check] = []


def check(name: str, *needs: str) -> Callable[[Callable[[Subject], str]], Callable[[Subject], str]]:
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
    with _caught():
        subject = Subject(info)
    passed: set[str] = set()
    with one_thread():
        for each in CHECKS:
            verdict = _judge(each, subject, passed)
            if verdict.status == "ok":
                passed.add(each.name)
            yield verdict


def _judge(each: Check, subject: Subject, passed: set[str]) -> Verdict:
    for needed in each.needs:
        if needed not in passed:
            return Verdict(each.name, "-", f"not run: it needs the check {needed!r} to be ok")
    with _caught() as printed:
        try:
            return Verdict(each.name, "ok", each.run(subject))
        except Breach as breach:
            reason = " ".join(str(breach).split())
        except (Exception, SystemExit) as error:
            reason = describe(error)[0]
    return Verdict(each.name, "FAIL", reason, printed.getvalue())


@contextlib.contextmanager
def _caught() -> Iterator[io.StringIO]:
    """Catch what a method prints, so that verdicts stay one line each."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        yield text


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
    fault = settings_fault(values)
    if fault is not None:
        raise Breach(fault)
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
    try:
        dictionary = as_dictionary(subject.trial.result)
    except LrbenchError as error:
        raise Breach(str(error)) from error
    return f"returned a Dictionary of {dictionary.n_latents} latents after {subject.trial.seconds:.2f} s"


@check("pair", "fit")
def _pair(subject: Subject) -> str:
    _no_fault("pair", subject.dictionary, subject.view(), subject)
    return f"{subject.method.pair}, and its dictionary says so"


@check("shapes", "fit")
def _shapes(subject: Subject) -> str:
    dictionary, view = subject.dictionary, subject.view()
    _no_fault("shapes", dictionary, view, subject)
    shapes = f"W_enc {tuple(dictionary.W_enc.shape)}, W_dec {tuple(dictionary.W_dec.shape)}"
    return f"{shapes}, width within {view.budget.n_latents}"


@check("dtype and device", "fit")
def _dtype_and_device(subject: Subject) -> str:
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for device in devices:
        view = subject.view(device=device)
        fitted = subject.dictionary if device == "cpu" else subject.fit(subject.fresh(), view, subject.task.fit_seed)
        _no_fault("dtype and device", fitted, view, subject)
    return f"as the data: float32, on {' and '.join(devices)}"


@check("finiteness", "shapes")
def _finiteness(subject: Subject) -> str:
    _no_fault("finiteness", subject.dictionary, subject.view(), subject)
    return "weights, latents and reconstructions are finite"


@check("budget", "fit")
def _budget(subject: Subject) -> str:
    spent = subject.trial.spent
    if spent.share > 1:
        raise Breach(
            f"spent {spent.charged} samples, the budget allows {spent.budget}: {spent.batches} in batches and {spent.head} through head(),"
            f" where {spent.free} are free; a run ends the fit there, and one pass of view.batches() spends it all"
        )
    return f"spent {spent.charged} of {spent.budget} samples"


@check("view", "fit")
def _view(subject: Subject) -> str:
    if subject.trial.view_changed:
        raise Breach(VIEW_CHANGED)
    return "as it was before the fit"


@check("seed", "fit")
def _seed(subject: Subject) -> str:
    again = subject.fit(subject.fresh(), subject.view(), subject.task.fit_seed)
    difference = _difference(subject.dictionary, again)
    if difference:
        raise Breach(f"two fits with one seed differ in {difference}: everything random must follow from seed")
    return "the same seed gives the same bits"


@check("independence", "seed")
def _independence(subject: Subject) -> str:
    _ = subject.trial  # the fit that must leave nothing behind
    seed = subject.other_task.fit_seed
    later = subject.fit(subject.method, subject.view(subject.other_task), seed)
    alone = subject.fit(subject.fresh(), subject.view(subject.other_task), seed)
    difference = _difference(later, alone)
    if difference:
        raise Breach(f"a second fit differs in {difference} from the same fit on its own: keep no state between fits")
    return "a second fit does not depend on the first"


@check("world", "pair", "finiteness")
def _world(subject: Subject) -> str:
    view, spec = subject.view(), subject.task.spec.world
    told = [subject.task.fit_seed, view.seed, *asdict(view.budget).values()]
    rebuilt = [
        number for number in told if torch.equal(World(spec, number).directions[0], subject.task.world.directions[0])
    ]
    if rebuilt:
        raise Breach(
            f"the number {rebuilt[0]} that fit is given rebuilds the world: this is a fault of lrbench, tell us"
        )
    if subject.info.kind == "reference":
        return f"none of the {len(told)} numbers that fit is given rebuilds it; a reference has to know it"
    salted = subject.fit(subject.fresh(), subject.view(subject.salted_task), subject.salted_task.fit_seed)
    public, hidden = (
        evaluate(dictionary, task).scores["headline"]
        for dictionary, task in ((subject.dictionary, subject.task), (salted, subject.salted_task))
    )
    if public - hidden > KNOWN_WORLD:
        raise Breach(
            f"headline {public:.2f} on a world that everybody can rebuild, {hidden:.2f} on a salted one of the same law:"
            " a method learns from its view alone"
        )
    return f"none of the {len(told)} numbers that fit is given rebuilds it; headline {public:.2f}, {hidden:.2f} on a salted one"


@check("save and load", "shapes")
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


def _no_fault(name: str, dictionary: Dictionary, view: TrainView, subject: Subject) -> None:
    """Raise `Breach` with the fault of a dictionary that the named check is about, if it has one."""
    found = FAULTS[name](dictionary, Asked(view, subject.method.kind))
    if found is not None:
        raise Breach(found)


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


def _tensors(dictionary: Dictionary) -> dict[str, Tensor]:
    names = ("W_enc", "b_enc", "W_dec", "b_dec")
    return dict(zip(names, dictionary.weights, strict=True)) | dictionary.activation.state()


def _difference(one: Dictionary, other: Dictionary) -> str:
    """Return the name of the first tensor that is not the same bit by bit, or an empty string."""
    for name, left in _tensors(one).items():
        right = _tensors(other).get(name)
        if right is None or left.shape != right.shape or bits(left) != bits(right):
            return name
    return ""
