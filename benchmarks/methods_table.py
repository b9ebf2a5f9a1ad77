"""Write the tables of numbers in docs/methods.md: what twins and settings bring, on a few tasks of the quick suite.

    python benchmarks/methods_table.py            # from the committed records
    python benchmarks/methods_table.py results    # run what has no record in results/ yet, commit those records, then the same

``tests/test_pages.py`` rebuilds the tables from the committed records and compares.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lrbench.metric_table import METRICS
from lrbench.pages.interval import interval
from lrbench.pages.markdown import NONE, number, table, with_interval
from lrbench.record import Record
from lrbench.running.runner import plan, run
from lrbench.store import read_packed, write_packed

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "methods.md"
RECORDS = ROOT / "docs" / "records" / "methods-quick.jsonl.gz"
SUITE = "quick"
BEGIN, END = "<!-- {} written by benchmarks/methods_table.py -->\n", "<!-- end -->\n"
ARROWS = {"higher": " ↑", "lower": " ↓", "none": ""}


@dataclass(frozen=True)
class Table:
    """One table of the page: every method on every task, and the scores that are shown; the first with its interval."""

    name: str
    tasks: Sequence[str]
    methods: Sequence[str]
    scores: Sequence[str]


TABLES = (
    Table(
        "autoanchor:",
        ["superposition/1.30x", "absorption/even", "interference/0.5"],
        ["topk_sae", "topk_sae+autoanchor"],
        ["headline", "recovery_dec", "recovery_enc", "matched_enc", "f1", "fvu", "absorption"],
    ),
    Table(
        "settings of autoanchor:",
        ["absorption/even"],
        ["topk_sae[scouting=0.2|0.34|0.5|0.67]+autoanchor", "topk_sae[agreement=0.9|0.98]+autoanchor"],
        ["headline", "recovery_dec", "f1", "fvu", "absorption"],
    ),
    Table(
        "resample:",
        ["traps/dead", "traps/polysemantic"],
        ["topk_sae", "topk_sae[resample=1]", "topk_sae+resample"],
        ["escape", "headline", "recovery_dec", "dead"],
    ),
    Table("acs:", ["superposition/1.30x"], ["acs_sae[encoder_iterations=1|2|15]"], ["headline", "f1", "fvu", "l0"]),
)


def measured(folder: Path) -> list[Record]:
    """Return the records of every cell of the tables, each once; those that the folder lacks are run first."""
    found: dict[tuple[str, str, int], Record] = {}
    for part in TABLES:
        found |= {record.key: record for record in run(SUITE, part.tasks, part.methods, out=folder).records}
    return list(found.values())


def written(page: str, records: Sequence[Record]) -> str:
    """Return the page with its tables made of the records."""
    known = {record.key: record for record in records}
    for part in TABLES:
        before, mark, rest = page.partition(BEGIN.format(part.name))
        _, end, after = rest.partition(END)
        if not mark or not end:
            raise SystemExit(f"{PAGE}: no place for the table {part.name!r}, expected {BEGIN.format(part.name)!r}")
        page = f"{before}{mark}\n{_table(part, known)}\n{end}{after}"
    return page


def _table(part: Table, known: dict[tuple[str, str, int], Record]) -> str:
    cells = plan(SUITE, part.tasks, part.methods)
    rows = []
    for task, method in dict.fromkeys((cell.task, cell.method) for cell in cells):
        seeds = [known[cell.key] for cell in cells if (cell.task, cell.method) == (task, method)]
        row = [task, f"`{method}`"]
        for name in part.scores:
            values = [record.scores.get(name) for record in seeds]
            span = interval(math.nan if value is None else value for value in values)
            whole = span.count in (0, len(seeds))  # a mean that leaves a seed out would pass for one of all
            text = with_interval(span.mean, span.half) if name == part.scores[0] else number(span.mean)
            row.append(text if whole else NONE)
        rows.append(row)
    heads = [METRICS[name].label + ARROWS[METRICS[name].direction] for name in part.scores]
    return table(["task", "method", *heads], rows)


def main() -> None:
    """Rewrite the page, after running and packing the records where a folder is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="?", type=Path, help="folder of records; what it lacks is run")
    folder = parser.parse_args().results
    if folder is not None:
        write_packed(RECORDS, measured(folder))
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), read_packed(RECORDS)), encoding="utf-8")


if __name__ == "__main__":
    main()
