"""The counterparts of what the paper shows on real activations: thirty anchors (table 2) and resampling (figure 7)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from lrbench.controls.figure import save_courses
from lrbench.controls.schedule import RESAMPLED, WEIGHT_ONE
from lrbench.controls.seen import NOT_YET, cell, mean_measured, measured, of, score
from lrbench.pages.markdown import code, table
from lrbench.record import Record

FEW = """The counterpart of the paper's table 2: thirty anchors with λ_anchor = 1, plain → anchored, and M_GT and M_IP of the other classes against the
means of the training items. It has to differ in model, classes and width: the paper has the 1,000 classes of ImageNet-1K, none inside another, in CLIP embeddings and
16,384 latents; here {classes} classes lie in one another, in {dim} dimensions and {latents} latents.
"""
COURSE = """The counterpart of the paper's figure 7, loss with and without resampling. Dead latents start anew four times in the first 60% of the steps
(`+resample`); the curves are means over stretches of 2% of the steps, of a training of their own with another start at seed 0: FVU of training batches,
and a latent is dead that has not fired lately. The table is of the recorded trainings, over seeds, on held-out items, where a latent is dead that never fires.
"""
ENDS = {"fvu": "FVU", "dead": "dead", "headline": "score", "l0": "L0"}


def few_anchors(records: Sequence[Record]) -> str:
    """Return the section on thirty anchors, of one task."""
    facts = {
        name: str(records[0].world[key])
        for name, key in (("classes", "n_features"), ("dim", "dim"), ("latents", "n_latents"))
    }
    names = {"recovery_enc": "M_GT enc", "mip_enc": "M_IP enc", "recovery_dec": "M_GT dec", "mip_dec": "M_IP dec"}
    rows = []
    for plain, anchored in WEIGHT_ONE.items():
        pair = [of(records, plain), of(records, anchored)]
        if any(math.isnan(mean_measured(own, "few_mip_dec")) for own in pair):
            continue
        both = [[cell([measured(r, f"few_{name}") for r in own]) for own in pair] for name in names]
        rows.append([code(plain), *(" → ".join(ends) for ends in both)])
    shown = table(["method", *names.values()], rows, left=1) if rows else NOT_YET
    return f"### Thirty anchors\n\n{FEW.format(**facts)}\n{shown}"


def resampling(records: Sequence[Record], path: Path) -> str:
    """Return the section on resampling, of one task; the figure goes to a path."""
    methods = [RESAMPLED, f"{RESAMPLED}+resample"]
    figure = save_courses(records, methods, path)
    if not figure:
        return f"### Resampling\n\n{COURSE}\n{NOT_YET}"
    rows = [
        [code(method), *(cell([score(r, name) for r in of(records, method)]) for name in ENDS)] for method in methods
    ]
    ends = table(["method", *ENDS.values()], rows, left=1)
    return (
        f"### Resampling\n\n{COURSE}\n![FVU and dead latents with and without resampling](figures/{figure})\n\n{ends}"
    )
