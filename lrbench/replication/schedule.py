"""Which cells the replication asks for: the tables' rows, at the paper's scale and at that of `quick`, and the search for causes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lrbench.replication.causes import NO_PENALTY, Cause, confirmed, penalties, search
from lrbench.replication.reported import DEFAULT, LARGE, ROWS, SMALL, TOPK_FAMILY, Row, address
from lrbench.study import Block

PAPER = "standard"  # the suite of the paper's scale
TABLE_1_SEEDS = 3  # at the paper's scale; one of the other tables
SMALL_SEEDS = 3
LATER = (7, 6, 5, 4)  # tables in the order in which they are run, after table 1
SLOW_PENALTIES = ("relu_sae[l0=16]", "jumprelu_sae[l0=16]")


def scales_of(suite: str) -> dict[str, str]:
    """Return the families of tasks that a suite asks, with the name of their scale: two in the suite of the paper's scale."""
    return (
        {LARGE: "the paper's scale", SMALL: "the small scale"} if suite == PAPER else {LARGE: f"the scale of {suite}"}
    )


def causes_at(family: str, scales: Mapping[str, str]) -> list[Cause]:
    """Return the settings that are asked for at one of the scales: the whole search, or at the paper's scale what is confirmed there, with rows of tables 1 and 7."""
    if not _slow(family, scales):
        return search()
    ks = [Cause("topk_sae", (("l0", value),)) for value in (3.2, 6.4, 12.8)]
    return [*(Cause(method, ()) for method in TOPK_FAMILY), *ks, *confirmed()]


def penalties_at(family: str, scales: Mapping[str, str]) -> list[str]:
    """Return the methods with a penalty that are asked for at one of the scales in the default setting, those with the bench's own first."""
    slow = _slow(family, scales)
    return [
        name
        for method in NO_PENALTY
        for name in (method, *penalties())
        if name.startswith(method) and (not slow or name == method or name in SLOW_PENALTIES)
    ]


def _slow(family: str, scales: Mapping[str, str]) -> bool:
    """Whether this is the paper's scale, beside the small one: a cell takes minutes there, so fewer are asked for."""
    return family == LARGE and SMALL in scales


def plan(suite: str, seeds: int | None) -> list[Block]:
    """Return the small cells first, which take minutes; then, at the paper's scale, the causes, table 1 and the other tables.

    In the suite of the paper's scale the small cells are those of ``reported_small``. In another there is one scale. What answers most
    stands first: the study may be stopped anywhere.
    """
    if suite != PAPER:
        return _small(LARGE, range(seeds or SMALL_SEEDS))
    found = _small(SMALL, range(seeds or SMALL_SEEDS))
    default = [address(LARGE, DEFAULT)]
    found += [
        Block(default, [cause.address], [0]) for cause in (*(Cause(method, ()) for method in TOPK_FAMILY), *confirmed())
    ]
    found += _rows([row for row in ROWS if row.table == 1], LARGE, [0])
    for table in LATER:
        found += _rows([row for row in ROWS if row.table == table], LARGE, [0])
    found.append(Block(default, SLOW_PENALTIES, [0]))
    for seed in range(1, seeds or TABLE_1_SEEDS):
        found += _rows([row for row in ROWS if row.table == 1], LARGE, [seed])
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
