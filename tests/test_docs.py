"""The documents say what the code does: their tables, their examples and their links."""

from __future__ import annotations

import functools
import math
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import typer

import lrbench
from lrbench.catalogue.files import import_file
from lrbench.catalogue.methods import load_method, method_catalogue, methods_for, select_methods
from lrbench.catalogue.studies import study_catalogue
from lrbench.catalogue.tasks import families, load_task, select_tasks
from lrbench.cli.commands import app
from lrbench.law.directions import max_interference
from lrbench.metric_table import Metric
from lrbench.plugin import OPTIONS
from lrbench.running.cell import run_cell
from lrbench.running.runner import plan
from lrbench.store import Store
from lrbench.task import SUITES

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
METHODS = [info for info in method_catalogue() if not info.twin]
LOOP = {info.name.split("+")[0] for info in method_catalogue() if info.twin}  # of the one training loop
ROOMS = import_file(ROOT / "tests" / "test_floor_plan.py").ROOMS
SHARED = {"lr", "batch_size", "l0", "resample"}  # of the loop, described once for all


def rows(page: str, first: str) -> list[list[str]]:
    """The cells of every table row whose first cell is `first` in backticks."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line.startswith(f"| `{first}` |")]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def addresses() -> list[str]:
    """The first cell of every row of docs/studies.md's table of addresses."""
    text = (ROOT / "docs/studies.md").read_text(encoding="utf-8").replace("\\|", "|")
    return re.findall(r"^\| `([^`]+\][^`]*)` \|", text, re.MULTILINE)


def python_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def value_range(metric: Metric) -> str:
    if metric.low is None and metric.high is None:
        return "open"
    if metric.low is None:
        return f"at most {metric.high:g}"
    return f"at least {metric.low:g}" if metric.high is None else f"{metric.low:g} to {metric.high:g}"


@pytest.mark.parametrize("metric", lrbench.METRICS.values(), ids=lambda metric: metric.name)
def test_metric_is_declared_as_in_the_code(metric: Metric) -> None:
    declared = [row for row in rows("docs/metrics.md", metric.name) if len(row) == 7]
    assert len(declared) == 1
    expected = [metric.label, metric.direction, metric.unit, value_range(metric), f"{metric.tolerance:g}"]
    assert declared[0][1:6] == expected


@pytest.mark.parametrize("metric", lrbench.METRICS)
def test_metric_is_defined(metric: str) -> None:
    text = (ROOT / "docs/metrics.md").read_text(encoding="utf-8").split("\n## ", 1)[1]
    stem = metric.removesuffix("_dec").removesuffix("_enc")
    assert re.search(rf"^(\*\*|\* )[^.:]*`{stem}(_dec)?`", text, re.MULTILINE), f"no paragraph defines {metric}"


@pytest.mark.parametrize("info", METHODS, ids=lambda info: info.name)
def test_method_is_described(info: object) -> None:
    name: str = info.name  # type: ignore[attr-defined]
    described = rows("docs/methods.md", name)
    assert len(described) == (2 if name in LOOP else 1)
    own = set(load_method(name).hyperparameters())
    assert set(named(described[-1][-1])) == (own - SHARED if name in LOOP else own)
    if name in LOOP:
        assert own >= SHARED
        assert described[0][4] == info.pair  # type: ignore[attr-defined]


def test_no_method_is_described_that_does_not_exist() -> None:
    text = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))
    assert described == {info.name for info in METHODS}


@pytest.mark.parametrize("name", families())
def test_family_is_described(name: str) -> None:
    family = families()[name]
    (row,) = rows("docs/worlds.md", name)
    assert named(row[2]) == list(family.levels)
    for suite, cell in (("smoke", row[3]), ("quick", row[4]), ("standard", row[5])):
        runs = named(cell) if cell != "all" else list(family.levels)
        assert runs == [level for level in family.levels if family.in_suite(level, suite)]
    assert all(family.in_suite(level, "board") == family.in_suite(level, "quick") for level in family.levels)


def test_no_family_stands_apart_from_the_table() -> None:
    text = (ROOT / "docs/worlds.md").read_text(encoding="utf-8")
    (table,) = (block for block in text.split("\n\n") if block.startswith("| family |"))
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(families())


@pytest.mark.parametrize("name", SUITES)
def test_suite_is_described(name: str) -> None:
    suite = SUITES[name]
    spec, scale = suite.scale.task(), suite.scale
    numbers = [scale.dim, spec.world.n_features, scale.rate, scale.n_latents, scale.n_distinct, scale.n_samples]
    numbers += [scale.batch_size, scale.n_samples // scale.batch_size, scale.n_evaluation, spec.n_anchors, suite.seeds]
    (row,) = rows("docs/worlds.md", name)
    assert row[1:] == [number if isinstance(number, str) else f"{number:,}" for number in numbers]


def test_where_extreme_sparsity_holds() -> None:
    holds = {
        suite: {
            f"{family.name}/{level}"
            for family in families().values()
            for level in family.levels
            if load_task(f"{family.name}/{level}", suite).spec.world.extreme_sparsity
        }
        for suite in SUITES
    }
    settling = {f"settling/{level}" for level in families()["settling"].levels if "hierarchy" not in level}
    small = {"sparsity/0.005"}
    sparse = {
        "smoke": small | {"sparsity/0.01"},
        "quick": small,
        "board": small,
        "standard": set(),
        "real": set(),
        "synth": set(),
    }
    assert holds == {suite: levels | settling for suite, levels in sparse.items()}
    default = {suite: {info.name for info in select_tasks(suite)} for suite in SUITES}
    assert all(not holds[suite] & default[suite] for suite in SUITES)


def test_equal_questions_have_equal_hashes() -> None:
    def same(*names: str, suite: str) -> bool:
        return len({load_task(name, suite).hash for name in names}) == 1

    assert same("superposition/1.30x", "interference/0.1", suite="quick")
    assert same("superposition/1.30x", "interference/0.1", "sparsity/0.01", suite="standard")
    assert same("superposition/1.30x", "sparsity/0.05", suite="smoke")


def test_numbers_on_the_references() -> None:
    tasks = [load_task(info.name, "quick") for info in select_tasks("quick")]
    text = " ".join((ROOT / "docs/metrics.md").read_text(encoding="utf-8").split())
    truth, oracle = (
        [lrbench.score(load_method(name).fit(task.view("autoencoder")), task) for task in tasks]
        for name in ("truth", "oracle")
    )
    assert f"picks up interference, has {span([score['headline'] for score in truth])} in `quick` at seed 0." in text
    assert f"`truth` is below 1: in `quick` at seed 0 it has {span([score['f1'] for score in truth])}," in text
    assert f"and `oracle` has {span([score['f1'] for score in oracle])}." in text
    assert f"interference keeps `truth` from 0 too ({span([score['fvu'] for score in truth])} in `quick`" in text
    absorption = [score["absorption"] for score in truth if not math.isnan(score["absorption"])]
    assert f"`truth` need not have 0: in `quick` at seed 0 it has {span(absorption)}." in text


def span(values: list[float]) -> str:
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def test_numbers_on_directions() -> None:
    def world(n: int, d: int, m: float) -> torch.Tensor:
        return lrbench.World(lrbench.WorldSpec(n, (d,), interference=m), seed=0).directions[0]

    text = " ".join((ROOT / "docs/worlds.md").read_text(encoding="utf-8").split())
    default, free, wide, wider = world(125, 96, 0.1), world(125, 96, 0.5), world(998, 768, 0.2), world(998, 768, 0.5)
    lowest = f"{float((default @ default.T).min()):.3f}".replace("-", "−")
    assert f"the largest is {max_interference(default):.3f}, the smallest {lowest}." in text
    assert f"M = 0.5 leaves {max_interference(free):.3f}, and for n = 998 and d = 768" in text
    assert torch.equal(wide, wider)
    assert f"both M = 0.2 and M = 0.5 leave {max_interference(wide):.3f}, with identical directions" in text
    with pytest.raises(lrbench.LrbenchError) as error:
        world(128, 32, 0.1)
    assert str(error.value) in text


def test_numbers_on_the_items_of_the_real_tasks() -> None:
    from lrbench.real.items import classes, items
    from lrbench.real.spec import HELD_OUT, L0

    text = " ".join((ROOT / "docs" / "worlds.md").read_text(encoding="utf-8").split())
    domains, second, third = (sum(len(path) == depth for path in classes()) for depth in (1, 2, 3))
    assert f"{len(items()):,} of them, in {domains} domains, {second} classes and {third} subclasses" in text
    assert f"{HELD_OUT:,} items are held out" in text
    assert f"The mean square length is {L0}, the L0 that methods are told" in text


def test_readme_counts_the_cells() -> None:
    n_tasks, seeds = len(select_tasks("quick")), SUITES["quick"].seeds
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"{n_tasks} tasks × up to {len(methods_for())} methods × {seeds} seeds = {len(plan('quick'))} cells" in text


def my_trainer(batches: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, ...]:
    """Stands for a trainer from elsewhere: the README's reader brings their own."""
    inputs = torch.cat([inputs for inputs, _ in batches])
    assert len(inputs) > 0
    rows = torch.nn.functional.normalize(inputs[:64], dim=1).requires_grad_()
    return rows, torch.zeros(64), rows, torch.zeros(inputs.shape[1])


def test_readme_snippets_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lrbench, "load_task", functools.partial(load_task, suite="smoke"), raising=False)
    for cell in plan("smoke", ["absorption/even"], ["random", "truth"]):
        Store("results").write(run_cell(cell))
    snippets = [block for block in python_blocks("README.md") if not block.startswith("# ")]
    assert len(snippets) == 2
    namespace = {"my_trainer": my_trainer}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), namespace)
    assert set(namespace["scores"]) == set(lrbench.METRICS)  # type: ignore[call-overload]
    printed = capsys.readouterr().out.splitlines()
    assert 0.0 < float(printed[0]) <= 1.0
    assert re.search(r"^random +0\.0+$", "\n".join(printed), re.MULTILINE)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/submit.md"])
def test_method_files_of_the_pages_run(page: str, tmp_path: Path) -> None:
    files = [block for block in python_blocks(page) if block.startswith("# ")]
    assert files
    for text in files:
        path = tmp_path / text.split("\n")[0].removeprefix("# ")
        path.write_text(text, encoding="utf-8")
        task = load_task("superposition/1.30x", "smoke")
        dictionary = load_method(path).fit(task.view(), seed=0)
        assert lrbench.score(dictionary, task)["headline"] > 0.0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://")):
            continue
        file, _, anchor = target.partition("#")
        linked = page.parent / file if file else page
        assert linked.is_file(), f"{page.name} links to {target}, which is not there"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{page.name} links to {target}, but there is no such heading"


def test_the_readme_shows_a_screenful_of_the_page() -> None:
    """Not the numbers: whoever runs `make bench` has a page of their own machine beside the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    excerpt = text.partition("<!-- excerpt:start -->")[2].partition("<!-- excerpt:end -->")[0]
    shown = re.findall(r"^\| [^|]+ \| `([a-z_]+)` ", excerpt, re.MULTILINE)
    assert 0 < len(shown) <= 10
    assert set(shown) <= {info.name for info in methods_for()}
    assert re.findall(r"!\[.*\]\((.*)\)", excerpt)  # `test_links_resolve` follows it
    assert text.index("<!-- excerpt:end -->") < text.index("\n## ", text.index("<!-- excerpt:end -->"))


def where_things_are() -> set[str]:
    """The files and folders that CONTRIBUTING.md's table names."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition("\n## Where things are\n")[2].partition("\n## ")[0]
    table = "\n".join(line for line in section.splitlines() if line.startswith("|"))
    return {name for name in named(table) if "/" in name}


def test_everything_has_a_place_that_contributing_names() -> None:
    committed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    folders = {f"{path.split('/')[0]}/" for path in committed if "/" in path} - {"lrbench/"}
    rooms = {"leaderboard/" if room == "leaderboard" else f"lrbench/{room}/" for room in ROOMS}
    files = {f"lrbench/{path.name}" for path in (ROOT / "lrbench").glob("*.py") if path.name != "__init__.py"}
    assert where_things_are() == folders | rooms | files


@pytest.mark.parametrize("path", sorted(where_things_are()))
def test_what_contributing_names_exists(path: str) -> None:
    assert (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file()


def shell_lines(page: Path) -> Iterator[list[str]]:
    """Every call of lrbench in the page's shell examples, split into words."""
    for block in re.findall(r"^```(?:sh|bash)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            for call in re.split(r"&&|\|\||;", line.partition(" #")[0]):
                words = shlex.split(call)
                if words[:1] == ["lrbench"] and " [--" not in call:  # a synopsis shows what may be left out
                    yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_the_pages_are_commands(page: Path) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for words in shell_lines(page):
        assert words[0] in commands, f"{page.name}: lrbench has no command {words[0]!r}"
        commands[words[0]].make_context(words[0], words[1:])  # raises for an option that is not there


def test_options_of_pytest_are_described() -> None:
    text = (ROOT / "docs/pytest.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `--lrbench-(\w+) ", text, re.MULTILINE)) == set(OPTIONS)


def test_studies_are_described() -> None:
    table = (ROOT / "docs/studies.md").read_text(encoding="utf-8").partition("\n## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == [info.name for info in study_catalogue()]


def test_the_study_of_the_page_runs_goes_on_and_is_written_again(tmp_path: Path) -> None:
    (text,) = python_blocks("docs/studies.md")
    (tmp_path / text.split("\n")[0].removeprefix("# ")).write_text(text, encoding="utf-8")

    def study(*options: str) -> str:
        command = [sys.executable, "-m", "lrbench.cli", "study", "crowding.py", "--suite", "smoke", "--seeds", "1"]
        done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "4 cells in out: 0 were stored already, 4 ran" in study("--out", "out", "--pack")
    page = (tmp_path / "out" / "crowding-smoke.md").read_bytes()
    assert page.count(b"score and encoder row [[") == 4
    assert "4 cells in out: 4 were stored already, 0 ran" in study("--out", "out")
    study("--out", "out", "--from-records", "--page", "again.md")
    study("--out", "none", "--from-records", "--page", "packed.md")
    assert (tmp_path / "again.md").read_bytes() == (tmp_path / "packed.md").read_bytes() == page


@pytest.mark.parametrize("address", [address for address in addresses() if ".py" not in address], ids=str)
def test_addresses_of_the_page_are_read(address: str) -> None:
    methods = address.partition("[")[0] in {info.name for info in METHODS}
    found = select_methods([address]) if methods else select_tasks("smoke", [address])
    assert len(found) == address.count("|") + 1
    if "|" not in address:
        assert [info.name for info in found] == [address]
