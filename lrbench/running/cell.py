"""One cell of a run, and what happens to it inside a worker: train, check, score, record."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import lru_cache
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrbench.boundary.sandbox import Limits
from lrbench.boundary.training import Fitted, fit, reset_process, settings_of
from lrbench.boundary.wire import FitFailed
from lrbench.catalogue.methods import is_file, load_method, source_hash, split
from lrbench.catalogue.studies import load_study
from lrbench.catalogue.tasks import load_task
from lrbench.errors import LrbenchError, NotApplicable, Unavailable, describe, one_line
from lrbench.record import Key, Measures, ParentRecall, Provenance, Record, Timing, cell_id
from lrbench.running.training_files import Keep, TrainingFiles, remove_log
from lrbench.seeds import salt_hash
from lrbench.study import Trained

if TYPE_CHECKING:
    from lrbench.dictionary import Dictionary
    from lrbench.task import Task
    from lrbench.view import TrainView

AVAILABLE = "available"  # the fact of a world that could not be had when the record was made
ISOLATIONS = ("none", "process", "sandbox")  # each as good as those before it


@dataclass(frozen=True)
class Cell:
    """One method on one task with one seed: all that a worker needs, and all that decides whether it is done.

    ``source``, ``task_source`` and ``study_source`` are what `load_method`, `load_task` and `load_study` take; ``threads`` is what its
    worker may use; ``certify`` asks for the theory's certificate beside the scores, ``study`` for what that study measures;
    ``isolation`` says where ``fit`` runs, see `lrbench.record.Provenance`; ``salt`` never leaves the trusted side; ``keep`` says what is
    kept of the training while it goes on.
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
    isolation: str = "none"
    memory_gb: float | None = None
    salt: str = field(default="", repr=False)
    keep: Keep | None = None

    @property
    def key(self) -> Key:
        """The cell within its suite: (task, method, seed)."""
        return (self.task, self.method, self.seed)

    @property
    def id(self) -> str:
        """The cell for a person: ``task[method-seed0]``."""
        return cell_id(self.key)

    @property
    def groupable(self) -> bool:
        """Whether it may train in one program with others: an SDL method of the catalogue, beside a world of the catalogue."""
        return self.kind == "sdl" and self.isolation == "none" and not self.foreign

    @property
    def foreign(self) -> bool:
        """Whether code from outside the catalogue runs in its worker: a user's task or study. A user's method fits elsewhere."""
        return any(source.endswith(".py") for source in (self.task_source.partition("::")[0], self.study_source))

    @property
    def identity(self) -> str:
        """The hash of all that a training's bits follow from, but the number of threads, which a checkpoint brings along."""
        from lrbench.engine.processor import instructions

        here = self.provenance
        facts = [
            self.suite,
            *self.key,
            self.task_hash,
            self.world_hash,
            self.source_hash,
            self.task_source_hash,
            self.pair,
        ]
        facts += [
            salt_hash(self.salt),
            self.isolation,
            here.lrbench,
            here.device,
            here.engine,
            sorted(here.packages.items()),
            instructions(),
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def done_by(self, record: Record | None) -> bool:
        """Whether a record answers this cell: same task, world and sources, all that was asked for, made as here, and no failure."""
        if record is None or record.status == "failed" or record.world.get(AVAILABLE) is False:
            return False
        if self.certify and record.status == "ok" and record.certificate is None:
            return False
        if self.measure_hash and record.status == "ok":
            measures = record.measures.get(str(self.study))
            if measures is None or measures.source_hash != self.measure_hash:
                return False
        return self.same_question(record) and self.same_place(record.provenance)

    def same_place(self, place: Provenance) -> bool:
        """Whether a record was made as this cell would be: the same torch, device and engine, and at least as isolated."""
        here = self.provenance
        facts = [(it.packages.get("torch"), it.device, it.engine) for it in (here, place)]
        return facts[0] == facts[1] and ISOLATIONS.index(self.isolation) <= ISOLATIONS.index(place.isolation or "none")

    def same_question(self, record: Record) -> bool:
        """Whether a record is of this very task, world and code, whatever came of it."""
        facts = ("task_hash", "world_hash", "source_hash", "task_source_hash")
        return all(getattr(record, fact) == getattr(self, fact) for fact in facts)


@dataclass(frozen=True)
class Ready:
    """A cell that has trained, with others: its task, what came of the training, and its share of the seconds so far."""

    task: Task
    fitted: Fitted
    seconds: float


def prepare_worker() -> None:
    """Load what takes long once per worker, before any cell's clock runs."""
    import torch

    import lrbench.grouping.training
    import lrbench.scoring.metrics
    import lrbench.sdl  # noqa: F401

    torch.set_num_threads(1)


def prepare_worker_for_files() -> None:
    """As `prepare_worker`, with a server of fit processes for methods from outside the catalogue: forked now, before there is a world."""
    from lrbench.boundary.fit_client import fork_server

    fork_server()
    prepare_worker()


def worker_setup(files: bool) -> str:
    """Return the setup of a worker, as `lrbench.running.pool` names it."""
    return f"{__name__}:{prepare_worker_for_files.__name__ if files else prepare_worker.__name__}"


def run_cell(cell: Cell, ready: Ready | None = None) -> Record:
    """Train one cell in this process, unless it is ``ready``, and score it. What goes wrong becomes a failed record."""
    began, files = time.perf_counter() - (0.0 if ready is None else ready.seconds), None
    try:
        if cell.keep is not None and ready is not None:
            remove_log(cell.keep, cell.suite, cell.key)  # a training with others writes none
        elif cell.keep is not None and cell.kind != "reference":  # which has to be given the task's own view
            files = TrainingFiles(cell.keep, cell.suite, cell.key, cell.identity, cell.threads)
            began -= files.spent
        record = attempt(cell, began, ready, files)
    except NotApplicable as why:
        record = make_record(
            cell, time.perf_counter() - began, status="skipped", reason=one_line(str(why)) or "no reason"
        )
    except Unavailable as why:
        record = unavailable(cell, str(why), time.perf_counter() - began)
    except (Exception, SystemExit) as error:
        reason, trace = (str(error), error.traceback) if isinstance(error, FitFailed) else describe(error)
        record = make_record(cell, time.perf_counter() - began, status="failed", reason=reason, traceback=trace)
    if files is not None:
        files.end(ok=record.status == "ok")
    return record


def unavailable(cell: Cell, reason: str, seconds: float = 0.0) -> Record:
    """Return the record of a cell whose world cannot be had here: it is skipped, and the next run asks again."""
    return make_record(cell, seconds, status="skipped", reason=one_line(reason), world={AVAILABLE: False})


def attempt(cell: Cell, began: float, ready: Ready | None = None, files: TrainingFiles | None = None) -> Record:
    """Train and score one cell whose clock started at ``began``, see `run_cell`; what the method raises goes through."""
    from lrbench.contract.faults import Asked, accepted
    from lrbench.scoring.metrics import evaluate

    reset_process(cell.seed)
    task = task_of(cell) if ready is None else ready.task
    view = task.view(cell.pair, cell.provenance.device)
    fitted = _fitted(cell, view, task.fit_seed, files) if ready is None else ready.fitted
    reset_process(cell.seed)
    dictionary = accepted(fitted.dictionary, Asked(view, cell.kind))
    del view  # at the paper's scale the training data are a good part of the memory
    result = evaluate(dictionary, task)
    trained = Trained(dictionary, task, fitted.method, cell.seed)
    return make_record(
        cell,
        time.perf_counter() - began,
        status="ok",
        hyperparameters=fitted.hyperparameters,
        spent=None if cell.kind == "reference" else fitted.spent,
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
        measures=_measures(cell, trained) if cell.measure_hash else {},
        train_seconds=fitted.seconds,
        samples_per_second=fitted.spent.charged / fitted.seconds if cell.kind == "sdl" else None,
        peak_memory_mb=fitted.peak_mb,
    )


def task_of(cell: Cell) -> Task:
    """Return the task of a cell, or raise `LrbenchError` when it is not the one that was planned any more."""
    task = _cached_task(cell.task_source, cell.suite, cell.seed, cell.salt)
    if (task.hash, task.world_hash) != (cell.task_hash, cell.world_hash):
        raise LrbenchError(f"the task {cell.task} has changed since the run was planned: run again")
    return task


def check_source(cell: Cell) -> None:
    """Raise `LrbenchError` when the method's code is not what was planned any more."""
    if source_hash(cell.source) != cell.source_hash:
        raise LrbenchError(f"{cell.method}, or code it rests on, has changed since the run was planned: run again")


def _fitted(cell: Cell, view: TrainView, seed: int, files: TrainingFiles | None) -> Fitted:
    """Let the method fit: beside the world, or on the other side of the boundary where it comes from outside or was sent there."""
    check_source(cell)
    keeping, threads, before = None, cell.threads, 0.0
    if files is not None:
        keeping, threads, before = files.keeping(view.budget.n_samples), files.threads, files.spent
    if cell.isolation == "none":
        view = view if keeping is None else replace(view, keeper=keeping.keeper(view))
        reset_process(seed)
        method = load_method(cell.source)
        settings = settings_of(method)
        dictionary, took, seconds = fit(method, view, seed, threads)
        return Fitted(dictionary, took, settings, before + seconds, method)
    from lrbench.boundary.fit_client import FitElsewhere

    limits = None
    if cell.isolation == "sandbox":
        limits = Limits() if cell.memory_gb is None else Limits(cell.memory_gb)
    fitted = FitElsewhere(
        pair=cell.pair,
        source=cell.source,
        file=Path(split(cell.source)[0]) if is_file(cell.source) else None,
        threads=threads,
        device=cell.provenance.device,
        memory_gb=cell.memory_gb if limits is None else limits.memory_gb,
        limits=limits,
        keeping=keeping,
    ).fitted(view, seed)
    return replace(fitted, seconds=before + fitted.seconds)


def _certificate(dictionary: Dictionary, task: Task) -> dict[str, Any] | None:
    from lrbench.theory import certify

    if task.spec.world.proxy:  # the theory speaks of a truth that is known
        return None
    return certify(dictionary.to("cpu"), task.world).to_dict()


def _measures(cell: Cell, trained: Trained) -> dict[str, Measures]:
    measure = load_study(cell.study_source).measure
    assert measure is not None, "a cell has a measure's hash where the study has a measure"
    values = {name: _known(value) for name, value in measure(trained).items()}
    return {str(cell.study): Measures(source_hash=cell.measure_hash, values=values)}


def _known(value: float) -> float | None:
    """None for the NaN of what does not apply; an infinite score is an error that `Record` raises."""
    return None if isnan(value) else float(value)


@lru_cache(maxsize=1)
def _cached_task(source: str, suite: str, seed: int, salt: str) -> Task:
    return load_task(source, suite, seed, salt)


def _facts(task: Task) -> dict[str, Any]:
    spec = task.spec.world
    proxy = {"proxy": spec.proxy} if spec.proxy else {}
    return proxy | {
        "n_features": spec.n_features,
        "dim": spec.dims[0],
        "n_sites": len(spec.dims),
        "n_latents": task.spec.n_latents,
        "interference": spec.interference,
        "interference_reached": max(task.world.interference),
        "mean_l0": spec.mean_l0,
        "told_l0": task.spec.told_l0,
        "extreme_sparsity": spec.extreme_sparsity,
    }


def make_record(
    cell: Cell,
    seconds: float,
    train_seconds: float | None = None,
    samples_per_second: float | None = None,
    peak_memory_mb: float | None = None,
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
        salt_hash=salt_hash(cell.salt),
        provenance=cell.provenance.model_copy(update={"isolation": cell.isolation}),
        timing=Timing(
            seconds=seconds,
            train_seconds=train_seconds,
            samples_per_second=samples_per_second,
            peak_memory_mb=peak_memory_mb,
            finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        ),
        **outcome,
    )
