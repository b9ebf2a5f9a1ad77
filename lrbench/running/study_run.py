"""A study through the one runner: its cells are run as all cells are, and its page is written from their records alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lrbench.catalogue.studies import StudyInfo, hash_of_measure, load_study
from lrbench.errors import LrbenchError
from lrbench.record import Record
from lrbench.running.cell import Cell
from lrbench.running.provenance import provenance_of
from lrbench.running.runner import MOST_SEEDS, plan_seeds
from lrbench.store import Store, read_packed
from lrbench.task import get_suite


def study_cells(info: StudyInfo, suite: str, seeds: int | None = None) -> list[Cell]:
    """Return the cells of a study in the order of its plan, each once.

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
    get_suite(suite)
    if seeds is not None and not 1 <= seeds <= MOST_SEEDS:
        raise LrbenchError(f"seeds={seeds}: expected 1 to {MOST_SEEDS}")
    study = load_study(info.source)
    measure_hash, provenance = hash_of_measure(study), provenance_of("cpu")
    cells: dict[tuple[str, str, int], Cell] = {}
    for block in study.plan(suite, seeds):
        for cell in plan_seeds(suite, block.tasks, block.methods, block.seeds, provenance):
            asked = replace(cell, study=info.name, study_source=info.source, measure_hash=measure_hash)
            cells.setdefault(cell.key, asked)
    if not cells:
        raise LrbenchError(
            f"the study {info.name} asks for no cell in the suite {suite}: its plan has to return a Block"
        )
    return list(cells.values())


def study_records(info: StudyInfo, cells: Sequence[Cell], out: Path) -> tuple[list[Record], str]:
    """Return the records that there are of a study's cells, in their order, and where they come from.

    That is the results folder or, where it holds none of them, the committed file beside the study. A record that lacks what the
    study measures is none of its records.

    Raises
    ------
    LrbenchError
        When neither holds a record of the study.
    """
    packed = info.packed(cells[0].suite)
    found = _of_cells(Store(out).read()[0] if out.is_dir() else [], cells)
    if found:
        return found, str(out)
    found = _of_cells(read_packed(packed) if packed.is_file() else [], cells)
    if not found:
        hint = f"`lrbench study {info.source} --suite {cells[0].suite} --out {out}` makes them"
        raise LrbenchError(f"no record of the study {info.name} in {out}, and no file {packed}: {hint}")
    return found, str(packed)


def _of_cells(records: Sequence[Record], cells: Sequence[Cell]) -> list[Record]:
    by_key = {(record.suite, record.key): record for record in records}
    found = [(cell, by_key.get((cell.suite, cell.key))) for cell in cells]
    return [record for cell, record in found if record is not None and _holds_measures(record, cell)]


def _holds_measures(record: Record, cell: Cell) -> bool:
    return record.status != "ok" or not cell.measure_hash or cell.study in record.measures
