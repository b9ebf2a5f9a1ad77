"""The cells of a study that ended without a score, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lrbench.pages.markdown import code, text

if TYPE_CHECKING:
    from lrbench.record import Record

REASONS_SHOWN = 8


def unscored(records: Sequence[Record]) -> list[str]:
    """Return a line of a list for each method, status and reason of the records without a score, the most frequent first; none without such a record.

    After `REASONS_SHOWN` of them a last line counts the others.
    """
    causes = Counter((record.method, record.status, record.reason or "") for record in records if record.status != "ok")
    lines = [
        f"* {code(method)}, {count} cell{'s' * (count > 1)} {status}: {text(why)}"
        for (method, status, why), count in causes.most_common()
    ]
    more = [f"* and {len(lines) - REASONS_SHOWN} more reasons"] if len(lines) > REASONS_SHOWN else []
    return [*lines[:REASONS_SHOWN], *more]
