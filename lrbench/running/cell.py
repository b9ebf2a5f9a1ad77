"""One cell of a run, and what happens to it inside a worker: train, check, score, record."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from math import isnan
from typing import TYPE_CHECKING, Any

from lrbench.catalogue.methods import is_file, load_method, source_hash
from lrbench.catalogue.studies import load_study
from lrbench.catalogue.tasks import load_task
from lrbench.errors import LrbenchError, NotApplicable, describe
from lrbench.record import Key, Measures, ParentRecall, Provenance, Record, Timing, cell_id
from lrbench.study import Trained

if TYPE_CHECKING:
    from lrbench.dictionary import Dictionary
    from lrbench.task import Task


@dataclass(frozen=True)
class Cell:
    """One method on one task with one seed: all that a worker needs, and all that decides whether it is done.

    ``source``, ``task_source`` and ``study_source`` are what `load_method`, `load_task` and `load_study` take; ``threads`` is what its
    worker may use; ``certify`` asks for the theory's certificate beside the scores, ``study`` for what that study measures.
    """

    task: str
    family: str
    suite: str
    seed: int
    task_hash: str
    world_hash: str
    method: str
    source: str
    task_source: str
    pair: str
    kind: str
    source_hash: str
    task_source_hash: str
    provenance: Provenance
    threads: int = 1
    certify: bool = False
    study: str | None = None
    study_source: str = ""
    measure_hash: str = ""

    @property
    def key(self) -> Key:
        """The cell within its suite: (task, method, seed)."""
        return (self.task, self.method, self.seed)

    @property
    def id(self) -> str:
        """The cell for a person: ``task[method-seed0]``."""
        return cell_id(self.key)

    @property
    def foreign(self) -> bool:
        """Whether it runs code from outside the catalogue, of which nothing is known."""
        sources = (self.source, self.task_source.partition("::")[0], self.study_source)
        return any(map(is_file, sources))

    def done_by(self, record: Record | None) -> bool:
        """Whether a record answers this cell: same task, world and sources, all that was asked for, and not a failure."""
        if record is None or record.status == "failed":
            return False
        if self.certify and record.status == "ok" and record.certificate is None:
            return False
        if self.measure_hash and record.status == "ok":
            measures = record.measures.get(str(self.study))
            if measures is None or measures.source_hash != self.measure_hash:
                return False
        return self.same_question(record)

    def same_question(self, record: Record) -> bool:
        """Whether a record is of this very task, world and code, whatever came of it."""
        facts = ("task_hash", "world_hash", "source_hash", "task_source_hash")
        return all(getattr(record, fact) == getattr(self, fact) for fact in facts)


def prepare_worker() -> None:
    """Load what takes long once per worker, before any cell's clock runs."""
    import torch

    import lrbench.scoring.metrics
    import lrbench.sdl  # noqa: F401

    torch.set_num_threads(1)


def run_cell(cell: Cell) -> Record:
    """Train and score one cell in this process. What the method raises becomes a failed record."""
    began = time.perf_counter()
    try:
        return attempt(cell, began)
    except NotApplicable as why:
        return make_record(cell, time.perf_counter() - began, status="skipped", reason=" ".join(str(why).split()))
    except (Exception, SystemExit) as error:
        reason, trace = describe(error)
        return make_record(cell, time.perf_counter() - began, status="failed", reason=reason, traceback=trace)


def attempt(cell: Cell, began: float) -> Record:
    """Train and score one cell whose clock started at ``began``; what the method raises goes through."""
    import torch

    from lrbench.contract.faults import VIEW_CHANGED, Asked, accepted, settings_fault
    from lrbench.running.guard import Guard
    from lrbench.scoring.metrics import evaluate

    device = cell.provenance.device
    _reset_process(cell.seed)
    task = _cached_task(cell.task_source, cell.suite, cell.seed)
    if (task.hash, task.world_hash) != (cell.task_hash, cell.world_hash):
        raise LrbenchError(f"the task {cell.task} has changed since the run was planned: run again")
    guard = Guard(__name__)
    method = load_method(cell.source)
    if source_hash(cell.source) != cell.source_hash:
        raise LrbenchError(f"{cell.method}, or code it rests on, has changed since the run was planned: run again")
    hyperparameters = method.hyperparameters()
    fault = settings_fault(hyperparameters)
    if fault is not None:
        raise LrbenchError(fault)
    view = task.view(cell.pair, device)
    given = view.fingerprint()
    torch.set_num_threads(cell.threads)  # for training alone: the engine's sums do not depend on it, a score's may
    start = time.perf_counter()
    fitted = method.fit(view, seed=cell.seed)
    if device == "cuda":
        torch.cuda.synchronize()
    train_seconds = time.perf_counter() - start
    if view.fingerprint() != given:
        raise LrbenchError(VIEW_CHANGED)
    guard.check()
    _reset_process(cell.seed)
    dictionary, n_samples = accepted(fitted, Asked(view, cell.kind)), view.budget.n_samples
    del view, fitted  # at the paper's scale the training data are a good part of the memory
    result = evaluate(dictionary, task)
    return make_record(
        cell,
        time.perf_counter() - began,
        status="ok",
        hyperparameters=hyperparameters,
        scores={name: _known(value) for name, value in result.scores.items()},
        curves=result.curves,
        parents=[
            ParentRecall(
                parent=int(row["parent"]),
                recall_alone=_known(row["recall_alone"]),
                recall_with_child=_known(row["recall_with_child"]),
            )
            for row in result.parents
        ],
        world=_facts(task),
        certificate=_certificate(dictionary, task) if cell.certify else None,
        measures=_measures(cell, Trained(dictionary, task, method, cell.seed)) if cell.measure_hash else {},
        train_seconds=train_seconds,
        samples_per_second=n_samples / train_seconds if cell.kind == "sdl" else None,
    )


def _certificate(dictionary: Dictionary, task: Task) -> dict[str, Any]:
    from lrbench.theory import certify

    return certify(dictionary.to("cpu"), task.world).to_dict()


def _measures(cell: Cell, trained: Trained) -> dict[str, Measures]:
    measure = load_study(cell.study_source).measure
    assert measure is not None, "a cell has a measure's hash where the study has a measure"
    values = {name: _known(value) for name, value in measure(trained).items()}
    return {str(cell.study): Measures(source_hash=cell.measure_hash, values=values)}


def _known(value: float) -> float | None:
    """None for the NaN of what does not apply; an infinite score is an error that `Record` raises."""
    return None if isnan(value) else float(value)


def _reset_process(seed: int) -> None:
    """Undo what an earlier cell in this process may have changed: a record must not depend on its neighbours."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (for what a method's file draws on import)
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_grad_enabled(True)
    torch.set_num_threads(1)


@lru_cache(maxsize=1)
def _cached_task(source: str, suite: str, seed: int) -> Task:
    return load_task(source, suite, seed)


def _facts(task: Task) -> dict[str, Any]:
    spec = task.spec.world
    return {
        "n_features": spec.n_features,
        "dim": spec.dims[0],
        "n_sites": len(spec.dims),
        "n_latents": task.spec.n_latents,
        "interference": spec.interference,
        "interference_reached": max(task.world.interference),
        "mean_l0": spec.mean_l0,
        "extreme_sparsity": spec.extreme_sparsity,
    }


def make_record(
    cell: Cell,
    seconds: float,
    train_seconds: float | None = None,
    samples_per_second: float | None = None,
    **outcome: Any,
) -> Record:
    """Return the record of a cell that ends now, after ``seconds``; ``outcome`` holds more fields of `Record`."""
    return Record(
        task=cell.task,
        family=cell.family,
        suite=cell.suite,
        seed=cell.seed,
        task_hash=cell.task_hash,
        world_hash=cell.world_hash,
        method=cell.method,
        pair=cell.pair,
        kind=cell.kind,
        source_hash=cell.source_hash,
        task_source_hash=cell.task_source_hash,
        study=cell.study,
        provenance=cell.provenance,
        timing=Timing(
            seconds=seconds,
            train_seconds=train_seconds,
            samples_per_second=samples_per_second,
            finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        ),
        **outcome,
    )
