"""The floor plan of the code: imports go down only, heavy libraries load late, files stay short enough to read."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

import lrbench
from lrbench.catalogue.imports import imports, module_file

ROOT = Path(__file__).parent.parent
# A module may import from lines above its own only. A new module, or a new room (a folder), takes its place here first.
ORDER = (
    ("errors", "jit", "metric_table"),
    ("seeds", "streaming", "law"),
    ("pairing", "structure"),
    ("activation",),
    ("sae_lens",),
    ("dictionary",),
    ("world", "view"),
    ("longrun",),
    ("suite",),
    ("real",),
    ("task",),
    ("borrowed", "scoring"),
    ("theory",),
    ("engine",),
    ("rules",),
    ("terms",),
    ("method",),
    ("alternate",),
    ("sdl",),
    ("twins", "grouping"),
    ("record",),
    ("study",),
    ("pages", "foreign"),
    ("store",),
    ("catalogue",),
    ("contract",),
    ("boundary",),
    ("running",),
    ("controls", "falsify", "ladder", "replication", "tuning"),
    ("studies",),
    ("plugin", "cli"),
)
LAYER = {module: depth for depth, line in enumerate(ORDER) for module in line}
# The same inside a room: a file imports from files named before it only.
ROOMS = {
    "law": ("forest", "events", "directions", "loop", "hits", "sampler", "synthetic"),
    "streaming": ("meter", "stream"),
    "borrowed": ("model", "world", "task"),
    "scoring": ("auction", "assignment", "matching", "detection", "oracle", "found", "absorption", "best_latent", "causes", "sae_lens_metrics", "metrics"),
    "theory": ("loss", "firing", "pattern", "blocks", "encoder", "constructions", "absorption", "certificate", "report", "traps"),
    "engine": ("arrays", "threads", "kernels", "processor", "mode", "selection", "reference", "rows", "ops", "latents", "steering", "encoder", "adam"),
    "longrun": ("report", "state", "keeper"),
    "real": ("items", "models", "capture", "cache", "spec", "world", "source"),
    "grouping": ("encoder", "stack", "training"),
    "catalogue": ("files", "imports", "address", "grid", "source", "methods", "tasks", "studies"),
    "contract": ("scaffold", "faults", "subject", "check"),
    "boundary": ("kernel", "surroundings", "wire", "memory", "messages", "blocks", "training", "sandbox", "exchange", "fit_process", "fit_client"),
    "running": ("worker", "provenance", "device", "training_files", "cell", "preload", "pool", "available", "grouped", "runner", "study_run", "progress"),
    "falsify": ("measure", "worlds", "verdict", "predictions", "findings", "figure", "report"),
    "ladder": ("axes", "limit", "breakdown", "curves", "schedule", "plane", "summary", "words", "figure", "report"),
    "controls": ("schedule", "frozen", "watched", "few_anchors", "measure", "reading", "seen", "prediction", "figure", "causes", "baselines", "paper", "report"),
    "replication": ("reported_sae", "reported", "causes", "measure", "findings", "schedule", "words", "answers", "cost", "figure", "report"),
    "tuning": ("choice", "defaults", "figure", "report"),
    "pages": ("interval", "markdown", "palette", "style", "terminal", "unscored"),
    "studies": ("engine_quality", "falsify", "ladder", "noise", "real", "replicate", "sweep"),
    "cli": ("interrupt", "streams", "app", "options", "listing", "methods", "results", "run", "show", "tune", "commands", "__init__", "__main__"),
    "leaderboard": ("means", "stratified", "ranks", "l0", "standing", "anchored", "facts", "breakdown", "compile", "real_rows", "separation", "traps", "noise", "paired", "collapse",
                    "compare_cells", "judge", "compare", "compare_source", "standing_tables", "render", "compare_report", "styles", "figures",
                    "__init__"),
}  # fmt: skip
# Where being lower is not enough: all that these may know.
ONLY = {
    "metric_table": set(),
    "structure": {"errors", "law"},
    "law": {"errors", "jit"},
    "pairing": {"errors"},
    "activation": {"errors"},
    "sae_lens": {"activation", "errors"},
    "dictionary": {"activation", "errors", "pairing", "sae_lens"},
    "world": {"errors", "law", "seeds", "structure"},
    "streaming": {"errors"},
    "view": {"dictionary", "errors", "pairing", "seeds", "streaming"},
    "longrun": {"errors", "seeds", "view"},
    "engine": {"errors", "jit"},
    "jit": set(),
    "theory": {"activation", "dictionary", "errors", "pairing", "scoring", "seeds", "structure", "world"},
    "record": {"errors", "metric_table", "streaming"},
    "study": set(),
    "foreign": {"errors", "record"},
    "store": {"errors", "foreign", "metric_table", "record"},
    "real": {"errors", "seeds", "structure", "suite", "world"},
    "borrowed": {"errors", "law", "structure", "task", "world"},
    "tasks": {"errors", "real", "structure", "suite", "task", "tasks", "theory"},
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
    "leaderboard": {"catalogue", "errors", "foreign", "ladder", "metric_table", "pages", "record", "store", "suite"},
    "pages": set(),
}
NO_TORCH = (
    "errors",
    "catalogue/files",
    "catalogue/address",
    "catalogue/grid",
    "catalogue/imports",
    "metric_table",
    "pairing",
    "record",
    "foreign",
    "store",
    "structure",
    "law/forest",
    "study",
)  # not even inside a function
LATE = {
    "torch",
    "numpy",
    "scipy",
    "sklearn",
    "pandas",
    "matplotlib",
    "safetensors",
    "transformers",
}  # not at import of what a listing needs
LIGHT = ("__init__", "errors", "seeds", "metric_table", "pairing", "structure", "law/forest", "suite", "task", "record", "study", "foreign", "store", "plugin",
         "contract/scaffold", *(f"{room}/{name}" for room in ("catalogue", "cli") for name in ROOMS[room]),
         *(f"boundary/{name}" for name in ROOMS["boundary"] if name != "fit_client"),
         *(f"running/{name}" for name in ROOMS["running"] if name != "preload"))  # fmt: skip
PACKAGES = ("lrbench", "tasks", "methods", "leaderboard")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
NAMED = re.compile(r"lrbench(\.\w+)+(:\w+)?")


def inside(names: Iterable[str]) -> set[str]:
    """Return the modules and rooms of lrbench among imported names, ``catalogue`` for ``lrbench.catalogue.tasks.load_task``."""
    homes = {name.split(".")[1] for name in names if name.startswith("lrbench.")} - {"HOME", "__file__"}
    return {lrbench.HOME.get(home, home).split(".")[0] for home in homes}


def within(names: Iterable[str], room: str) -> set[str]:
    """Return the files of a room among imported names."""
    return {name.split(".")[2] for name in names if name.startswith(f"lrbench.{room}.")}


def place(path: Path) -> str:
    return path.stem if path.parent.name == "lrbench" else path.parent.name


def strings(path: Path) -> set[str]:
    """Return the strings of a file that are the name of a module, or of something in it."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    names = {text.replace(":", ".") for text in texts if NAMED.fullmatch(text)}
    return {name for name in names if module_file(name) is not None}


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if p.name != "__init__.py" or p.parent.name in ("leaderboard", "cli")],
    ids=lambda p: f"{p.parent.name}/{p.name}",
)
def test_imports_go_down_only(path: Path) -> None:
    own, names = place(path), imports(path) | strings(path)
    known = inside(names) - {own}
    if ROOT / "lrbench" in path.parents:
        assert own in LAYER, f"give {own} a place in ORDER"
        assert known <= set(LAYER) | {"leaderboard", "methods", "tasks"}
        above = {name for name in known if name in LAYER and LAYER[name] >= LAYER[own]}
        assert not above, f"{own} imports {', '.join(sorted(above))}, which stands beside or above it"
        assert "leaderboard" not in known or own in ("cli", "plugin", "studies", "falsify")
    if own in ROOMS:
        order = ROOMS[own]
        assert path.stem in order or path.name == "__init__.py", f"give {path.stem} a place in ROOMS"
        later = {name for name in within(names, own) & set(order) if order.index(name) >= order.index(path.stem)}
        assert not later, f"{own}/{path.name} imports {', '.join(sorted(later))}, which stands beside or above it"
    allowed = ONLY.get(own)
    if own == "methods" and path.name in ("truth.py", "oracle.py"):  # they have to know the truth
        allowed = ONLY["methods"] | {"task", "scoring"}
    assert allowed is None or known <= allowed, f"{own} imports {', '.join(sorted(known - allowed))}"


def test_a_newcomer_can_survey_each_floor() -> None:
    assert len(list((ROOT / "lrbench").glob("*.py"))) <= 25
    rooms = {path.parent.name for path in (ROOT / "lrbench").glob("*/__init__.py")}
    assert rooms == {room for room in ROOMS if room != "leaderboard"}


def test_an_installation_has_every_room() -> None:
    (listed,) = re.findall(r"^packages = (\[.*?\])", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M | re.S)
    rooms = {f"lrbench.{path.parent.name}" for path in (ROOT / "lrbench").glob("*/__init__.py")}
    elsewhere = {"lrbench.tasks", "lrbench.methods", "lrbench.leaderboard"}
    assert sorted(ast.literal_eval(listed)) == sorted({"lrbench"} | rooms | elsewhere)


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
        "from lrbench.catalogue import methods, studies, tasks as r; r.task_catalogue(); methods.method_catalogue(); studies.study_catalogue(); r.select_tasks('quick')",
        "import lrbench; task = lrbench.load_task('noise/0.3'); task.hash; task.world_hash",
        "import lrbench.running.runner as r; r.plan('quick')",
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
