"""Copy a screenful of the committed leaderboard into the README: its first rows, the columns that say most, and one picture.

python benchmarks/readme_excerpt.py
"""

from __future__ import annotations

import re
from pathlib import Path

from lrbench.pages.markdown import rows_of, table

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGE = ROOT / "leaderboard" / "LEADERBOARD.md"
START, END = "<!-- excerpt:start -->\n", "<!-- excerpt:end -->"
COLUMNS = (
    "rank",
    "method",
    "score",
    "best over L0",
    "breakdown",
    "rare",
    "F1",
    "L0 off by",
    "absorption",
    "seconds",
)
ROWS = 10
PICTURE = re.compile(r"^!\[(?P<what>Score of each method on each task)\]\((?P<file>figures/[^)]+)\)$", re.MULTILINE)


def excerpt(page: str) -> str:
    """Return the chosen columns of the page's first table, of its first methods without their twins, and its picture."""
    rows = rows_of(page.partition("\n### Standings\n")[2])
    kept = [column for column, heading in enumerate(rows[0]) if heading.rstrip(" ↑↓") in COLUMNS]
    header, *others = ([row[column] for column in kept] for row in rows)
    name = header.index("method")
    plain = [row for row in others if not row[name].startswith("*") and "+" not in row[name]]
    picture = PICTURE.search(page)
    shown = f"\n![{picture['what']}](leaderboard/{picture['file']})\n" if picture else ""
    return table(header, plain[:ROWS], left=name + 1) + shown


def main() -> None:
    """Rewrite the README between its two markers."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(START)
    _, after = rest.split(END)
    shown = excerpt(PAGE.read_text(encoding="utf-8"))
    README.write_text(f"{before}{START}\n{shown}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
