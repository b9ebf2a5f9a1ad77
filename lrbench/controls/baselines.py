"""The section on what is reached without learning: with a decoder that stays random, on a model with random weights, by chance."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lrbench.controls.seen import NOT_YET, mean_measured, mean_score, methods_in, of
from lrbench.pages.markdown import code, number, table
from lrbench.record import Record

FROZEN = """*Frozen* is the same training with decoder rows that stay where they started, at seed 0, beside the whole one at the same seed. Random rows
point at no class, so measures that rest on them could not but fail: shown are the mean F1 and recall of each class's best latent and M_IP of
encoder rows, which need no decoder row. What *frozen* reaches too says nothing about learned directions. The FVU tells whether it learned
anything: from 1 on it did not, its latents have all died, and nothing follows from its row.
"""
COPY = """*Copy* is the same method on a copy of the model with random weights, against that copy's own class means. Class means of the copy's two parts
have a cosine of {reliability}. A score that is reached there too comes from the texts, not from what the model has learned.
"""
STARTS = """PW-MCC is the mean |cosine| of decoder rows between two starts, matched one-to-one, at seed 0; chance is random rows with the same second moment. All
rows count, those of dead latents too, so a method with many dead is lower by that alone.
"""


def baselines(records: Sequence[Record], copies: Sequence[Record]) -> str:
    """Return the section of one task, from its records and those of the copy with random weights."""
    return f"### Controls\n\n{FROZEN}\n{_frozen(records)}\n{_copies(records, copies)}\n{STARTS}\n{_starts(records)}"


def _frozen(records: Sequence[Record]) -> str:
    rows = []
    for method in methods_in(records):
        own = [r for r in of(records, method) if not math.isnan(mean_measured([r], "frozen_best_f1"))]
        if not own:
            continue
        pairs = [
            (mean_measured(own, f"best_{name}"), mean_measured(own, f"frozen_best_{name}")) for name in ("f1", "recall")
        ]
        pairs += [(mean_score(own, name), mean_measured(own, f"frozen_{name}")) for name in ("mip_enc", "fvu")]
        rows.append([code(method), *(number(value) for pair in pairs for value in pair)])
    names = ("F1 of best latent", "recall", "MIP enc", "FVU")
    header = ["method", *(f"{name}{what}" for name in names for what in ("", ", frozen"))]
    return table(header, rows, left=1) if rows else NOT_YET


def _copies(records: Sequence[Record], copies: Sequence[Record]) -> str:
    scores = {"headline": "score", "found": "found", "mip_dec": "MIP dec", "f1": "F1", "fvu": "FVU"}
    rows = [
        [code(method), *(number(mean_score(of(some, method), name)) for name in scores for some in (records, copies))]
        for method in methods_in(copies)
    ]
    header = ["method", *(f"{name}{what}" for name in scores.values() for what in ("", ", copy"))]
    reliability = number(mean_measured(copies, "reliability"), 2)
    return COPY.format(reliability=reliability) + "\n" + (table(header, rows, left=1) if rows else NOT_YET)


def _starts(records: Sequence[Record]) -> str:
    rows = []
    for method in methods_in(records):
        value, chance = (mean_measured(of(records, method), name) for name in ("pw_mcc", "pw_mcc_null"))
        if not math.isnan(value):
            rows.append([code(method), *map(number, (value, chance, value - chance))])
    return table(["method", "PW-MCC", "chance", "above chance"], rows, left=1) if rows else NOT_YET
