"""What a method's file declares, read without importing it.

A file's name is its identity, its docstring's first line its summary, and ``METHOD = SDL(...)`` marks a method that has twins.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from pathlib import Path

from lrbench.catalogue.grid import without_grid
from lrbench.catalogue.imports import hash_of_code
from lrbench.errors import LrbenchError

# The twins of an SDL method X, made by `lrbench.twins`: ``X+NAME`` and what stands in a listing.
TWINS = {
    "anchored": "{} with the paper's feature anchoring",
    "resample": "{} with dead latents started anew during the run",
    "autoanchor": "{} anchored to the directions on which two short runs agree",
}
KINDS = ("sdl", "baseline", "reference")
TWINS_FILE = Path(__file__).parent.parent / "twins.py"


@dataclass(frozen=True)
class MethodInfo:
    """A method of the catalogue, or of a file that the user named.

    Parameters
    ----------
    name
        The file's name without its ending, with ``[key=value]`` where hyper-parameters differ and ``+TWIN`` for a twin.
    summary
        The first line of the file's docstring.
    kind
        ``"sdl"``, ``"baseline"`` or ``"reference"``.
    pair
        The pairing it is evaluated on.
    path
        Its file.
    source
        What `load_method` takes to load it again: a catalogue name or a path.
    source_hash
        Hash of the file, but for its grid, and of all the code of lrbench that it imports, see `lrbench.catalogue.imports`.
    twin
        A name of `TWINS`, or empty for the method itself.
    """

    name: str
    summary: str
    kind: str
    pair: str
    path: Path
    source: str
    source_hash: str
    twin: str = ""


def describe_method(path: Path, source: str) -> list[MethodInfo]:
    """Return what a method's file declares: the method and, for ``METHOD = SDL(...)``, its twins."""
    try:
        tree = ast.parse(path.read_bytes())
    except OSError as error:
        raise LrbenchError(
            f"{path}: cannot be read ({error.strerror}); expected a Python file with a METHOD"
        ) from error
    except (SyntaxError, ValueError) as error:
        raise LrbenchError(f"{path}: is not valid Python ({error})") from error
    declaration = _declaration(tree)
    if declaration is None:
        raise LrbenchError(f"{path}: declares no method; expected a line METHOD = ... at the top level")
    class_name, keywords = declaration
    kind = "sdl" if class_name == "SDL" else _class_constant(tree, class_name, "kind", "baseline")
    if kind not in KINDS:
        raise LrbenchError(f"{path}: kind={kind!r}: expected one of {', '.join(KINDS)}")
    summary = (ast.get_docstring(tree) or "").split("\n")[0]
    pair = keywords.get("pair", "autoencoder")
    plain = MethodInfo(
        name=path.stem,
        summary=summary,
        kind=kind,
        pair=pair,
        path=path,
        source=source,
        source_hash=hash_of_method(path, ""),
    )
    if class_name != "SDL":
        return [plain]
    twins = [
        replace(
            plain,
            name=f"{path.stem}+{twin}",
            summary=about.format(path.stem),
            source=f"{source}+{twin}",
            source_hash=hash_of_method(path, twin),
            twin=twin,
        )
        for twin, about in TWINS.items()
    ]
    return [plain, *twins]


def hash_of_method(path: Path, twin: str) -> str:
    """Return `MethodInfo.source_hash` of a file as it is on the disk now."""
    return hash_of_code(path, *([TWINS_FILE] if twin else []), read=without_grid)


def _declaration(tree: ast.Module) -> tuple[str, dict[str, str]] | None:
    """Return the called name and the literal keywords of ``METHOD = Name(...)``."""
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == "METHOD" for target in targets):
            value = node.value  # type: ignore[attr-defined]
            if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Name):
                return "", {}
            literals = {
                k.arg: str(k.value.value) for k in value.keywords if k.arg and isinstance(k.value, ast.Constant)
            }
            return value.func.id, literals
    return None


def _class_constant(tree: ast.Module, class_name: str, name: str, default: str) -> str:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            for line in node.body:
                target = line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", None)
                if isinstance(target, ast.Name) and target.id == name and isinstance(line.value, ast.Constant):  # type: ignore[attr-defined]
                    return str(line.value.value)  # type: ignore[attr-defined]
    return default
