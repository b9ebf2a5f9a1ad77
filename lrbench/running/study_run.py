"""A study through the one runner: its cells are run as all cells are, round by round, and its page is written from their records alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lrbench.catalogue.studies import StudyInfo, hash_of_measure, load_study
from lrbench.errors import LrbenchError
from lrbench.record import Key, Record
from lrbench.running.cell import Cell
from lrbench.running.device import resolve_device
from lrbench.running.pool import Finished
from lrbench.running.provenance import provenance_of
from lrbench.running.runner import MOST_SEEDS, check_salt, keep, plan_seeds
from lrbench.store import Store, read_packed
from lrbench.study import Block, Study
from lrbench.task import get_suite

Answer = Callable[[Sequence[Cell]], Sequence[Record]]


def study_cells(info: StudyInfo, suite: str, seeds: int | None = None) -> list[Cell]:
    """Return the cells of a study's first round, which is most studies' only one, in the order of its plan, each once.

    Parameters
    ----------
    info
        From `lrbench.catalogue.studies.find_study`.
    suite
        The scale.
    seeds
        Number of seeds, the study's own by default.

    Raises
    ------
    LrbenchError
        For an unknown suite, a number of seeds that is not in 1 to 1000, a plan without a cell, or a name in it that does not exist.
    """
    check_scale(suite, seeds)
    study = load_study(info.source)
    cells = _cells(info, study, suite, study.plan(suite, seeds))
    if not cells:
        raise LrbenchError(
            f"the study {info.name} asks for no cell in the suite {suite}: its plan has to return a Block"
        )
    return cells


def check_scale(suite: str, seeds: int | None) -> None:
    """Raise `LrbenchError` for an unknown suite, or a number of seeds that is not in 1 to 1000."""
    get_suite(suite)
    if seeds is not None and not 1 <= seeds <= MOST_SEEDS:
        raise LrbenchError(f"seeds={seeds}: expected 1 to {MOST_SEEDS}")


def study_rounds(
    info: StudyInfo, suite: str, seeds: int | None, first: Sequence[Cell], answer: Answer
) -> tuple[list[Cell], list[Record]]:
    """Go through a study round by round, and return all its cells and those records of theirs that there are.

    Parameters
    ----------
    info, suite, seeds
        See `study_cells`.
    first
        What that returned.
    answer
        Runs the cells of a round, or looks them up, and returns their records. Where it finds none, nothing more is asked.
    """
    study = load_study(info.source)
    cells, fresh, records = list(first), list(first), list[Record]()
    while fresh:
        found = answer(fresh)
        records += found
        if not found or study.next_round is None:
            break
        known = {cell.key for cell in cells}
        asked = _cells(info, study, suite, study.next_round(suite, seeds, tuple(records)))
        fresh = [cell for cell in asked if cell.key not in known]
        cells += fresh
    return cells, records


def study_records(
    info: StudyInfo, suite: str, seeds: int | None, first: Sequence[Cell], out: Path, *, together: bool = False
) -> tuple[list[Cell], list[Record], str]:
    """Return a study's cells, the records that there are of them, in their order, and where these come from.

    That is the results folder or, where it holds none of them, the committed file beside the study. A record that lacks what the
    study measures is none of its records. ``first`` is what `study_cells` returned. With ``together`` a cell that the folder lacks has
    its committed record: what is packed then loses none that the plan still asks for.

    Raises
    ------
    LrbenchError
        When neither holds a record of the study.
    """
    packed = info.packed(suite)
    folder = _by_key(Store(out).read()[0] if out.is_dir() else [], suite)
    cells, found = study_rounds(info, suite, seeds, first, lambda asked: _of_cells(asked, folder))
    if found and not together:
        return cells, found, str(out)
    committed = committed_records(info, suite)
    origin = f"{out} and {packed}" if found and committed else str(out if found else packed)
    cells, found = study_rounds(info, suite, seeds, first, lambda asked: _of_cells(asked, folder, committed))
    if not found:
        hint = f"`lrbench study {info.source} --suite {suite} --out {out}` makes them"
        raise LrbenchError(f"no record of the study {info.name} in {out}, and no file {packed}: {hint}")
    return cells, found, origin


def committed_records(info: StudyInfo, suite: str) -> dict[Key, Record]:
    """Return the records of a suite in the committed file beside a study, none where there is no such file.

    Raises
    ------
    LrbenchError
        For a damaged file.
    """
    packed = info.packed(suite)
    return _by_key(read_packed(packed) if packed.is_file() else [], suite)


def outdated(cells: Sequence[Cell], records: Sequence[Record]) -> int:
    """Return how many of a study's records are of another task, world or code than its cells are now."""
    by_key = {cell.key: cell for cell in cells}
    return sum(not by_key[record.key].same_question(record) for record in records if record.key in by_key)


def take_committed(cells: Sequence[Cell], committed: Mapping[Key, Record], out: Path, device: str) -> int:
    """Store in the results folder the committed records that answer cells which it has not done, and return how many.

    They are held to what a record of the folder is held to, see `lrbench.running.cell.Cell.done_by`.

    Raises
    ------
    LrbenchError
        For a folder that cannot be written to or holds records of a salt, or an absent device.
    """
    place, store = {"device": resolve_device(device)}, Store(out)
    here = [replace(cell, provenance=cell.provenance.model_copy(update=place)) for cell in cells]
    able = [(cell, committed[cell.key]) for cell in here if cell.done_by(committed.get(cell.key))]
    stored = {(record.suite, record.key): record for record in (store.read()[0] if able else ())}
    for record in stored.values():
        check_salt(record, here[0].salt, store)
    lacking = [(cell, record) for cell, record in able if not cell.done_by(stored.get((cell.suite, cell.key)))]
    for cell, record in lacking:
        keep(store, Finished(cell, record, record.timing.seconds, None))
    return len(lacking)


def _cells(info: StudyInfo, study: Study, suite: str, blocks: Sequence[Block]) -> list[Cell]:
    measure_hash = hash_of_measure(study)
    asked = cells_of(info.name, suite, blocks)
    return [replace(cell, study_source=info.source, measure_hash=measure_hash) for cell in asked]


def cells_of(name: str, suite: str, blocks: Sequence[Block]) -> list[Cell]:
    """Return the cells of some blocks, each once, as what a study of that name asks for."""
    provenance, cells = provenance_of("cpu"), dict[Key, Cell]()
    for block in blocks:
        for cell in plan_seeds(suite, block.tasks, block.methods, block.seeds, provenance):
            cells.setdefault(cell.key, replace(cell, study=name))
    return list(cells.values())


def _by_key(records: Sequence[Record], suite: str) -> dict[Key, Record]:
    return {record.key: record for record in records if record.suite == suite}


def _of_cells(cells: Sequence[Cell], *places: Mapping[Key, Record]) -> list[Record]:
    """Return the records of some cells, each from the first place that has one with a score and what the study measures, or else any."""
    found = []
    for cell in cells:
        own = [place[cell.key] for place in places if cell.key in place and _holds_measures(place[cell.key], cell)]
        found += sorted(own, key=lambda record: record.status != "ok")[:1]
    return found


def _holds_measures(record: Record, cell: Cell) -> bool:
    return record.status != "ok" or not cell.measure_hash or cell.study in record.measures
