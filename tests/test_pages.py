"""What pages are made of: intervals, numbers and tables; and the pages whose numbers a script writes from records."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest

from lrbench.catalogue.tasks import load_task
from lrbench.pages.interval import Interval, interval
from lrbench.pages.markdown import code, number, rows_of, table, text, unbroken, unmarked, varied, with_interval
from lrbench.store import read_packed

ROOT = Path(__file__).parent.parent
T1 = 12.706204736  # 97.5% quantile of Student's t with one degree of freedom, from a printed table
T3 = 3.182446305  # with three


def test_interval_by_hand() -> None:
    def parts(span: Interval) -> tuple[float, float, int]:
        return span.mean, span.half, span.count

    assert parts(interval([0.4, 0.6])) == pytest.approx((0.5, T1 * 0.1, 2))  # sd 0.2/sqrt 2, over sqrt 2
    assert parts(interval([1, 2, 3, 4])) == pytest.approx((2.5, T3 * math.sqrt(5 / 3) / 2, 4))
    assert parts(interval([0.4, math.nan, 0.6])) == parts(interval([0.4, 0.6]))
    assert parts(interval([0.4])) == pytest.approx((0.4, math.nan, 1), nan_ok=True)
    assert parts(interval([])) == pytest.approx((math.nan, math.nan, 0), nan_ok=True)


def test_numbers() -> None:
    assert number(-0.0001) == "0.000"
    assert number(math.nan) == "–"
    assert number(-1e100) == "-1e+100"
    assert with_interval(math.nan, math.nan) == "–"


def test_a_table_is_read_as_it_was_given_and_has_the_same_bytes_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    import tabulate

    header, rows = ["name", "⚓", "n"], [["a|b <c>", "", "1"], ["", "⚓ 2", "-0.10"]]
    text = table(header, rows)
    assert rows_of(f"words | more\n\n{text}\n{table(['x'], [['y']])}") == [header, *rows]
    assert rows_of("no table") == []
    assert text.splitlines()[1] == "|:------------|:----|------:|"
    monkeypatch.setattr(tabulate, "WIDE_CHARS_MODE", True)
    monkeypatch.setattr(tabulate, "wcwidth", type("Wide", (), {"wcswidth": staticmethod(lambda text: 2 * len(text))}))
    assert table(header, rows) == text
    assert tabulate.WIDE_CHARS_MODE


def test_no_name_and_no_reason_is_read_as_markdown() -> None:
    assert text("[x](javascript:a) <script> `b` *c* ~~d~~ _e_ f_g \\") == (
        r"\[x\](javascript:a) &lt;script> \`b\` \*c\* \~\~d\~\~ \_e\_ f_g \\"
    )
    assert code("topk_sae[k=32]+anchored") == "`topk_sae[k=32]+anchored`"
    assert code("a`b|c") == r"a\`b|c"
    odd = ["`a`", "a\\|b", "|", "*x*", "<b>", "\\"]
    shown = rows_of(table(["x", *"abcde"], [[text(word) for word in odd], [code(word) for word in odd]]))
    assert [[unmarked(cell) for cell in row] for row in shown[1:]] == [odd, odd]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_numbers_of_the_methods_page_come_from_its_records() -> None:
    tables = script("methods_table")
    page, records = tables.PAGE.read_text(encoding="utf-8"), read_packed(tables.RECORDS)
    assert tables.written(page, records) == page
    assert {record.status for record in records} == {"ok"}
    assert all(record.task_hash == load_task(record.task, tables.SUITE).hash for record in records)
    lower = [r.model_copy(update={"scores": {name: 0.1 for name in r.scores}}) for r in records]
    assert tables.written(page, lower) != page


def test_the_readme_excerpt_is_a_screenful() -> None:
    columns = script("readme_excerpt")
    heads = [
        "rank",
        "method",
        "score ↑",
        "best over L0 ↑",
        "breakdown ↑",
        "rare ↑",
        "F1 ↑",
        "matched dec ↑",
        "recovery dec ↑",
        "L0",
    ]
    heads += ["L0 off by", "FVU ↓", "dead ↓", "absorption ↓", "seconds ↓"]
    names = ["*`truth` (ceiling)*", "`m0`", "`m0+anchored`", *(f"`m{place}`" for place in range(1, 15))]
    rows = [[name if head == "method" else f"{head} of {name}" for head in heads] for name in names]
    picture = "![Score of each method on each task](figures/board-where.svg)"
    page = f"Words.\n\n### Standings\n\n#### Autoencoders\n\n{table(heads, rows)}\n{picture}\n"
    shown = columns.excerpt(page)
    header, *kept = rows_of(shown)
    assert [heading.rstrip(" ↑↓") for heading in header] == list(columns.COLUMNS)
    assert [row[1] for row in kept] == [f"`m{place}`" for place in range(10)]  # neither references nor twins
    assert kept[3] == [f"{head} of `m3`" if head != "method" else "`m3`" for head in header]
    assert shown.endswith("\n![Score of each method on each task](leaderboard/figures/board-where.svg)\n")


def test_columns_of_one_value_and_cells_that_stay_whole() -> None:
    header, rows, held = varied(["m", "a", "b", "c"], [["x", "1", "2", "–"], ["y", "1", "3", "–"]])
    assert (header, rows, held) == (["m", "b"], [["x", "2"], ["y", "3"]], {"a": "1"})
    assert varied(["m", "a", "b"], [["x", "1", "–"]]) == (["m", "a"], [["x", "1"]], {})  # one row tells nothing apart
    assert varied(["m", "a"], [["x", "1"], ["x", "1"]], keep=2)[0] == ["m", "a"]
    assert unmarked(unbroken("**0.5 ± 0.1**")) == "0.5 ± 0.1"
    assert "\N{NO-BREAK SPACE}±" in unbroken("0.5 ± 0.1")
