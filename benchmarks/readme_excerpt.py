"""Copy the standings of the committed leaderboard into the README, without the columns that a front page has no room for.

python benchmarks/readme_excerpt.py
"""

from __future__ import annotations

from pathlib import Path

from lrbench.pages.markdown import rows_of, table

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGE = ROOT / "leaderboard" / "LEADERBOARD.md"
START, END = "<!-- excerpt:start -->\n", "<!-- excerpt:end -->"
COLUMNS = ("rank", "method", "score", "recovery dec", "recovery enc", "F1", "L0", "dead", "absorption")


def excerpt(page: str) -> str:
    """Return the chosen columns of the page's first table."""
    rows = rows_of(page)
    kept = [column for column, heading in enumerate(rows[0]) if heading.rstrip(" ↑↓") in COLUMNS]
    header, *others = ([row[column] for column in kept] for row in rows)
    return table(header, others, left=COLUMNS.index("score"))


def main() -> None:
    """Rewrite the README between its two markers."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(START)
    _, after = rest.split(END)
    shown = excerpt(PAGE.read_text(encoding="utf-8"))
    README.write_text(f"{before}{START}\n{shown}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
