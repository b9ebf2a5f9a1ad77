"""The section `real` of a published board: of the cells of the study `real` those that the suite `real` asks for as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lrbench.catalogue.methods import methods_for
from lrbench.catalogue.studies import find_study
from lrbench.catalogue.tasks import select_tasks
from lrbench.store import read_packed

from .compile import OF_PROXIES

if TYPE_CHECKING:
    from lrbench.record import Record

PUBLISHED = "board"  # the suite whose page has the section
STUDY = "real"


def with_real_rows(records: Sequence[Record]) -> list[Record]:
    """Return the records, and where they hold a published board and no real cell of a run, those of the study.

    The study's records count where there are any, else those that are committed beside it. They become a suite of their own.
    """
    suites = {record.suite for record in records if record.study is None}
    if PUBLISHED not in suites or OF_PROXIES in suites:
        return list(records)
    own = [record for record in records if record.study == STUDY and record.suite == OF_PROXIES]
    file = find_study(STUDY).packed(OF_PROXIES)
    tasks = {info.name for info in select_tasks(OF_PROXIES)}
    methods = {info.name for info in methods_for()}
    rows = [
        record.model_copy(update={"study": None})
        for record in own or (read_packed(file) if file.is_file() else [])
        if record.task in tasks and record.method in methods
    ]
    taken = {record.key for record in rows}
    others = [r for r in records if (r.study, r.suite) != (STUDY, OF_PROXIES) or r.key not in taken]
    return others + rows
