"""Copy the standings of the committed leaderboard into the README, without the columns that a front page has no room for.

python benchmarks/readme_excerpt.py
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGE = ROOT / "leaderboard" / "LEADERBOARD.md"
START, END = "<!-- excerpt:start -->\n", "<!-- excerpt:end -->"
COLUMNS = ("rank", "method", "score", "recovery dec", "recovery enc", "F1", "L0", "dead", "absorption")


def excerpt(page: str) -> str:
    """Return the chosen columns of the page's first table."""
    table = [line for line in page.splitlines() if line.startswith("|")]
    table = table[: next(i for i, line in enumerate(page[page.index("|") :].splitlines()) if not line.startswith("|"))]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    kept = [rows[0].index(heading) for heading in rows[0] if heading.rstrip(" ↑↓") in COLUMNS]
    return "".join("| " + " | ".join(row[column] for column in kept) + " |\n" for row in rows)


def main() -> None:
    """Rewrite the README between its two markers."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(START)
    _, after = rest.split(END)
    table = excerpt(PAGE.read_text(encoding="utf-8"))
    README.write_text(f"{before}{START}\n{table}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
