"""What a method's file declares, read without importing it, and the hash of all that its result depends on.

A file's name is its identity, its docstring's first line its summary, and ``METHOD = SDL(...)`` marks a method that has twins.
"""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from lrbench.errors import LrbenchError
from lrbench.lookup import folder, modules

# The twins of an SDL method X, made by `lrbench.twins`: ``X+NAME`` and what stands in a listing.
TWINS = {
    "anchored": "{} with the paper's feature anchoring",
    "resample": "{} with dead latents started anew during the run",
    "autoanchor": "{} anchored to the directions on which two short runs agree",
}
# What every method's result depends on besides its own file: a change here makes its records stale.
CORE = (
    "activation",
    "alternate",
    "dictionary",
    "engine/adam",
    "engine/encoder",
    "engine/kernels",
    "engine/latents",
    "engine/mode",
    "engine/ops",
    "engine/reference",
    "engine/rows",
    "engine/selection",
    "method",
    "pairing",
    "rules",
    "sdl",
    "seeds",
    "task",
    "terms",
    "twins",
    "view",
)


@dataclass(frozen=True)
class MethodInfo:
    """A method of the catalogue, or of a file that the user named.

    Parameters
    ----------
    name
        The file's name without its ending, with ``+TWIN`` for a twin.
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
        Hash of the file and of the code that every method rests on.
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


def split_twin(name: str) -> tuple[str, str]:
    """Return ``("X", "anchored")`` for ``"X+anchored"``, and (name, "") for what is no twin."""
    plain, _, twin = name.rpartition("+")
    return (plain, twin) if plain and twin in TWINS else (name, "")


def is_file(name: str) -> bool:
    """Whether a method is named by the path of its file, not by its name in the catalogue."""
    return split_twin(name)[0].endswith(".py")


def describe_method(path: Path, source: str) -> list[MethodInfo]:
    """Return what a method's file declares: the method and, for ``METHOD = SDL(...)``, its twins."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
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
    summary = (ast.get_docstring(tree) or "").split("\n")[0]
    plain = MethodInfo(path.stem, summary, kind, keywords.get("pair", "autoencoder"), path, source, _source_hash(text))
    if class_name != "SDL":
        return [plain]
    twins = [
        replace(
            plain, name=f"{path.stem}+{twin}", summary=about.format(path.stem), source=f"{source}+{twin}", twin=twin
        )
        for twin, about in TWINS.items()
    ]
    return [plain, *twins]


def source_hash(source: str) -> str:
    """Return the hash of a method's source as it is on the disk now, see `MethodInfo`."""
    plain, _ = split_twin(source)
    return _source_hash(modules("methods").get(plain, Path(plain)).read_text(encoding="utf-8"))


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


@lru_cache(maxsize=1)
def _core_source() -> str:
    shared = sorted(folder("methods").glob("_*.py"))
    files = [Path(__file__).parent / f"{name}.py" for name in CORE] + shared
    return "".join(file.read_text(encoding="utf-8") for file in files)


def _source_hash(text: str) -> str:
    return hashlib.sha256((text + _core_source()).encode()).hexdigest()[:16]
