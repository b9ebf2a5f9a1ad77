"""The page of the study of real activations, from records alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from lrbench.controls.baselines import baselines
from lrbench.controls.causes import causes
from lrbench.controls.figure import save_scatter
from lrbench.controls.paper import few_anchors, resampling
from lrbench.controls.prediction import base_of, correlation, real_scores
from lrbench.controls.schedule import MODELS, RANDOM
from lrbench.controls.seen import cell, mean_measured, mean_score, measured, methods_in, of, score
from lrbench.pages.markdown import code, number, table
from lrbench.pages.terminal import as_text
from lrbench.pages.unscored import unscored
from lrbench.record import Record

SCORES = {
    "headline": "score", "found": "found", "matched_dec": "matched dec", "mip_dec": "MIP dec", "mip_enc": "MIP enc",
    "recovery_dec": "recovery dec", "f1": "F1", "fvu": "FVU", "l0": "L0", "dead": "dead",
}  # fmt: skip
ALONE = "*the anchors alone*"
MEASURES_ALONE = "oracle"  # the row that measures them
INTRO = """# Real activations

Written by `lrbench study real --suite {suite}` from records. **Truth is a proxy here**: nobody knows the features of a model, and {proxy}
stand for them. So these numbers are on a scale of their own and are averaged with no other. {planned}

* Items are nouns with their glosses, a model's activations the mean over tokens at four sites, every coordinate with the same variance.
  An SAE reads the first site, a transcoder maps it to the second, a crosscoder reads all four.
* Half of the classes are anchors, as centred and normalised means of the training items. Scores are on the other half, as means of items
  that training never saw.
* *The anchors alone* are a dictionary of nothing but the anchors, read by themselves with TopK. Classes are alike, so an anchored row has learned
  of the other classes only what it has beyond that one.
* The score of a random dictionary is 0 and that of the oracle 1: a linear probe per class, with the class mean as its decoder row. ± is a 95% interval over seeds, which differ in their split, their anchors and their start.
"""
RELIABLE = """A class mean of the training items has a cosine of {reliability} with that of the held-out ones, on average over classes, at the least reliable
site: the proxy is no sharper than that.
"""
PREDICTION = """## Does the synthetic board predict the real one?

Spearman's rank correlation of the score between the rows of the published board and these tasks, over the methods that both have. The 95% interval is
a bootstrap over methods, in which a method is drawn together with its twins (anchored, resampled): they are not independent. Autoencoders, the
transcoder and the crosscoder are pooled, though a score compares within one pairing only; there are too few of each to be looked at apart.
"""


def write(records: Sequence[Record], suite: str, path: Path, board: Mapping[str, float]) -> str:
    """Write the page with its figures, and return the scores for the terminal.

    Parameters
    ----------
    records, suite, path
        See `lrbench.study.Study`.
    board
        Method → its score on the published board.
    """
    good = [record for record in records if record.status == "ok"]
    trained = [record for record in good if not _is_copy(record)]
    figures = path.parent / "figures"
    parts, shown = [_intro(good, suite)], []
    for task in dict.fromkeys(record.task for record in trained):
        own = [record for record in trained if record.task == task]
        family = own[0].family
        header, rows = _scores(own)
        shown.append(f"{task}\n{as_text([header, *rows])}")
        reliability = number(mean_measured(own, "reliability"), 2)
        parts.append(f"## {task}\n\n{RELIABLE.format(reliability=reliability)}\n{table(header, rows, left=1)}")
        parts.append(causes(own, figures / f"real-{family}.png"))
        parts.append(baselines(own, [record for record in good if record.family == family and _is_copy(record)]))
        parts.append(few_anchors(own))
        parts.append(resampling(own, figures / f"real-{family}-resampling.png"))
    parts += [_prediction(trained, board, figures / "real-board.png"), _gaps(records)]
    path.write_text("\n".join(part.rstrip("\n") + "\n" for part in parts if part), encoding="utf-8")
    return "\n\n".join(shown)


def _intro(records: Sequence[Record], suite: str) -> str:
    proxies = {str(record.world["proxy"]) for record in records if "proxy" in record.world}
    run = {record.family for record in records if not _is_copy(record)}
    open_models = [f"{model} (`{family}`)" for family, model in MODELS.items() if family not in run]
    planned = f"Planned models: {', '.join(MODELS.values())}; "
    planned += f"not yet run: {', '.join(open_models)}." if open_models else "all of them are run."
    return INTRO.format(suite=suite, proxy=", ".join(sorted(proxies)) or "unnamed", planned=planned)


def _scores(records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    first, *others = SCORES
    rows = []
    for method in methods_in(records):
        own = of(records, method)
        means = [number(mean_score(own, name)) for name in others]
        rows.append([code(method), cell([score(record, first) for record in own]), *means])
    alone = [r for r in of(records, MEASURES_ALONE) if not math.isnan(measured(r, f"anchors_{first}"))]
    if alone:
        means = [number(mean_measured(alone, f"anchors_{name}")) for name in others]
        rows.append([ALONE, cell([measured(record, f"anchors_{first}") for record in alone]), *means])
    return ["method", *SCORES.values()], rows


def _prediction(records: Sequence[Record], board: Mapping[str, float], path: Path) -> str:
    """Say whether the order of methods on the published board is that on real activations."""
    rows, real = [], {}
    for task in dict.fromkeys(record.task for record in records):
        own = real_scores([record for record in records if record.task == task])
        plain = {name: value for name, value in own.items() if name == base_of(name)}
        for name, some in (("with twins", own), ("plain", plain)):
            found = correlation(board, some)
            if not math.isnan(found.value):
                real[task] = own
                span = f"{number(found.low, 2)} to {number(found.high, 2)}"
                rows.append([code(task), name, str(found.methods), number(found.value, 2), span])
    if not rows:
        return ""
    figure = save_scatter(board, real, path)
    shown = table(["task", "methods", "number", "rank correlation", "interval"], rows, left=2)
    return f"{PREDICTION}\n{shown}\n![Scores on class means against scores on the board](figures/{figure})\n"


def _is_copy(record: Record) -> bool:
    return record.task.endswith(f"/{RANDOM}")


def _gaps(records: Sequence[Record]) -> str:
    lines = unscored(records)
    return "\n".join(["## Cells without a score", "", *lines]) if lines else ""
