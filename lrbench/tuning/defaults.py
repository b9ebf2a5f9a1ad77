"""Writing chosen values into a method's file, where the method reads its defaults; nothing else in the file changes.

The places are found in the syntax tree. A place that is not plain to see is an error, never a guess, and the changed file has to load
with the new defaults and no others before it takes the old one's place.
"""

from __future__ import annotations

import ast
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lrbench.terms
from lrbench.boundary.fit_client import canonical_elsewhere
from lrbench.catalogue.address import settings_text
from lrbench.errors import LrbenchError, one_line
from lrbench.foreign import replace_file
from lrbench.sdl import OWN

ADVICE = "change the file yourself, `--dry-run` shows the choice without writing it"
LITERAL = (ast.Constant, ast.UnaryOp, ast.USub, ast.UAdd, ast.BinOp, ast.operator, ast.Tuple, ast.Load)


def with_defaults(path: Path, values: Mapping[str, Any]) -> str:
    """Return the text of a method's file with other defaults.

    Parameters
    ----------
    path
        The file. A default stands in it as a keyword of the METHOD's call, as a field of its class, as a keyword of its rule or, named
        ``<term>_<keyword>``, of one of its terms. Where an `SDL` declaration, its rule or term does not have the keyword yet, it gets it.
    values
        The new default by hyper-parameter: numbers, words, None, or tuples of them.

    Raises
    ------
    LrbenchError
        Where a default is read from nowhere in the file that can be changed safely.
    """
    text = _text(path)
    for name, value in values.items():
        text = _changed(text, path, name, _literal(value))
    return text


def check_writable(path: Path) -> None:
    """Raise `LrbenchError` for a file that cannot be replaced, before the minutes of training."""
    if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
        raise LrbenchError(f"{path}: cannot be written; {ADVICE}")


def check_defaults(path: Path, text: str, hyperparameters: Mapping[str, Any]) -> None:
    """Raise `LrbenchError` where a method's file with another text would not load, or have other defaults than all of those given."""
    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder) / path.name
        changed.write_bytes(text.encode())
        try:  # what is left of settings that are all defaults anyway is nothing
            (other,) = canonical_elsewhere(str(changed), settings_text(hyperparameters)[1:-1])
        except LrbenchError as error:
            raise LrbenchError(f"{path}: with the chosen defaults it does not load ({error}); {ADVICE}") from None
    if other:
        raise LrbenchError(f"{path}: its defaults would differ from the chosen ones in {other}; {ADVICE}")


def write_text(path: Path, text: str) -> None:
    """Put a text in the place of a file, whole or not at all; its mode stays.

    Raises
    ------
    LrbenchError
        When the disk refuses.
    """
    check_writable(path)
    try:
        mode = path.stat().st_mode
        replace_file(path, text.encode())
        path.chmod(mode)
    except OSError as error:
        raise LrbenchError(f"cannot write {path}: {error.strerror}; {ADVICE}") from error


def _text(path: Path) -> str:
    """The file as it is, with the ends of its lines."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise LrbenchError(f"{path}: is not UTF-8; {ADVICE}") from None
    if "\r" in text.replace("\r\n", ""):
        raise LrbenchError(f"{path}: has lines that end in a carriage return; {ADVICE}")
    return text


def _changed(text: str, path: Path, name: str, value: str) -> str:
    """Return the text with one default changed."""
    tree = ast.parse(text)
    call = _method(tree)
    if call is None:
        raise LrbenchError(f"{path}: METHOD is not a call such as SDL(...) at the top level; {ADVICE}")
    place = _stated(tree, call, name) or _unstated(tree, call, name)
    if place is None:
        raise LrbenchError(f"{path}: the default of {name} is not found in this file; {ADVICE}")
    if isinstance(place, ast.Call):
        return _with_keyword(text, path, place, name if place is call else _own(tree, place, name), value)
    start, end = _span(text, place)
    if not all(isinstance(node, LITERAL) for node in ast.walk(place)):
        found = one_line(ast.unparse(place), 40)
        raise LrbenchError(
            f"{path}: line {place.lineno}: the default of {name} is {found}, expected a literal such as {value}; {ADVICE}"
        )
    return text[:start] + value + text[end:]


def _method(tree: ast.Module) -> ast.Call | None:
    """The call in ``METHOD = Name(...)``."""
    for line in tree.body:
        targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "METHOD" for target in targets):
            return (
                line.value
                if isinstance(line, ast.Assign | ast.AnnAssign) and isinstance(line.value, ast.Call)
                else None
            )
    return None


def _stated(tree: ast.Module, call: ast.Call, name: str) -> ast.expr | None:
    """The expression that a default is read from, where the file has one."""
    for found in (_keyword(call, name), *(_field(each, name) for each in _classes(tree, _called(call)))):
        if found is not None:
            return found
    part = _part(tree, call, name)
    return None if part is None else _keyword(part, _own(tree, part, name))


def _unstated(tree: ast.Module, call: ast.Call, name: str) -> ast.Call | None:
    """The call that takes a hyper-parameter of an SDL declaration, its rule or its term as a keyword that is not there yet."""
    return call if name in OWN else _part(tree, call, name)


def _part(tree: ast.Module, call: ast.Call, name: str) -> ast.Call | None:
    """The call that makes the term, or else the rule, that a hyper-parameter belongs to."""
    terms, rule = _keyword(call, "terms"), _keyword(call, "rule")
    if name in OWN:
        return None
    for term in terms.elts if isinstance(terms, ast.Tuple | ast.List) else ():
        if isinstance(term, ast.Call) and name.startswith(f"{_term_name(tree, term)}_"):
            return term
    return rule if isinstance(rule, ast.Call) else None


def _own(tree: ast.Module, part: ast.Call, name: str) -> str:
    """What a term or rule calls a hyper-parameter itself: ``weight`` for ``auxk_weight``."""
    term = _term_name(tree, part)
    return name.removeprefix(f"{term}_") if term else name


def _term_name(tree: ast.Module, call: ast.Call) -> str:
    """The name of a term of lrbench's or of the file's own; empty for what is no term."""
    for each in _classes(tree, _called(call)):
        stated = _field(each, "name")
        if isinstance(stated, ast.Constant):
            return str(stated.value)
    of_ours = getattr(lrbench.terms, _called(call), None)
    return str(getattr(of_ours, "name", ""))


def _called(call: ast.Call) -> str:
    """The last name of what is called: ``AuxK`` of ``terms.AuxK(...)``."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _classes(tree: ast.Module, name: str) -> list[ast.ClassDef]:
    """The class of that name in the file, followed by its bases in the file."""
    defined = {line.name: line for line in tree.body if isinstance(line, ast.ClassDef)}
    names = [name]
    for each in names:
        bases = defined[each].bases if each in defined else []
        names += [base.id for base in bases if isinstance(base, ast.Name) and base.id not in names]
    return [defined[each] for each in names if each in defined]


def _field(line: ast.ClassDef, name: str) -> ast.expr | None:
    """The value that a class gives a name."""
    for each in line.body:
        targets = each.targets if isinstance(each, ast.Assign) else [getattr(each, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return getattr(each, "value", None)
    return None


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _with_keyword(text: str, path: Path, call: ast.Call, name: str, value: str) -> str:
    """Return the text with one more keyword at the end of a call."""
    if call.args or any(keyword.arg is None for keyword in call.keywords):
        shown = one_line(ast.unparse(call), 60)
        raise LrbenchError(
            f"{path}: line {call.lineno}: {shown}: expected keywords only, such as {name}={value}; {ADVICE}"
        )
    if call.keywords:
        _, end = _span(text, call.keywords[-1].value)
        changed = f"{text[:end]}, {name}={value}{text[end:]}"
    else:
        end = _span(text, call)[1] - 1
        changed = f"{text[:end]}{name}={value}{text[end:]}"
    try:
        ast.parse(changed)
    except SyntaxError:  # the last value stands in parentheses of its own
        raise LrbenchError(f"{path}: line {call.lineno}: there is no safe place for {name}={value}; {ADVICE}") from None
    return changed


def _span(text: str, node: ast.expr) -> tuple[int, int]:
    """Where an expression stands in the text; its columns count bytes."""
    lines, ends = text.split("\n"), []
    for number, column in ((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)):
        before = lines[number - 1].encode()[:column].decode()
        ends.append(sum(len(line) + 1 for line in lines[: number - 1]) + len(before))
    return ends[0], ends[1]


def _literal(value: Any) -> str:
    """A value as ruff would write it."""
    if isinstance(value, (list, tuple)):
        return f"({', '.join(map(_literal, value))}{',' * (len(value) == 1)})"
    if isinstance(value, str) and value.isprintable() and not set(value) & {'"', "\\"}:
        return f'"{value}"'
    return repr(value)
