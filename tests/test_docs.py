"""The documents say what the code does: their tables, their examples and their links."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import lrbench
from lrbench.catalogue.methods import load_method, method_catalogue, methods_for
from lrbench.catalogue.tasks import families, load_task, select_tasks
from lrbench.metric_table import Metric
from lrbench.running.cell import run_cell
from lrbench.running.runner import plan
from lrbench.scoring.metrics import floor_score
from lrbench.store import Store
from lrbench.task import SUITES
from lrbench.world import max_interference

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
METHODS = [info for info in method_catalogue() if not info.twin]
LOOP = {info.name.split("+")[0] for info in method_catalogue() if info.twin}  # of the one training loop
SHARED = {"lr", "batch_size", "resample"}  # of the loop, described once for all


def rows(page: str, first: str) -> list[list[str]]:
    """The cells of every table row whose first cell is `first` in backticks."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line.startswith(f"| `{first}` |")]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def python_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def value_range(metric: Metric) -> str:
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


@pytest.mark.parametrize("name", SUITES)
def test_suite_is_described(name: str) -> None:
    suite = SUITES[name]
    spec, scale = suite.scale.task(), suite.scale
    numbers = [scale.dim, spec.world.n_features, scale.rate, scale.n_latents, scale.n_distinct, scale.n_samples]
    numbers += [scale.batch_size, scale.n_samples // scale.batch_size, scale.n_evaluation, spec.n_anchors, suite.seeds]
    (row,) = rows("docs/worlds.md", name)
    assert row[1:] == [f"{number:,}" for number in numbers]


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
    of_settling = {f"settling/{level}" for level in ("own", "polysemantic", "dead", "rotated")}
    assert all(of_settling <= found for found in holds.values())
    holds = {suite: found - of_settling for suite, found in holds.items()}
    assert holds == {"smoke": {"sparsity/0.005", "sparsity/0.01"}, "quick": {"sparsity/0.005"}, "standard": set()}
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
    floors = {pair: [floor_score(task, pair) for task in tasks] for pair in ("autoencoder", "transcoder", "crosscoder")}
    text = " ".join((ROOT / "docs/metrics.md").read_text(encoding="utf-8").split())
    assert (
        f"the floor is {span([*floors['autoencoder'], *floors['transcoder']])} for autoencoders and transcoders"
        f" and {span(floors['crosscoder'])} for crosscoders"
    ) in text
    truth = load_method("truth")
    scores = [lrbench.score(truth.fit(task.view(truth.pair)), task) for task in tasks]
    assert f"`truth` is below 1: in `quick` at seed 0 it has {span([score['f1'] for score in scores])}," in text
    assert f"interference keeps `truth` from 0 too ({span([score['fvu'] for score in scores])} in `quick`" in text
    absorption = [score["absorption"] for score in scores if not math.isnan(score["absorption"])]
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
    assert re.search(r"^random +0\.0$", "\n".join(printed), re.MULTILINE)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
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


def test_the_readme_shows_every_method() -> None:
    """Not the numbers: whoever runs `make bench` has a page of their own machine beside the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("<!-- excerpt:start -->")[2].partition("<!-- excerpt:end -->")[0]
    shown = re.findall(r"`([a-z_]+(?:\+[a-z]+)?)`", table)
    assert sorted(shown) == sorted(info.name for info in methods_for())
