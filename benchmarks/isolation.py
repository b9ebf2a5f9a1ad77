"""What it costs to fit on the other side of the boundary, per cell, in milliseconds.

    python benchmarks/isolation.py [--cells N]

The same method on the same cells, one worker, three times: beside the world, in a process of its own, in a sandbox. The differences go into
``docs/boundary.md``.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from pathlib import Path
from statistics import median

from lrbench.boundary.sandbox import require_sandbox
from lrbench.errors import LrbenchError
from lrbench.pages.markdown import table
from lrbench.running.runner import run

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "boundary.md"
BEGIN, END = "<!-- written by benchmarks/isolation.py -->\n", "<!-- end -->\n"
METHOD, TASK = "random", "noise/0.3"  # a method that takes next to no time itself
SUITES = ("smoke", "quick")
OWN = f'''"""The same from outside."""
import lrbench


class Own(lrbench.Method):
    def fit(self, view, seed=0):
        return lrbench.load_method("{METHOD}").fit(view, seed)


METHOD = Own()
'''


def seconds(suite: str, method: str, cells: int, sandbox: bool = False) -> float:
    """Return the median seconds of a cell, without the first, which starts what is started once."""
    with tempfile.TemporaryDirectory() as folder:
        found = run(suite, [TASK], [method], seeds=cells + 1, out=folder, workers=1, device="cpu", sandbox=sandbox)
    failed = [record.reason for record in found.records if record.status != "ok"]
    if failed:
        raise SystemExit(f"{method} failed: {failed[0]}")
    return median(record.timing.seconds for record in found.records[1:])


def report(cells: int) -> str:
    """Measure and return the part of the page."""
    try:
        require_sandbox()
        walled = True
    except LrbenchError as error:
        print(error)
        walled = False
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / f"my_{METHOD}.py"
        own.write_text(OWN)
        for suite in SUITES:
            beside, apart = seconds(suite, METHOD, cells), seconds(suite, str(own), cells)
            inside = seconds(suite, str(own), cells, sandbox=True) if walled else None
            costs = [
                f"{1000 * (value - beside):.0f}" if value is not None else "no sandbox here"
                for value in (apart, inside)
            ]
            rows.append([suite, f"{1000 * beside:.0f}", *costs])
            print(rows[-1], flush=True)
    heads = [
        "suite",
        f"`{METHOD}` beside the world, ms per cell",
        "in a process of its own, ms more",
        "in a sandbox, ms more",
    ]
    where = f"{platform.machine()}, {cells} cells each, median, one worker, measured in one go."
    more = "Every fit loads anew what its file imports beyond lrbench and torch: scikit-learn takes a second or two.\n"
    return f"What the other side costs ({where})\n\n{table(heads, rows, left=1)}\n{more}"


def main() -> None:
    """Measure and write the page's part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=15)
    text = report(parser.parse_args().cells)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{text}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
