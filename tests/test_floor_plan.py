"""The floor plan of the code: imports go down only, heavy libraries load late, files stay short enough to read."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A module may import from lines above its own only. A new module takes its place here first.
ORDER = (
    ("errors", "jit", "seeds", "metric_table"),
    ("pairing", "structure", "bend"),
    ("activation",),
    ("sae_lens",),
    ("dictionary",),
    ("world", "view"),
    ("task",),
    ("assignment",),
    ("matching",),
    ("metrics",),
    ("theory",),
    ("engine",),
    ("rules",),
    ("terms",),
    ("method",),
    ("alternate",),
    ("sdl",),
    ("twins",),
    ("record",),
    ("store",),
    ("lookup",),
    ("source",),
    ("registry",),
    ("scaffold",),
    ("worker",),
    ("backends", "guard"),
    ("subject",),
    ("check",),
    ("cell",),
    ("preload",),
    ("runner",),
    ("falsify",),
    ("progress",),
    ("plugin", "cli"),
)
LAYER = {module: depth for depth, line in enumerate(ORDER) for module in line}
# Where being lower is not enough: all that these may know.
ONLY = {
    "metric_table": set(),
    "structure": {"errors"},
    "pairing": {"errors"},
    "activation": {"errors"},
    "sae_lens": {"activation", "errors"},
    "dictionary": {"activation", "errors", "pairing", "sae_lens"},
    "bend": set(),
    "world": {"bend", "errors", "seeds", "structure"},
    "view": {"dictionary", "errors", "pairing", "seeds"},
    "assignment": {"jit"},
    "matching": {"assignment", "errors"},
    "engine": {"engine", "errors", "jit"},
    "jit": set(),
    "theory": {"activation", "dictionary", "errors", "matching", "pairing", "seeds", "structure", "theory", "world"},
    "falsify": {
        "backends",
        "dictionary",
        "errors",
        "falsify",
        "matching",
        "metrics",
        "registry",
        "seeds",
        "task",
        "theory",
    },
    "record": {"errors"},
    "store": {"errors", "metric_table", "record"},
    "lookup": {"errors"},
    "worker": set(),
    "backends": {"errors", "worker"},
    "guard": {"errors"},
    "tasks": {"structure", "task", "theory"},
    "methods": {
        "activation",
        "alternate",
        "dictionary",
        "errors",
        "method",
        "methods",
        "rules",
        "sdl",
        "seeds",
        "terms",
        "view",
    },
    "leaderboard": {"errors", "leaderboard", "metric_table", "record", "store"},
}
NO_TORCH = ("errors", "lookup", "metric_table", "pairing", "record", "store", "structure")  # not even inside a function
LATE = {
    "torch",
    "numpy",
    "scipy",
    "sklearn",
    "pandas",
    "matplotlib",
    "safetensors",
}  # not at import of what a listing needs
LIGHT = ("__init__", "errors", "seeds", "metric_table", "pairing", "structure", "task", "record", "store", "lookup", "source", "registry",
         "scaffold", "worker", "backends", "guard", "cell", "runner", "progress", "plugin", "cli")  # fmt: skip
PACKAGES = ("lrbench", "tasks", "methods", "leaderboard")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path, at_load: bool = False) -> set[str]:
    """Return the full name of everything that a file imports when it runs, or only when it is loaded.

    What is named under ``if TYPE_CHECKING`` is never imported and left out; functions do not run at load.
    """
    return {name for node in _running(ast.parse(path.read_text(encoding="utf-8")), at_load) for name in _names(node)}


def _running(node: ast.AST, at_load: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        checking = isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"
        if not checking and not (at_load and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)):
            yield child
            yield from _running(child, at_load)


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: relative import"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def inside(names: set[str]) -> set[str]:
    """Return the modules and packages of lrbench among imported names, ``registry`` for ``lrbench.registry.load_task``."""
    return {name.split(".")[1] for name in names if name.startswith("lrbench.")}


def place(path: Path) -> str:
    return path.stem if path.parent.name == "lrbench" else path.parent.name


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if p.name != "__init__.py" or p.parent.name == "leaderboard"],
    ids=lambda p: f"{p.parent.name}/{p.name}",
)
def test_imports_go_down_only(path: Path) -> None:
    own, known = place(path), inside(imports(path))
    if path.parent.name == "lrbench":
        assert own in LAYER, f"give {own} a place in ORDER"
        assert known <= set(LAYER) | {"leaderboard"}
        above = {name for name in known if name in LAYER and LAYER[name] >= LAYER[own]}
        assert not above, f"{own} imports {', '.join(sorted(above))}, which stands beside or above it"
        assert "leaderboard" not in known or own == "cli"
    allowed = ONLY.get(own)
    if path.name == "truth.py":  # the ceiling has to know the truth
        allowed = ONLY["methods"] | {"task"}
    assert allowed is None or known <= allowed, f"{own} imports {', '.join(sorted(known - allowed))}"


def test_the_package_itself_only_names_things() -> None:
    assert imports(ROOT / "lrbench" / "__init__.py", at_load=True) <= {
        "__future__.annotations",
        "importlib.import_module",
        "os",
        "typing.TYPE_CHECKING",
        "typing.Any",
    }
    for package in ("tasks", "methods"):
        assert not imports(ROOT / package / "__init__.py")


@pytest.mark.parametrize("module", LIGHT)
def test_what_a_listing_needs_loads_nothing_heavy(module: str) -> None:
    assert not {name.split(".")[0] for name in imports(ROOT / "lrbench" / f"{module}.py", at_load=True)} & LATE


@pytest.mark.parametrize(
    "path",
    [ROOT / "lrbench" / f"{name}.py" for name in NO_TORCH] + sorted((ROOT / "leaderboard").glob("*.py")),
    ids=lambda p: p.name,
)
def test_records_and_pages_know_no_torch(path: Path) -> None:
    assert "torch" not in {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize(
    "code",
    [
        "import lrbench; dir(lrbench); lrbench.load_records; lrbench.METRICS; lrbench.WorldSpec",
        "from lrbench import registry as r; r.task_catalogue(); r.method_catalogue(); r.suites(); r.select_tasks('quick')",
        "import lrbench; task = lrbench.load_task('noise/0.3'); task.hash; task.world_hash",
        "import lrbench.runner as r; r.plan('quick')",
        "import sys; sys.argv = ['lrbench', 'list', 'methods', '--json']; import contextlib, lrbench.cli as c\n"
        "with contextlib.suppress(SystemExit): c.main()",
    ],
    ids=["import", "listing", "hashes", "plan", "command line"],
)
def test_torch_stays_out_until_it_is_needed(code: str) -> None:
    report = "\nimport sys; heavy = {'torch', 'sklearn', 'scipy', 'matplotlib', 'pandas'} & set(sys.modules); sys.exit(', '.join(sorted(heavy)) or 0)"
    run = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, cwd=ROOT / "tests")
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    "path",
    [*FILES, *sorted((ROOT / "tests").glob("*.py")), *sorted((ROOT / "benchmarks").glob("*.py"))],
    ids=lambda p: f"{p.parent.name}/{p.name}",
)
def test_files_and_functions_can_be_read_in_one_sitting(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= (60 if path.parent.name in ("tasks", "methods") else 400)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            assert node.end_lineno - node.lineno < 80, node.name


def test_the_measure_sees_what_it_should(tmp_path: Path) -> None:
    file = tmp_path / "one.py"
    file.write_text("from __future__ import annotations\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
                    "class A:\n    import numpy.linalg\n    def f(self):\n        from lrbench.cli import main\n")  # fmt: skip
    assert imports(file) == {"__future__.annotations", "typing.TYPE_CHECKING", "numpy.linalg", "lrbench.cli.main"}
    assert imports(file, at_load=True) == {"__future__.annotations", "typing.TYPE_CHECKING", "numpy.linalg"}
    assert inside(imports(file)) == {"cli"}
    file.write_text("from lrbench import cli\nfrom lrbench.methods import _sklearn")
    assert inside(imports(file)) == {"cli", "methods"}
