"""The page of the study of real activations, from records alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from lrbench.catalogue.files import folder
from lrbench.controls.figure import save_causes
from lrbench.controls.prediction import correlation, method_scores, save_scatter
from lrbench.pages.interval import interval
from lrbench.pages.markdown import code, number, table, with_interval
from lrbench.pages.terminal import as_text
from lrbench.record import Record
from lrbench.store import read_packed

NAME = "real"
SCORES = {
    "headline": "score", "found": "found", "matched_dec": "matched dec", "mip_dec": "MIP dec", "mip_enc": "MIP enc",
    "recovery_dec": "recovery dec", "f1": "F1", "fvu": "FVU", "l0": "L0", "dead": "dead",
}  # fmt: skip
CAUSES = ("recall", "missing", "absorbed", "unlearned")
UNTRAINED = "/random"
ALONE = "*the anchors alone*"
INTRO = """# Real activations

Written by `lrbench study real --suite {suite}` from records. **Truth is a proxy here**: nobody knows the features of a model, and {proxy}
stand for them. So these numbers are on a scale of their own and are averaged with no other.

* Items are nouns with their glosses, a model's activations the mean over tokens at four sites, every coordinate with the same variance.
  An SAE reads the first site, a transcoder maps it to the second, a crosscoder reads all four.
* Half of the classes are anchors, as centred and normalised means of the training items. Scores are on the other half, as means of items
  that training never saw. A class mean of the one part has a cosine of {reliability} with that of the other, on average over classes at
  the least reliable site: the proxy is no sharper than that.
* *The anchors alone* are a dictionary of nothing but the anchors, read by themselves with TopK. Classes are alike, so an anchored row has learned
  of the other classes only what it has beyond that one.
* The score of a random dictionary is 0 and that of the oracle 1: a linear probe per class, with the class mean as its decoder row. ± is a 95% interval over seeds, which differ in their split, their anchors and their start.
"""


def write(records: Sequence[Record], suite: str, path: Path) -> str:
    """Write the page with its figure, and return the scores for the terminal."""
    good = [record for record in records if record.status == "ok"]
    trained = [record for record in good if not record.task.endswith(UNTRAINED)]
    parts = [_intro(good, suite)]
    shown = []
    for task in dict.fromkeys(record.task for record in trained):
        own = [record for record in trained if record.task == task]
        header, rows = _scores(own)
        shown.append(f"{task}\n{as_text([header, *rows])}")
        parts.append(f"## {task}\n\n{table(header, rows, left=1)}")
        parts.append("\n### Parents and children\n\n" + _causes(own))
        figure = save_causes(own, path.parent / "figures" / f"real-{task.partition('/')[0]}.png")
        if figure:
            parts.append(f"\n![What becomes of a parent on its children](figures/{figure})\n")
        parts.append("\n### Controls\n\n" + _controls(own, [r for r in good if _control_of(r) == task]))
    parts += [_prediction(trained, path), _gaps(records)]
    path.write_text("\n".join(part.rstrip("\n") + "\n" for part in parts if part), encoding="utf-8")
    return "\n\n".join(shown)


def _prediction(records: Sequence[Record], path: Path) -> str:
    """Say whether the order of methods on the published board is that on real activations."""
    board = method_scores(read_packed(folder("leaderboard") / "board.jsonl.xz"))
    rows, real = [], {}
    for task in dict.fromkeys(record.task for record in records):
        own = method_scores([record for record in records if record.task == task])
        plain = {name: value for name, value in own.items() if "+" not in name}
        for name, some in (("plain and anchored", own), ("plain", plain)):
            found = correlation(board, some)
            if not math.isnan(found.value):
                real[task] = own
                span = f"{number(found.low, 2)} to {number(found.high, 2)}"
                rows.append([code(task), name, str(found.methods), number(found.value, 2), span])
    if not rows:
        return ""
    save_scatter(board, real, path.parent / "figures" / "real-board.png")
    return (
        "## Does the synthetic board predict the real one?\n\nSpearman's rank correlation of the score between the published board and these"
        " tasks, over the methods that both have, with a 95% interval by the bootstrap over methods.\n\n"
        + table(["task", "methods", "number", "rank correlation", "interval"], rows, left=2)
        + "\n![Scores on class means against scores on the board](figures/real-board.png)\n"
    )


def _intro(records: Sequence[Record], suite: str) -> str:
    proxies = {str(record.world["proxy"]) for record in records if "proxy" in record.world}
    known = [value for value in (_measured(record, "reliability") for record in records) if not math.isnan(value)]
    reliability = number(fmean(known), 2) if known else "an unknown value"
    return INTRO.format(suite=suite, proxy=", ".join(sorted(proxies)) or "unnamed", reliability=reliability)


def _measured(record: Record, name: str) -> float:
    measures = record.measures.get(NAME)
    value = None if measures is None else measures.values.get(name)
    return math.nan if value is None else value


def _methods(records: Sequence[Record]) -> list[str]:
    return [*dict.fromkeys(record.method for record in records)]


def _of(records: Sequence[Record], method: str) -> list[Record]:
    return [record for record in records if record.method == method]


def _score(record: Record, name: str) -> float:
    value = record.scores.get(name)
    return math.nan if value is None else value


def _cell(values: Sequence[float]) -> str:
    found = interval(values)
    return with_interval(found.mean, found.half)


def _scores(records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    rows = []
    for method in _methods(records):
        own = _of(records, method)
        means = [_cell([_score(record, "headline") for record in own])]
        means += [number(interval(_score(record, name) for record in own).mean) for name in [*SCORES][1:]]
        rows.append([code(method), *means])
    alone = {name: [_measured(record, f"anchors_{name}") for record in records] for name in SCORES}
    if not all(map(math.isnan, alone["headline"])):  # every reference of a seed has measured the same: one counts
        known = {name: [*dict.fromkeys(v for v in values if not math.isnan(v))] for name, values in alone.items()}
        first, *others = known
        rows.append([ALONE, _cell(known[first]), *(number(interval(known[name]).mean) for name in others)])
    return ["method", *SCORES.values()], rows


def _causes(records: Sequence[Record]) -> str:
    """Say where a parent's samples go on its children, for the trained dictionary and for the undertrained one."""
    rows = []
    for method in _methods(records):
        own = _of(records, method)
        late = [number(interval(_measured(record, name) for record in own).mean) for name in CAUSES]
        early = [number(interval(_measured(record, f"early_{name}") for record in own).mean) for name in CAUSES]
        f1 = number(interval(_measured(r, "f1") for r in own).mean)
        lowest = [number(interval(_measured(r, f"lowest_{n}") for r in own).mean) for n in ("recall", "probe")]
        rows.append([code(method), f1, *late, *lowest, *early])
    header = [
        "method",
        "F1 of the latent",
        *CAUSES,
        "lowest child",
        "lowest child, probe",
        *(f"{name} at 10%" for name in CAUSES),
    ]
    return (
        "For every parent class, the recall of its best latent on each child, and what the other samples are lost to: *missing*, a linear"
        " probe does not find the parent there either; *absorbed*, the child's own latent fires and writes the parent; *unlearned*, the"
        " rest. The four add up to 1. A latent that always fires loses nothing, so the F1 stands beside. *At 10%* is after a tenth of the"
        " training: what shrinks from there was undertraining, what grows was made by training.\n\n"
        + table(header, rows, left=1)
    )


def _controls(records: Sequence[Record], random: Sequence[Record]) -> str:
    """Show what is reached without learning: by a frozen decoder, on a model with random weights, by chance between two starts."""
    rows = []
    for method in _methods(records):
        own = _of(records, method)
        seen = {name: interval(_measured(r, name) for r in own).mean for name in
                ("frozen_found", "frozen_mip_dec", "frozen_f1", "pw_mcc", "pw_mcc_null")}  # fmt: skip
        copy = {
            name: interval(_score(r, name) for r in _of(random, method)).mean for name in ("found", "mip_dec", "f1")
        }
        if all(math.isnan(value) for value in (*seen.values(), *copy.values())):
            continue
        real = {name: interval(_score(r, name) for r in own).mean for name in ("found", "mip_dec", "f1")}
        columns = [value for name in real for value in (real[name], seen[f"frozen_{name}"], copy[name])]
        columns += [seen["pw_mcc"], seen["pw_mcc_null"], seen["pw_mcc"] - seen["pw_mcc_null"]]
        rows.append([code(method), *map(number, columns)])
    header = [
        "method",
        *(f"{name}{of}" for name in ("found", "MIP dec", "F1") for of in ("", ", frozen", ", random model")),
    ]
    header += ["PW-MCC", "chance", "above chance"]
    return (
        "*Frozen* is the same training with decoder rows that stay where they started; *random model* the same method on a copy of the"
        " model with random weights, against that copy's own class means. A score that they reach too says nothing about learned features."
        " PW-MCC is the mean |cosine| of decoder rows between two starts, matched one-to-one; chance is random rows with the same second"
        " moment.\n\n" + table(header, rows, left=1)
    )


def _control_of(record: Record) -> str:
    family, _, level = record.task.partition("/")
    return f"{family}/trained" if f"/{level}" == UNTRAINED else ""


def _gaps(records: Sequence[Record]) -> str:
    rows = [[code(record.id), record.status, record.reason or ""] for record in records if record.status != "ok"]
    return f"## Cells without a score\n\n{table(['cell', 'status', 'reason'], rows, left=3)}" if rows else ""
