"""Plan cells (task, method, seed), skip what is stored, run the rest in workers, store each record as it comes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from operator import attrgetter
from pathlib import Path
from typing import Protocol

from lrbench.catalogue.methods import methods_for, select_methods
from lrbench.catalogue.tasks import load_task, select_tasks
from lrbench.errors import LrbenchError
from lrbench.record import Provenance, Record
from lrbench.running.cell import Cell, make_record
from lrbench.running.pool import Event, Failed, Finished, Started, run_jobs
from lrbench.running.provenance import provenance_of
from lrbench.store import Problem, Store
from lrbench.task import get_suite

MOST_SEEDS = 1000  # of a run; hyper-parameters are chosen on the seeds from there on
DEVICES = ("auto", "cpu", "cuda")
PRELOAD = ("lrbench.running.preload",)


@dataclass(frozen=True)
class Summary:
    """What a run did: cells found stored, run now (of which failed, skipped), and the records of all planned cells."""

    done: int
    ran: int
    failed: int
    skipped: int
    records: list[Record]


class Reporter(Protocol):
    """Told what happens during a run."""

    def planned(self, todo: Sequence[Cell], done: int, problems: Sequence[Problem]) -> None:
        """Before the first cell: the cells to run, how many others are stored, and files that are no records."""

    def started(self, cell: Cell) -> None:
        """A worker took up a cell."""

    def recorded(self, record: Record) -> None:
        """A cell ended and its record is on the disk."""


class Silent:
    """A reporter that says nothing."""

    def planned(self, todo: Sequence[Cell], done: int, problems: Sequence[Problem]) -> None: ...  # noqa: D102
    def started(self, cell: Cell) -> None: ...  # noqa: D102
    def recorded(self, record: Record) -> None: ...  # noqa: D102


def plan(
    suite: str = "quick",
    tasks: Sequence[str] = (),
    methods: Sequence[str] = (),
    seeds: int | None = None,
    device: str = "cpu",
) -> list[Cell]:
    """All cells of a run, task by task, so that neighbours share a world.

    Parameters
    ----------
    suite, tasks, methods
        A suite's name; names, globs or files of tasks and of methods, by default all tasks of the suite and of the methods
        those that a task's family asks, see `lrbench.catalogue.tasks.select_tasks`, `select_methods` and `methods_for`.
    seeds
        Seeds 0 to ``seeds - 1``, the suite's number by default.
    device
        Where methods train.

    Raises
    ------
    LrbenchError
        For an unknown name, or a number that is not in 1 to 1000.
    """
    count = get_suite(suite).seeds if seeds is None else seeds
    if not 1 <= count <= MOST_SEEDS:
        raise LrbenchError(f"seeds={count}: expected 1 to {MOST_SEEDS}")
    return plan_seeds(suite, tasks, methods, range(count), provenance_of(device))


def plan_seeds(
    suite: str, tasks: Sequence[str], methods: Sequence[str], seeds: Sequence[int], provenance: Provenance
) -> list[Cell]:
    """All cells with the given seeds, see `plan`."""
    task_infos, named = select_tasks(suite, tasks), select_methods(methods) if methods else None
    cells = []
    for info in task_infos:
        asked = methods_for(info.kinds, info.twins) if named is None else named
        for seed in seeds:
            task = load_task(info.source, suite, seed)
            for method in asked:
                cells.append(
                    Cell(
                        task=info.name,
                        family=info.family,
                        suite=suite,
                        seed=seed,
                        task_hash=task.hash,
                        world_hash=task.world_hash,
                        method=method.name,
                        source=method.source,
                        task_source=info.source,
                        pair=method.pair,
                        kind=method.kind,
                        source_hash=method.source_hash,
                        task_source_hash=info.source_hash,
                        provenance=provenance,
                    )
                )
    return cells


def run(
    suite: str = "quick",
    tasks: Sequence[str] = (),
    methods: Sequence[str] = (),
    *,
    seeds: int | None = None,
    out: Path | str = "results",
    workers: int | None = None,
    device: str = "auto",
    timeout: float | None = None,
    memory_gb: float | None = None,
    certify: bool = False,
    reporter: Reporter | None = None,
) -> Summary:
    """Run all cells that the folder ``out`` has no record of; failures run again.

    Parameters
    ----------
    suite, tasks, methods, seeds
        What to run, see `plan`.
    out
        The folder of the records; made when absent.
    workers
        Number of processes, as many as cores by default.
    device
        ``"auto"`` (a GPU when there is one), ``"cpu"`` or ``"cuda"``.
    timeout, memory_gb
        Limits of one cell: seconds, and 10^9 bytes of resident memory of its worker.
    certify
        Store the theory's certificate of every dictionary in its record; a record without one runs again.

    Raises
    ------
    LrbenchError
        For an unknown name, a number out of range, an absent device or a folder that cannot be written to.

    Examples
    --------
    >>> summary = run("smoke", ["noise/0.3"], ["pca", "topk_sae[ratio=2]"], out="results")  # doctest: +SKIP
    >>> summary.ran, summary.failed  # doctest: +SKIP
    (2, 0)
    """
    cells = [replace(cell, certify=certify) for cell in plan(suite, tasks, methods, seeds, device)]
    return run_cells(
        cells, out, workers=workers, device=device, timeout=timeout, memory_gb=memory_gb, reporter=reporter
    )


def run_cells(
    cells: Sequence[Cell],
    out: Path | str,
    *,
    workers: int | None = None,
    device: str = "auto",
    timeout: float | None = None,
    memory_gb: float | None = None,
    reporter: Reporter | None = None,
) -> Summary:
    """Run those of some cells that the folder ``out`` has no record of, see `run`."""
    workers = (os.cpu_count() or 1) if workers is None else workers
    for name, value in (("workers", workers), ("timeout", timeout), ("memory", memory_gb)):
        if value is not None and not (isfinite(value) and value > 0):
            raise LrbenchError(f"{name}={value:g}: expected a number above 0")
    _check_device(device)
    reporter = reporter or Silent()
    store = Store(out)
    stored, problems = store.read()
    records = {(record.suite, record.key): record for record in stored}
    todo = [cell for cell in cells if not cell.done_by(records.get((cell.suite, cell.key)))]
    if todo:  # asking torch for a GPU takes seconds that a run with nothing to do can spare
        place = provenance_of(resolve_device(device))
        threads = max(
            1, (os.cpu_count() or 1) // min(int(workers), len(todo))
        )  # several each where cores are left over
        todo = [replace(cell, threads=threads, provenance=place) for cell in todo]
    store.prepare()
    for cell in cells:
        known = records.get((cell.suite, cell.key))
        if known is not None and cell.done_by(known):
            records[cell.suite, cell.key] = adopted(store, cell, known)
    reporter.planned(todo, len(cells) - len(todo), problems)
    fresh: list[Record] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Started):
            reporter.started(event.job)
            return
        record = keep(store, event)
        records[record.suite, record.key] = record
        fresh.append(record)
        reporter.recorded(record)

    run_jobs(
        todo,
        "lrbench.running.cell:run_cell",
        setup="lrbench.running.cell:prepare_worker",
        preload=PRELOAD,
        workers=workers,
        on_event=on_event,
        timeout=timeout,
        memory_gb=memory_gb,
        isolated=attrgetter("foreign"),
    )
    count = [record.status for record in fresh].count
    return Summary(
        done=len(cells) - len(todo),
        ran=len(fresh),
        failed=count("failed"),
        skipped=count("skipped"),
        records=[records[cell.suite, cell.key] for cell in cells],
    )


def resolve_device(device: str) -> str:
    """The device that ``auto``, ``cpu`` or ``cuda`` stands for on this machine.

    Raises
    ------
    LrbenchError
        For another name, or for ``cuda`` where there is none.
    """
    _check_device(device)
    if device == "cpu":
        return device
    import torch

    present = torch.cuda.is_available()
    if device == "cuda" and not present:
        raise LrbenchError("no CUDA device on this machine: use --device cpu or --device auto")
    return "cuda" if present else "cpu"


def _check_device(device: str) -> None:
    if device not in DEVICES:
        raise LrbenchError(f"unknown device {device!r}: expected {', '.join(DEVICES[:-1])} or {DEVICES[-1]}")


def adopted(store: Store, cell: Cell, record: Record) -> Record:
    """Return the record of a done cell; what only a study had asked for is a run's from now on, where a run asks for it."""
    if cell.study is not None or record.study is None:
        return record
    record = record.model_copy(update={"study": None})
    store.write(record)
    return record


def keep(store: Store, event: Finished | Failed) -> Record:
    """Store the outcome of a cell and return the record that the store now has of it."""
    record = _as_record(event)
    theirs = store.find(record.suite, record.key)
    if record.status == "failed" and theirs is not None and event.job.done_by(theirs):
        return theirs  # another run into this folder finished the cell meanwhile
    if theirs is not None and event.job.same_question(theirs):  # what others asked of this cell stays with it
        measures = theirs.measures | record.measures
        certificate = record.certificate or theirs.certificate
        study = record.study if theirs.study is not None else None
        record = record.model_copy(update={"measures": measures, "certificate": certificate, "study": study})
    store.write(record)
    return record


def _as_record(event: Finished | Failed) -> Record:
    """The record of a cell that ended, with the memory that only the parent could watch."""
    if isinstance(event, Failed):
        record = make_record(event.job, event.seconds, status="failed", reason=event.reason, traceback=event.traceback)
    else:
        record = event.result
    timing = record.timing.model_copy(update={"peak_memory_mb": event.peak_memory_mb})
    return record.model_copy(update={"timing": timing})
