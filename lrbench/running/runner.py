"""Plan cells (task, method, seed), skip what is stored, run the rest in workers, store each record as it comes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

from lrbench.boundary import kernel
from lrbench.boundary.sandbox import require_sandbox
from lrbench.boundary.surroundings import SALT
from lrbench.catalogue.methods import is_file, methods_for, select_methods
from lrbench.catalogue.source import MethodInfo
from lrbench.catalogue.tasks import load_task, select_tasks
from lrbench.errors import LrbenchError
from lrbench.longrun.report import Progress
from lrbench.record import MOST_IN_GROUP, Provenance, Record, name_fault
from lrbench.running.available import parted
from lrbench.running.cell import Cell, make_record, worker_setup
from lrbench.running.device import resolve_device
from lrbench.running.grouped import Job, each_of, is_foreign, jobs_of, with_threads
from lrbench.running.pool import Event, Failed, Finished, Started, Told, run_jobs
from lrbench.running.provenance import provenance_of
from lrbench.running.training_files import Keep
from lrbench.seeds import salt_hash
from lrbench.store import Problem, Store
from lrbench.task import get_suite

MOST_SEEDS = 1000  # of a run; hyper-parameters are chosen on the seeds from there on
CHECKPOINT_SECONDS = 600.0
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

    def told(self, cell: Cell, what: Progress | str) -> None:
        """A cell told how far it is, or a line for the user."""

    def recorded(self, record: Record) -> None:
        """A cell ended and its record is on the disk."""

    def apart(self, cells: Sequence[Cell], reason: str) -> None:
        """Cells that were to train in one program could not: each runs alone at the end."""


class Silent:
    """A reporter that says nothing."""

    def planned(self, todo: Sequence[Cell], done: int, problems: Sequence[Problem]) -> None: ...  # noqa: D102
    def started(self, cell: Cell) -> None: ...  # noqa: D102
    def told(self, cell: Cell, what: Progress | str) -> None: ...  # noqa: D102
    def recorded(self, record: Record) -> None: ...  # noqa: D102
    def apart(self, cells: Sequence[Cell], reason: str) -> None: ...  # noqa: D102


def plan(
    suite: str = "quick",
    tasks: Sequence[str] = (),
    methods: Sequence[str] = (),
    seeds: int | None = None,
    device: str = "cpu",
    salt: str | None = None,
    sandbox: bool = False,
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
    salt
        Makes worlds that no public seed describes, see `lrbench.seeds.salted`; ``LRBENCH_SALT`` by default, the empty one for none.
    sandbox
        Let every ``fit`` run in a sandbox but that of the references, which have to know the truth.

    Raises
    ------
    LrbenchError
        For an unknown name, a number that is not in 1 to 1000, or a sandbox that cannot be made here.
    """
    count = get_suite(suite).seeds if seeds is None else seeds
    if not 1 <= count <= MOST_SEEDS:
        raise LrbenchError(f"seeds={count}: expected 1 to {MOST_SEEDS}")
    salt = os.environ.get(SALT, "") if salt is None else salt
    if salt:
        kernel.hide_memory()  # of this process, which holds the salt
    return plan_seeds(suite, tasks, methods, range(count), provenance_of(device), salt, sandbox)


def plan_seeds(
    suite: str,
    tasks: Sequence[str],
    methods: Sequence[str],
    seeds: Sequence[int],
    provenance: Provenance,
    salt: str = "",
    sandbox: bool = False,
) -> list[Cell]:
    """All cells with the given seeds, see `plan`."""
    if sandbox:
        require_sandbox()
    task_infos = select_tasks(suite, tasks)
    named = select_methods(methods, partial(_canonical_elsewhere, sandbox=sandbox)) if methods else None
    for kind, infos in (("task", task_infos), ("method", named or ())):
        for fault in filter(None, (name_fault(kind, info.name) for info in infos)):
            raise LrbenchError(f"{fault}; records could not be named after it")
    cells = []
    for info in task_infos:
        asked = methods_for(info.kinds, info.twins, get_suite(suite).l0) if named is None else named
        for seed in seeds:
            task = load_task(info.source, suite, seed, salt)
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
                        isolation=_isolation(method, sandbox),
                        salt=salt,
                    )
                )
    return cells


def _isolation(method: MethodInfo, sandbox: bool) -> str:
    if sandbox and method.kind != "reference":
        return "sandbox"
    return "process" if is_file(method.source) else "none"


def _canonical_elsewhere(source: str, settings: str, sandbox: bool) -> list[str]:
    from lrbench.boundary.fit_client import canonical_elsewhere

    return canonical_elsewhere(source, settings, sandbox)


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
    sandbox: bool = False,
    salt: str | None = None,
    checkpoint_every: float = CHECKPOINT_SECONDS,
    log: bool = False,
    group: int = 1,
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
        Limits of one cell: seconds, those of its training before a kill included, and 10^9 bytes of resident memory of its worker.
    certify
        Store the theory's certificate of every dictionary in its record; a record without one runs again.
    sandbox
        Let every method fit inside a sandbox of bubblewrap; a record that was made outside runs again. The references, which have to
        know the truth, stay outside.
    salt
        See `plan`.
    checkpoint_every
        Seconds between the checkpoints of a cell that is being trained; a run that was killed goes on from them.
    log
        Write a log beside every record of kind ``"sdl"``: `lrbench.longrun.keeper.ROWS` rows of loss, L0, FVU and dead latents over
        the training; a record without one runs again.
    group
        How many cells of SDL methods of the catalogue, of one task and pairing, train in one program at most (`lrbench.grouping`); 1 for
        none with another. Then ``timeout`` is per cell on average. Where such a program fails, its cells run again, alone.

    Raises
    ------
    LrbenchError
        For an unknown name, a number out of range, an absent device, a folder that cannot be written to or holds records of another
        salt, or a sandbox that cannot be made here.

    Examples
    --------
    >>> summary = run("smoke", ["noise/0.3"], ["pca", "topk_sae[l0=2]"], out="results")  # doctest: +SKIP
    >>> summary.ran, summary.failed  # doctest: +SKIP
    (2, 0)
    """
    cells = [replace(cell, certify=certify) for cell in plan(suite, tasks, methods, seeds, device, salt, sandbox)]
    limits: dict[str, Any] = {"workers": workers, "timeout": timeout, "memory_gb": memory_gb, "group": group}
    kept: dict[str, Any] = {"checkpoint_every": checkpoint_every, "log": log}
    return run_cells(cells, out, device=device, reporter=reporter, **limits, **kept)


def run_cells(
    cells: Sequence[Cell],
    out: Path | str,
    *,
    workers: int | None = None,
    device: str = "auto",
    timeout: float | None = None,
    memory_gb: float | None = None,
    checkpoint_every: float = CHECKPOINT_SECONDS,
    log: bool = False,
    group: int = 1,
    reporter: Reporter | None = None,
) -> Summary:
    """Run those of some cells that the folder ``out`` has no record of, see `run`."""
    workers = (os.cpu_count() or 1) if workers is None else workers
    _check_limits(group, log, workers=workers, timeout=timeout, memory=memory_gb, checkpoint_every=checkpoint_every)
    place, reporter, store = {"device": resolve_device(device)}, reporter or Silent(), Store(out)
    stored, problems = store.read()
    records = {(record.suite, record.key): record for record in stored}
    for record in stored if cells else ():
        check_salt(record, cells[0].salt, store)
    kept = Keep(os.path.abspath(store.folder), checkpoint_every, log)
    cells = [_placed(cell, kept, place) for cell in cells]
    todo = [cell for cell in cells if not _done(store, cell, records.get((cell.suite, cell.key)))]
    todo = with_threads(todo, int(workers), group, memory_gb)
    store.prepare()
    for cell in cells:
        known = records.get((cell.suite, cell.key))
        if known is not None and cell.done_by(known):
            records[cell.suite, cell.key] = adopted(store, cell, known)
    reporter.planned(todo, len(cells) - len(todo), problems)
    fresh: list[Record] = []
    alone: list[Cell] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Started):
            for cell in event.job:
                reporter.started(cell)
            return
        if isinstance(event, Told):
            key, what = event.content
            reporter.told(next(cell for cell in event.job if cell.key == key), what)
            return
        if isinstance(event, Failed) and len(event.job) > 1:
            alone.extend(event.job)
            reporter.apart(event.job, event.reason)
            return
        for ended in each_of(event):
            record = keep(store, ended)
            records[record.suite, record.key] = record
            fresh.append(record)
            reporter.recorded(record)

    def run_all(jobs: Sequence[Job]) -> None:
        run_jobs(
            jobs,
            "lrbench.running.grouped:run_job",
            setup=worker_setup(any(cell.isolation == "process" for job in jobs for cell in job)),
            preload=PRELOAD,
            workers=workers,
            on_event=on_event,
            timeout=timeout,
            memory_gb=memory_gb,
            isolated=is_foreign,
            parts=len,
        )

    ready, skipped = parted(todo)
    for event in skipped:
        on_event(event)
    run_all(jobs_of(ready, group))
    run_all(jobs_of(alone, 1))
    count = [record.status for record in fresh].count
    return Summary(
        done=len(cells) - len(todo),
        ran=len(fresh),
        failed=count("failed"),
        skipped=count("skipped"),
        records=[records[cell.suite, cell.key] for cell in cells],
    )


def _placed(cell: Cell, kept: Keep, place: dict[str, Any]) -> Cell:
    """Return the cell as it runs here; a log is of training, so only the kind ``"sdl"`` has one."""
    kept = replace(kept, log=kept.log and cell.kind == "sdl")
    return replace(cell, keep=kept, provenance=cell.provenance.model_copy(update=place))


def _check_limits(group: int, log: bool, **numbers: float | None) -> None:
    for name, value in numbers.items():
        if value is not None and not (isfinite(value) and value > 0):
            raise LrbenchError(f"{name.replace('_', '-')}={value:g}: expected a number above 0")
    if not 1 <= group <= MOST_IN_GROUP:
        raise LrbenchError(f"group={group}: expected 1 to {MOST_IN_GROUP}, 1 to train every cell alone")
    if log and group > 1:
        raise LrbenchError(f"log with group={group}: a training in a group writes no log; leave one of the two out")


def _done(store: Store, cell: Cell, record: Record | None) -> bool:
    """Whether a cell has its record, and its log where one is asked for."""
    wants_log = cell.keep is not None and cell.keep.log
    has_log = store.log(cell.suite, cell.key).is_file() or (record is not None and record.status == "skipped")
    return cell.done_by(record) and (has_log or not wants_log)


def check_salt(record: Record, salt: str, store: Store) -> None:
    """Raise `LrbenchError` for a stored record whose worlds are of another salt: a folder holds those of one."""
    if record.salt_hash != salt_hash(salt):
        theirs = f"salted worlds (hash {record.salt_hash})" if record.salt_hash else "public worlds"
        ours = f"salted ones (hash {salt_hash(salt)})" if salt else "public ones"
        raise LrbenchError(f"{store.folder} holds records of {theirs}, this run has {ours}: name another --out")


def adopted(store: Store, cell: Cell, record: Record) -> Record:
    """Return the record of a done cell; what only a study had asked for is a run's from now on, where a run asks for it."""
    if cell.study is not None or record.study is None:
        return record
    record = record.model_copy(update={"study": None})
    store.write(record)
    return record


def keep(store: Store, event: Finished | Failed) -> Record:
    """Store the outcome of a cell, which needs its checkpoint no longer, and return the record that the store now has of it."""
    record = _kept(store, event)
    with contextlib.suppress(LrbenchError):  # a folder in its place, which the user was told of
        store.remove_beside(store.checkpoint(record.suite, record.key))
    return record


def _kept(store: Store, event: Finished | Failed) -> Record:
    record = _as_record(event)
    theirs = store.find(record.suite, record.key)
    if record.status == "failed" and theirs is not None and event.job.done_by(theirs):
        return theirs  # another run into this folder finished the cell meanwhile
    if theirs is not None and event.job.same_question(theirs):  # what others asked of this cell stays with it
        measures = theirs.measures | record.measures
        certificate = record.certificate or theirs.certificate
        study = record.study if theirs.study is not None else None
        record = record.model_copy(update={"measures": measures, "certificate": certificate, "study": study})
    if record.status == "failed" and theirs is not None and theirs.status == "ok":
        store.put_aside(record.suite, record.key)  # what was measured is not lost to a typo
    store.write(record)
    return record


def _as_record(event: Finished | Failed) -> Record:
    """The record of a cell that ended, with the memory that only the parent could watch."""
    if isinstance(event, Failed):
        record = make_record(event.job, event.seconds, status="failed", reason=event.reason, traceback=event.traceback)
    else:
        record = event.result
    seen = [peak for peak in (record.timing.peak_memory_mb, event.peak_memory_mb) if peak is not None]
    timing = record.timing.model_copy(update={"peak_memory_mb": max(seen, default=None)})
    return record.model_copy(update={"timing": timing})
