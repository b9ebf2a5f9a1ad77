"""Real activations: what methods find of class means, and what controls find that have learned nothing.

Plain and anchored SDL methods on the activations of small models. Beside the scores: what each parent class loses on its children and
why, an undertrained control, thirty anchors, and for the plain methods the agreement of two starts and a frozen decoder. The parts are in
`lrbench.controls`.
"""

from collections.abc import Sequence
from pathlib import Path

from lrbench.catalogue.files import folder
from lrbench.controls import report
from lrbench.controls.measure import measure
from lrbench.controls.schedule import plan
from lrbench.leaderboard.compile import compile_boards
from lrbench.record import Record
from lrbench.store import read_packed
from lrbench.study import Study


def write(records: Sequence[Record], suite: str, path: Path) -> str:
    """Write the page beside the scores of the published board's rows, as its table has them."""
    (board,) = compile_boards(read_packed(folder("leaderboard") / "board.jsonl.xz"))
    rows = board.standings[board.standings["ranked"]]
    return report.write(records, suite, path, dict(zip(rows["method"], rows["headline"], strict=True)))


STUDY = Study(plan=plan, write=write, measure=measure)
