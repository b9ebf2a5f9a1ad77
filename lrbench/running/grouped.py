"""Cells that train in one program: which go together, what a worker does with them, and one record each in the end."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lrbench.boundary.training import Fitted, reset_process, settings_of
from lrbench.catalogue.methods import load_method
from lrbench.record import Key, Record
from lrbench.running.cell import Cell, Ready, check_source, run_cell, task_of
from lrbench.running.pool import Failed, Finished

if TYPE_CHECKING:
    from lrbench.grouping.training import Member
    from lrbench.task import Task
    from lrbench.view import TrainView

Job = tuple[Cell, ...]  # what a worker does at a time: one cell, or some that train together


@dataclass(frozen=True)
class _Loaded:
    """A cell with what it trains on, the method's hyper-parameters, and the seconds that it took to get there."""

    cell: Cell
    task: Task
    member: Member
    settings: dict[str, Any]
    seconds: float


def jobs_of(cells: Sequence[Cell], group: int) -> list[Job]:
    """Return the jobs of a run, in the order of their first cells.

    Parameters
    ----------
    cells
        All cells of the run.
    group
        Most cells of a job. They have the suite, the task and the pairing in common, and each is `Cell.groupable`; any other cell is
        a job of its own.
    """
    jobs: list[list[Cell]] = []
    unfilled: dict[Hashable, list[Cell]] = {}
    for cell in cells:
        shared = (cell.suite, cell.task, cell.task_hash, cell.pair)
        job = unfilled.get(shared) if cell.groupable else None
        if job is None or len(job) == group:
            job = []
            jobs.append(job)
        job.append(cell)
        if cell.groupable:
            unfilled[shared] = job
    return [tuple(job) for job in jobs]


def with_threads(todo: Sequence[Cell], workers: int, group: int, memory_gb: float | None) -> list[Cell]:
    """Return cells that use several threads where cores are left over."""
    side_by_side = max(1, min(workers, len(jobs_of(todo, group))))
    threads = max(1, (os.cpu_count() or 1) // side_by_side)
    return [replace(cell, threads=threads, memory_gb=memory_gb) for cell in todo]


def is_foreign(job: Job) -> bool:
    """Whether code from outside the catalogue runs in the job's worker."""
    return any(cell.foreign for cell in job)


def each_of(event: Finished | Failed) -> Iterator[Finished | Failed]:
    """Yield the same of every cell of a job; only a job of one cell may have failed."""
    if isinstance(event, Failed):
        (cell,) = event.job
        yield replace(event, job=cell)
        return
    for cell, record in zip(event.job, event.result, strict=True):
        yield replace(event, job=cell, result=record)


def run_job(job: Job) -> list[Record]:
    """Train and score the cells of a job in this process; those that can train in one program do.

    Raises
    ------
    Exception
        What ends a shared program. It may be the fault of any of its cells, so none has a record then.
    """
    if len(job) == 1:
        return [run_cell(job[0])]
    ready: dict[Key, Ready] = {}
    grouped: dict[Key, Cell] = {}
    for together in _sorted_by_shape(job):
        if len(together) > 1:
            ready |= _trained(together)
            grouped |= {it.cell.key: _noted(it.cell, len(together)) for it in together}
    return [run_cell(grouped.get(cell.key, cell), ready.pop(cell.key, None)) for cell in job]


def _sorted_by_shape(job: Job) -> list[list[_Loaded]]:
    """Return the cells that can share a program; those that share none are left out, and so are those that do not load."""
    from lrbench.grouping.training import Member, group_key
    from lrbench.sdl import SDL

    found: dict[Hashable, list[_Loaded]] = {}
    views: dict[int, TrainView] = {}  # cells of one seed look at one copy of the data
    reset_process(job[0].seed)
    for cell in job:
        began = time.perf_counter()
        try:
            check_source(cell)
            method = load_method(cell.source)
            task = task_of(cell)
            view = views[cell.seed] = views.get(cell.seed) or task.view(cell.pair, cell.provenance.device)
            key, settings = group_key(method, view), settings_of(method)
        except Exception:  # alone, as it will run now, it raises the same again and has a record of it
            continue
        if isinstance(method, SDL) and key is not None:
            member, seconds = Member(method, view, task.fit_seed), time.perf_counter() - began
            loaded = _Loaded(cell, task, member, settings, seconds)
            found.setdefault(key, []).append(loaded)
    return list(found.values())


def _trained(together: Sequence[_Loaded]) -> dict[Key, Ready]:
    """Train cells in one program; each is charged the same share of the seconds."""
    import torch

    from lrbench.grouping.training import fit_group

    torch.set_num_threads(together[0].cell.threads)
    began = time.perf_counter()
    with contextlib.ExitStack() as accounts:
        for view in {it.member.view for it in together}:  # what one batch shows, all members see that share the view
            accounts.enter_context(view.meter.account(view.budget.n_samples))
        dictionaries = fit_group([it.member for it in together])
    if dictionaries[0].W_dec.is_cuda:
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - began) / len(together)
    return {
        it.cell.key: Ready(
            it.task,
            Fitted(dictionary, it.member.view.spent, it.settings, seconds, it.member.method),
            it.seconds + seconds,
        )
        for it, dictionary in zip(together, dictionaries, strict=True)
    }


def _noted(cell: Cell, group: int) -> Cell:
    """Return the cell with the size of its group in its provenance."""
    return replace(cell, provenance=cell.provenance.model_copy(update={"group": group}))
