"""Which cells the replication asks for: the tables' rows, at the paper's scale and at that of `quick`, and the search for causes."""

from __future__ import annotations

from collections.abc import Sequence

from lrbench.replication.causes import Cause, confirmed, penalties, search
from lrbench.replication.reported import DEFAULT, ROWS, TOPK_FAMILY, Row, address
from lrbench.study import Block

PAPER = "standard"  # the suite of the paper's scale
SEEDS = {1: 3}  # of a table's rows at the paper's scale; one of the others
SMALL_SEEDS = 3
LATER = (7, 6, 5, 4)  # tables in the order in which they are run, after table 1
SLOW_PENALTIES = ("relu_sae[l0=16]", "jumprelu_sae[l0=16]")


def plan(suite: str, seeds: int | None) -> list[Block]:
    """Return the small cells first, which take minutes; then, at the paper's scale, the causes, table 1 and the other tables.

    In the suite of the paper's scale the small cells are those of ``reported_small``. In another there is one scale. What answers most
    stands first: the study may be stopped anywhere.
    """
    if suite != PAPER:
        return _small("reported", range(seeds or SMALL_SEEDS))
    found = _small("reported_small", range(seeds or SMALL_SEEDS))
    default = [address("reported", DEFAULT)]
    found += [
        Block(default, [cause.address], [0]) for cause in (*(Cause(method, ()) for method in TOPK_FAMILY), *confirmed())
    ]
    found += _rows([row for row in ROWS if row.table == 1], "reported", [0])
    for table in LATER:
        found += _rows([row for row in ROWS if row.table == table], "reported", [0])
    found.append(Block(default, SLOW_PENALTIES, [0]))
    for seed in range(1, seeds or max(SEEDS.values())):
        found += _rows([row for row in ROWS if row.table in SEEDS], "reported", [seed])
    return found


def _small(family: str, seeds: Sequence[int]) -> list[Block]:
    """Return every row of the tables and the whole search, world by world."""
    causes: dict[str, list[str]] = {}
    for cause in search():
        causes.setdefault(cause.task(family), []).append(cause.address)
    blocks = [Block([task], methods, seeds) for task, methods in causes.items()]
    blocks.append(Block([address(family, DEFAULT)], penalties(), seeds))
    return blocks + _rows(ROWS, family, seeds)


def _rows(rows: Sequence[Row], family: str, seeds: Sequence[int]) -> list[Block]:
    """Return the rows' methods, those that share a world in one block."""
    methods: dict[str, dict[str, None]] = {}
    for row in rows:
        methods.setdefault(address(family, row.setting), {})[row.method] = None
    return [Block([task], [*asked], seeds) for task, asked in methods.items()]
