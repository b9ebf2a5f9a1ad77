"""Methods by name: the built-in ones and any file that the user names, with hyper-parameters in brackets. Listing imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrbench.catalogue import address
from lrbench.catalogue.files import import_file, matching, modules, no_namesakes, same_file
from lrbench.catalogue.imports import ROOT
from lrbench.catalogue.source import TWINS, MethodInfo, describe_method, hash_of_method
from lrbench.errors import LrbenchError, UnknownName, one_line

if TYPE_CHECKING:
    from lrbench.method import Method

# Twins that an ordinary family also asks, of one method: the table shows what they bring at a bearable cost.
SHOWN = ("topk_sae+resample", "topk_sae+autoanchor")


@lru_cache(maxsize=1)
def method_catalogue() -> list[MethodInfo]:
    """Return every built-in method, each SDL method followed by its twins."""
    return [twin for path in modules("methods").values() for twin in describe_method(path, path.stem)]


def canonical(source: str, inside: str) -> list[str]:
    """Return what stands in brackets for each setting that ``inside`` lists, in one spelling and without what is a default anyway.

    Parameters
    ----------
    source
        The method without brackets, as `load_method` takes it.
    inside
        What the user wrote between the brackets.

    Raises
    ------
    UnknownName, LrbenchError
        As `select_methods`.

    Examples
    --------
    >>> canonical("topk_sae", "l0=2|0.50"), canonical("topk_sae", "k=none")
    (['[l0=2]', '[l0=0.5]'], [''])
    """
    base, _, twin = split(source)
    whole = _joined(f"{base}[{inside}]", twin)
    method = _declared(base, twin, whole)
    declared = method.hyperparameters()
    found = []
    for chosen in address.settings(inside, whole):
        values = _fitting(method, chosen, whole)
        method.with_hyperparameters(**values)  # a value that it refuses is an error now, not in every cell
        found.append(address.settings_text({key: value for key, value in values.items() if value != declared[key]}))
    return found


def select_methods(
    patterns: Sequence[str] = (), canonical_of_file: Callable[[str, str], list[str]] = canonical
) -> list[MethodInfo]:
    """Return the methods that match one of the patterns, all of the catalogue by default.

    Parameters
    ----------
    patterns
        Names, globs, or paths ``FILE.py`` (``FILE.py+anchored`` for a file's anchored twin, and so on). Brackets behind a name
        set hyper-parameters: ``topk_sae[l0=2]``, ``topk_sae[k=32,lr=0.003]+anchored``; listed values are several methods,
        ``topk_sae[l0=1|2]``.
    canonical_of_file
        What stands in for `canonical` where the method is a user's file, which has to be imported for it.

    Raises
    ------
    UnknownName
        For a pattern that matches nothing, or a hyper-parameter that the method lacks.
    LrbenchError
        For a file that cannot be read as a method, or a value that it does not take.

    Examples
    --------
    >>> [info.name for info in select_methods(["topk_sae[l0=2|0.5]+anchored"])]
    ['topk_sae[l0=2]+anchored', 'topk_sae[l0=0.5]+anchored']
    """
    catalogue = method_catalogue()
    if not patterns:
        return catalogue
    named: dict[str, MethodInfo] = {}
    built_in = {info.path for info in catalogue}
    for pattern in patterns:
        base, inside, twin = split(pattern)
        found = _in_file(base, twin) if base.endswith(".py") else _in_catalogue(_joined(base, twin), pattern)
        for info in found:
            ours = info.path in built_in or ROOT in info.path.parents  # a study's own method, for one
            spelled = canonical if ours else canonical_of_file
            chosen = [info] if inside is None else _with_settings(info, spelled(info.source, inside))
            named |= {info.source: info for info in chosen}
    order = {info.name: place for place, info in enumerate(catalogue)}
    methods = sorted(named.values(), key=lambda info: order.get(info.name, len(order)))
    no_namesakes("methods", [info.name for info in methods], "rename one of the files, the file's name is the method's")
    return methods


def methods_for(
    kinds: Sequence[str] | None = None, twins: Sequence[str] = ("anchored",), l0: Sequence[float] = (1.0,)
) -> list[MethodInfo]:
    """Return the methods that a task runs unless told otherwise.

    Parameters
    ----------
    kinds
        What its family asks, see `lrbench.task.Family`; None for every kind, and for the twins in `SHOWN` too.
    twins
        The twins that its family asks of every SDL method.
    l0
        The suite's multiples of the mean L0, see `lrbench.suite.Suite`. Where all kinds are asked, every plain SDL method is asked
        at each: at another one than 1 as the address ``NAME[l0=MULTIPLE]``, behind the others.
    """
    asked = [
        info
        for info in method_catalogue()
        if (kinds is None or info.kind in kinds)
        and (not info.twin or info.twin in twins or (kinds is None and info.name in SHOWN))
    ]
    texts = [address.settings_text({"l0": multiple}) for multiple in l0 if multiple != 1.0]
    plain = [info for info in asked if kinds is None and info.kind == "sdl" and not info.twin]
    return asked + [at_l0 for info in plain for at_l0 in _with_settings(info, texts)]


def load_method(name: str | Path, **hyperparameters: Any) -> Method:
    """Return a method by name or path, with other hyper-parameters where some are given.

    Parameters
    ----------
    name
        A catalogue name (``"topk_sae"``, ``"topk_sae+anchored"``, ``"topk_sae[l0=2]"``) or a path ``FILE.py``.
    hyperparameters
        What differs from the declared values, for instance ``lr=1e-3``.

    Raises
    ------
    UnknownName
        For a name that does not exist, or a hyper-parameter that the method lacks.
    LrbenchError
        For a file that does not import or declares no method, or a value that it does not take.

    Examples
    --------
    >>> load_method("topk_sae[l0=2]").hyperparameters()["l0"]
    2.0
    """
    name = str(name)
    base, inside, twin = split(name)
    method = _declared(base, twin, name)
    chosen = [{}] if inside is None else address.settings(inside, name)
    if len(chosen) > 1:
        raise LrbenchError(f"{name}: stands for {len(chosen)} methods, expected one; leave one value in each list")
    values = chosen[0] | hyperparameters
    return method.with_hyperparameters(**_fitting(method, values, name)) if values else method


def source_hash(source: str) -> str:
    """Return the hash of a method's source as it is on the disk now, see `MethodInfo`."""
    base, _, twin = split(source)
    return hash_of_method(modules("methods").get(base, Path(base)), twin)


def split(name: str) -> tuple[str, str | None, str]:
    """Return what stands for the file, the brackets' inside (None without brackets) and the twin of a method's name.

    Examples
    --------
    >>> split("topk_sae[k=4]+anchored"), split("topk_sae+anchored[k=4]"), split("pca")
    (('topk_sae', 'k=4', 'anchored'), ('topk_sae', 'k=4', 'anchored'), ('pca', None, ''))
    """
    inside: str | None = None
    base, twin = name, ""
    for _ in range(2):  # the brackets may stand before the twin's name or behind it
        found = address.brackets(base)
        if found is not None and inside is None and ("=" in found[1] or _is_plain(found[0])):
            base, inside = found
        plain, sign, last = base.rpartition("+")
        if sign and plain and last in TWINS and not twin:
            base, twin = plain, last
    return base, inside, twin


def is_file(name: str) -> bool:
    """Whether a method is named by the path of its file, not by its name in the catalogue."""
    return split(name)[0].endswith(".py")


def _is_plain(name: str) -> bool:
    """Whether a name can stand before brackets that hold no ``=``, so that they are settings gone wrong and no glob."""
    plain = name.rpartition("+")[0] if name.rpartition("+")[2] in TWINS else name
    return plain.endswith(".py") or plain in modules("methods")


def _joined(base: str, twin: str) -> str:
    return f"{base}+{twin}" if twin else base


def _in_catalogue(glob: str, pattern: str) -> list[MethodInfo]:
    catalogue = method_catalogue()
    try:
        chosen = matching("method", [glob], [info.name for info in catalogue])
    except UnknownName:
        raise UnknownName("method", pattern, [info.name for info in catalogue]) from None
    return [info for info in catalogue if info.name in chosen]


def _in_file(base: str, twin: str) -> list[MethodInfo]:
    try:
        path = Path(base).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a link to itself, a NUL
        raise LrbenchError(f"{base}: no such Python file ({one_line(str(error))})") from error
    ours = modules("methods").get(path.stem)
    built_in = ours is not None and same_file(path, ours)
    if not built_in and split(path.stem)[0] in modules("methods"):
        raise LrbenchError(
            f"{path.name}: a method of the catalogue is called {split(path.stem)[0]!r} already, their records would be"
            " one: rename the file"
        )
    found = {
        info.twin: info
        for info in describe_method(ours if built_in and ours else path, path.stem if built_in else str(path))
    }
    if twin not in found:
        raise LrbenchError(f"{path.name} has no twin {twin!r}: only a file with METHOD = SDL(...) has twins")
    if not built_in and found[twin].kind == "reference":
        raise LrbenchError(f"{path.name}: kind='reference' is for the ends of the catalogue's scale: leave kind out")
    return [found[twin]]


def _with_settings(info: MethodInfo, texts: Sequence[str]) -> list[MethodInfo]:
    """The method with each of the settings."""
    base, _, twin = split(info.source)
    return [
        replace(info, name=_joined(f"{info.path.stem}{text}", twin), source=_joined(f"{base}{text}", twin))
        for text in texts
    ]


def _fitting(method: Method, values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return hyper-parameters in the types that the method declares, or raise `LrbenchError` for one that does not fit."""
    known, fitting = method.hyperparameters(), {}
    for key, value in values.items():
        if key not in known:
            near = get_close_matches(key, known, n=3, cutoff=0.4)
            hint = f"did you mean {', '.join(near)}?" if near else f"expected {', '.join(known) or 'none, it takes no'}"
            raise LrbenchError(f"{name}: unknown hyper-parameter {key!r}: {hint}")
        try:
            fitting[key] = address.like(value, known[key])
        except TypeError as expected:
            raise LrbenchError(f"{name}: {key}={value!r}, expected {expected}") from None
    return fitting


def _declared(base: str, twin: str, name: str) -> Method:
    """Return the method of a file, or its twin, as it is declared."""
    built_in = modules("methods")
    if not base.endswith(".py") and base not in built_in:
        raise UnknownName("method", name, [info.name for info in method_catalogue()])
    module = importlib.import_module(f"lrbench.methods.{base}") if base in built_in else import_file(Path(base))
    from lrbench.method import Method
    from lrbench.sdl import SDL
    from lrbench.twins import MAKERS

    method = getattr(module, "METHOD", None)
    if not isinstance(method, Method):
        raise LrbenchError(f"{base}: expected METHOD = an lrbench.Method, found {type(method).__name__}")
    if twin:
        if not isinstance(method, SDL):
            raise LrbenchError(f"{base} has no twin {twin!r}: its METHOD is a {type(method).__name__}, not an SDL")
        method = MAKERS[twin](method)
    return method
