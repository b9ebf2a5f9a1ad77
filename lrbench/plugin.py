"""The pytest plugin: ``pytest tasks --lrbench-suite smoke`` makes every cell (task, method, seed) a test.

pytest loads this module wherever lrbench is installed, so it imports nothing else of lrbench. `Bench` is registered only
when it is asked for: with an ``--lrbench-*`` option, or with a task file or a folder of them on the command line.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from operator import attrgetter
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lrbench.record import Record
    from lrbench.running.cell import Cell
    from lrbench.store import Store

OPTIONS = {
    "suite": {"metavar": "S", "help": "smoke, quick, board, standard, real or synth (default: quick)"},
    "task": {
        "metavar": "T",
        "action": "append",
        "help": "task name, glob or family[value] of the collected files; repeatable (default: the suite's)",
    },
    "method": {
        "metavar": "M",
        "action": "append",
        "help": "method name, glob, name[key=value] or FILE.py; repeatable (default: those that a task asks)",
    },
    "seeds": {"metavar": "N", "type": int, "help": "number of seeds (default: the suite's)"},
    "out": {"metavar": "DIR", "help": "folder of the records (default: results)"},
    "baseline": {"metavar": "DIR", "help": "records to compare with: a cell that got worse fails"},
}
BENCH = "lrbench-bench"
BUILT_IN = "lrbench.tasks"
HEADLINE = "headline"
BRACKETS = re.compile(r"\[[^\[\]]*\]")  # of an address, innermost
DECLARATION = re.compile(rb"^@(\w+\.)*family\(", re.MULTILINE)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("lrbench", "lrbench: every cell (task, method, seed) of the task files is a test")
    for name, option in OPTIONS.items():
        group.addoption(f"--lrbench-{name}", **option)  # type: ignore[arg-type]


def pytest_configure(config: pytest.Config) -> None:
    """Register the bench if it is asked for."""
    if not _asked_for(config):
        return
    from lrbench.errors import LrbenchError

    try:
        config.pluginmanager.register(Bench(config), BENCH)
    except LrbenchError as error:
        raise pytest.UsageError(str(error)) from None


def _asked_for(config: pytest.Config) -> bool:
    if hasattr(config, "workerinput"):
        return "lrbench" in config.workerinput  # an xdist worker does as its controller
    if any(config.getoption(f"lrbench_{name}") is not None for name in OPTIONS):
        return True
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        return False  # a bare `pytest` never trains anything
    for argument in config.args:
        name = argument.partition("::")[0]
        if config.option.pyargs and (name == BUILT_IN or name.startswith(f"{BUILT_IN}.")):
            return True
        path = config.invocation_params.dir / name
        if any(holds_tasks(file, config) for file in (path.glob("*.py") if path.is_dir() else [path])):
            return True
    return False


def holds_tasks(file: Path, config: pytest.Config) -> bool:
    """Whether a file is for this plugin: no test module, and a function in it is decorated with lrbench's ``family``."""
    if file.suffix != ".py" or _is_test_module(file, config):
        return False
    try:
        content = file.read_bytes()
    except OSError:
        return False  # a path that is absent or cannot be read is for pytest to complain about
    return b"lrbench" in content and DECLARATION.search(content) is not None


def _is_test_module(file: Path, config: pytest.Config) -> bool:
    return any(file.match(pattern) for pattern in config.getini("python_files"))


def readable(text: str) -> str:
    """Return an expression of ``-k``, or a cell's name, without what pytest cannot read inside an address.

    Examples
    --------
    >>> readable("topk_sae[k=32,lr=0.003] and not smoke")
    'topk_sae[k:32:lr:0.003] and not smoke'
    """
    inside = BRACKETS.sub(lambda found: re.sub(r"[=,|()'\"]", ":", found[0]), text)
    return inside.replace("=", ":")  # the sign means nothing to -k, so `-k l0=2` can only be of an address


class Bench:
    """What one pytest process knows: which cells to make, where records go, and the worker that runs the cells.

    Raises
    ------
    LrbenchError
        For an unknown suite or method, a number of seeds below 1, or a folder that is none.
    """

    def __init__(self, config: pytest.Config) -> None:
        from lrbench.catalogue.methods import is_file
        from lrbench.catalogue.tasks import families, suites
        from lrbench.errors import LrbenchError
        from lrbench.running.cell import worker_setup
        from lrbench.running.pool import OneWorker
        from lrbench.running.runner import PRELOAD, plan
        from lrbench.store import Store

        option = {name: config.getoption(f"lrbench_{name}") for name in OPTIONS}
        here = config.invocation_params.dir
        self.config = config
        self.suite: str = option["suite"] or "quick"
        self.tasks: list[str] = option["task"] or []
        self.methods: list[str] = option["method"] or []
        self.seeds: int | None = option["seeds"]
        plan(self.suite, (), self.methods, self.seeds)  # a wrong option is one error, not one per file
        self.store = Store(here / (option["out"] or "results"))
        self.baseline = Store(here / option["baseline"]) if option["baseline"] else None
        if self.baseline is not None and not self.baseline.folder.is_dir():
            raise LrbenchError(f"there is no folder {self.baseline.folder}: --lrbench-baseline needs one of records")
        if not config.option.collectonly:
            self.store.prepare()
        self.worker = OneWorker(
            "lrbench.running.cell:run_cell",
            setup=worker_setup(any(map(is_file, self.methods))),
            isolated=attrgetter("foreign"),
            preload=PRELOAD,
        )
        config.option.keyword = readable(config.option.keyword)
        self.names: dict[str, None] = {}  # of the tasks that the collected files declare
        self.unused = set(self.tasks)
        self.files: dict[str, Path] = {}
        self.reports: list[pytest.TestReport] = []
        for suite in suites():
            config.addinivalue_line("markers", f"{suite.name}: cells of lrbench's suite {suite.name}")
        for family in families():
            self._register(family)

    def _register(self, family: str) -> None:
        self.config.addinivalue_line("markers", f"{family}: cells of lrbench's task family {family}")

    def cells(self, file: Path) -> list[Cell]:
        """Plan the cells of a task file: the suite's defaults, or the named tasks that it declares."""
        from lrbench.catalogue.tasks import families, tasks_in
        from lrbench.errors import LrbenchError
        from lrbench.running.runner import plan

        asked = any(
            self.suite in info.suites for info in tasks_in(file)
        )  # a folder may hold files that the suite leaves out
        tasks = [f"{file}::{pattern}" for pattern in self._named_in(file)] if self.tasks else [str(file)] * asked
        cells = plan(self.suite, tasks, self.methods, self.seeds) if tasks else []
        for family in dict.fromkeys(cell.family for cell in cells):
            if self.files.setdefault(family, file) != file:
                raise LrbenchError(f"{file} and {self.files[family]} both declare the task family {family!r}")
            if family not in families():
                self._register(family)
        return cells

    def _named_in(self, file: Path) -> list[str]:
        """The patterns of ``--lrbench-task`` that are of a task file's own families."""
        from lrbench.catalogue.tasks import tasks_in

        names = {info.name: info.family for info in tasks_in(file)}
        self.names |= dict.fromkeys(names)
        found = [
            pattern
            for pattern in self.tasks
            if pattern.partition("[")[0] in names.values() or any(fnmatchcase(name, pattern) for name in names)
        ]
        self.unused -= set(found)
        return found

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Complain about a task that no collected file declares."""
        from lrbench.errors import UnknownName

        if self.unused and not session.testsfailed and not hasattr(self.config, "workerinput"):
            raise pytest.UsageError(f"--lrbench-task: {UnknownName('task', min(self.unused), [*self.names])}")

    def record(self, cell: Cell) -> tuple[Record, bool]:
        """Return the record of a cell and whether it was stored already; if it was not, run the cell."""
        from lrbench.errors import LrbenchError, NotApplicable, Unavailable
        from lrbench.running.cell import attempt
        from lrbench.running.runner import adopted, check_salt, keep

        stored = self.store.find(cell.suite, cell.key)
        if stored is not None:
            try:
                check_salt(stored, cell.salt, self.store)
            except LrbenchError as other_worlds:
                pytest.fail(str(other_worlds), pytrace=False)
        if stored is not None and cell.done_by(stored):
            return adopted(self.store, cell, stored), True
        if not self.config.option.usepdb:
            return keep(self.store, self.worker.run(cell)), False
        try:  # in this process, so that the debugger stops inside the method; such a run leaves no record
            return attempt(replace(cell, isolation="none"), time.perf_counter()), False
        except (NotApplicable, Unavailable) as why:
            pytest.skip(str(why))

    @pytest.hookimpl(wrapper=True)
    def pytest_collect_file(
        self, file_path: Path, parent: pytest.Collector
    ) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
        """Collect task files, and keep pytest from importing them under a second name."""
        others = yield
        return [TaskFile.from_parent(parent, path=file_path)] if holds_tasks(file_path, self.config) else others

    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """Keep pytest from importing the ``__init__.py`` of a folder of tasks under a second name."""
        files = list(path.glob("*.py"))
        if any(_is_test_module(file, self.config) for file in files):
            return None
        plain = any(holds_tasks(file, self.config) for file in files)
        return pytest.Dir.from_parent(parent, path=path) if plain else None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell an xdist worker that the bench is asked for."""
        node.workerinput["lrbench"] = True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the reports of cells for the table."""
        if report.when == "call" and "lrbench.task" in dict(report.user_properties):
            self.reports.append(report)

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Say of a cell that it was stored already."""
        stored = report.when == "call" and dict(report.user_properties).get("lrbench.stored")
        return ("passed", ".", "PASSED (stored)") if stored and report.passed else None

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, exitstatus: pytest.ExitCode) -> None:
        """Print the score of every method on every task."""
        if self.config.option.collectonly or (not self.reports and exitstatus == pytest.ExitCode.INTERRUPTED):
            return
        if not self.reports:
            terminalreporter.write_line(
                "lrbench: no cell ran; name task files or a folder of them, as in `pytest tasks`"
            )
            return
        terminalreporter.write_sep("=", f"lrbench: score in the suite {self.suite}")
        for line in summary(self.reports, self.store.folder):
            terminalreporter.write_line(line)

    def pytest_unconfigure(self) -> None:
        """End the worker."""
        self.worker.close()


class TaskFile(pytest.File):
    """A file of task families."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield a test for every cell."""
        from lrbench.errors import LrbenchError

        bench = self.config.pluginmanager.get_plugin(BENCH)
        assert isinstance(bench, Bench)
        try:
            cells = bench.cells(self.path)
        except LrbenchError as error:
            raise self.CollectError(str(error)) from error
        for cell in cells:
            yield CellItem.from_parent(self, name=cell.id, cell=cell, bench=bench)


class CellItem(pytest.Item):
    """A cell as a test: it fails when the method does, or when it got worse than in the baseline."""

    def __init__(self, *, parent: pytest.File, cell: Cell, bench: Bench, **node: Any) -> None:
        # spelled out, because pytest 9's own guess takes the bracket for a part of the name, and --lf then finds nothing
        super().__init__(parent=parent, nodeid=f"{parent.nodeid}::{cell.id}", **node)
        self.cell, self.bench = cell, bench
        self.extra_keyword_matches.add(readable(cell.id))
        self.add_marker(cell.family)
        self.add_marker(cell.suite)

    def runtest(self) -> None:
        """Run the cell or find its record, then judge it."""
        self._note(task=self.cell.task, method=self.cell.method, seed=self.cell.seed, suite=self.cell.suite)
        record, stored = self.bench.record(self.cell)
        self._note(stored=stored, **{name: value for name, value in record.scores.items() if value is not None})
        if record.status == "failed":
            pytest.fail("\n\n".join(filter(None, [record.reason, record.traceback])), pytrace=False)
        if self.bench.baseline is not None:
            hold_against(self.bench.baseline, record)
        if record.status == "skipped":
            pytest.skip(str(record.reason))

    def _note(self, **facts: Any) -> None:
        self.user_properties += [(f"lrbench.{name}", value) for name, value in facts.items()]

    def reportinfo(self) -> tuple[Path, int, str]:
        """Name the cell in the heading of its failure."""
        return self.path, 0, self.name


def hold_against(baseline: Store, record: Record) -> None:
    """Fail a cell that `lrbench compare` calls a regression from the baseline's record; skip what it does not compare."""
    from lrbench.leaderboard.compare import compare

    base = baseline.find(record.suite, record.key)
    pair = [] if base is None else [base], [record]
    found = compare(*pair)
    if found.verdict == "regression":
        if record.status == "skipped":
            pytest.fail(f"no score any more, the baseline has one: {record.reason}", pytrace=False)
        lines = [
            f"{change.metric} is worse by {abs(change.effect):.3f}: {change.base:.3f} in the baseline, now {change.head:.3f}"
            f" (tolerance {change.tolerance:g})"
            for change in found.having("worse")
        ]
        pytest.fail("\n".join(lines), pytrace=False)
    if record.status == "skipped":
        return  # it says itself why
    if base is None:
        pytest.skip(f"not compared: {baseline.folder} has no readable record of this cell")
    if found.verdict == "cannot tell":
        doubts = [f"{c.metric} {c.effect:+.3f}, noise up to {c.limit:.3f}" for c in found.having("cannot tell")]
        pytest.skip(f"cannot tell: {'; '.join(doubts)}: run more seeds and use `lrbench compare`")
    if found.verdict != "no regression":
        pytest.skip(": ".join([found.verdict, *(f"{note.kind}: {note.reason}" for note in found.notes if note.reason)]))


def summary(reports: Sequence[pytest.TestReport], folder: Path) -> Iterator[str]:
    """Yield the lines of the table method x task (mean score over seeds), then what was skipped and why."""
    facts: list[dict[str, Any]] = [dict(_own(report)) for report in reports]
    cells: dict[tuple[str, str], list[tuple[pytest.TestReport, float | None]]] = {}
    for report, fact in zip(reports, facts, strict=True):
        cells.setdefault((fact["method"], fact["task"]), []).append((report, fact.get(HEADLINE)))
    methods, tasks = (sorted({fact[name] for fact in facts}) for name in ("method", "task"))
    first = max(map(len, ["method", *methods])) + 2
    width = max(map(len, tasks)) + 2
    per_block = max(1, (get_terminal_size().columns - first) // width)
    for start in range(0, len(tasks), per_block):
        block = tasks[start : start + per_block]
        yield "method".ljust(first) + "".join(task.rjust(width) for task in block)
        for method in methods:
            yield method.ljust(first) + "".join(
                _cell_text(cells.get((method, task), [])).rjust(width) for task in block
            )
        yield ""
    stored = sum(fact.get("stored", False) for fact in facts)
    yield f"{len(reports)} cells: {len(reports) - stored} ran now, {stored} were stored in {folder}"
    skips = Counter(
        (fact["method"], report.longrepr[2].removeprefix("Skipped: "))
        for report, fact in zip(reports, facts, strict=True)
        if report.skipped and isinstance(report.longrepr, tuple)
    )
    for (method, reason), count in skips.items():
        yield f"{method} skipped on {count} of its tests: {reason}"


def _own(report: pytest.TestReport) -> Iterator[tuple[str, Any]]:
    return ((name.removeprefix("lrbench."), value) for name, value in report.user_properties)


def _cell_text(outcomes: Sequence[tuple[pytest.TestReport, float | None]]) -> str:
    """Mean score of the seeds, marked where one is worse than the baseline's; or why there is none."""
    scores = [score for _, score in outcomes if score is not None]
    if len(scores) < len(outcomes):
        return "failed" if any(report.failed for report, score in outcomes if score is None) else "skipped"
    return f"{sum(scores) / len(scores):.3f}{'!' * any(report.failed for report, _ in outcomes)}" if scores else ""
