"""The settling test's page: every number in it comes from the records."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from lrbench.falsify.figure import save_figure
from lrbench.falsify.findings import Finding, Outcome, Result, outcomes_of, results_of
from lrbench.falsify.verdict import FAILS, HOLDS, OPEN
from lrbench.falsify.worlds import OWN, THEORY, plan_of, scale_of
from lrbench.pages.interval import LEVEL, Interval
from lrbench.pages.markdown import table
from lrbench.pages.terminal import as_text
from lrbench.record import Record

REASONS_SHOWN = 12
ABSORBED = 0.1  # as `lrbench.falsify.measure` counts


def write(records: Sequence[Record], suite: str, path: Path) -> str:
    """Write the page and its figure (``figures/NAME.png`` beside it), and return the verdicts for a terminal."""
    outcomes = outcomes_of(suite, records)
    results = results_of(suite, outcomes)
    figure = path.parent / "figures" / f"{path.stem}.png"
    figure.parent.mkdir(parents=True, exist_ok=True)
    save_figure(results, figure)
    path.write_text(page(suite, outcomes, results, f"figures/{figure.name}"), encoding="utf-8")
    return as_text(
        [
            ["prediction", "observed", "verdict"],
            *([r.prediction.title, shown(r.base.seen), r.base.verdict] for r in results),
        ]
    )


def page(suite: str, outcomes: Sequence[Outcome], results: Sequence[Result], figure: str) -> str:
    """Return the page as markdown."""
    parts = [_header(suite, outcomes, results), summary(results)]
    parts.append(f"![Every measure against 1−S and ε, with its threshold]({figure})")
    parts.append(_worlds(suite, outcomes))
    parts += [section(result) for result in results]
    parts.append(_unanswered(suite, outcomes))
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def _header(suite: str, outcomes: Sequence[Outcome], results: Sequence[Result]) -> str:
    scale = scale_of(suite)
    spec, seeds = scale.world, len({outcome.seed for outcome in outcomes})
    count = Counter(result.base.verdict for result in results)
    trained = sum(outcome.method != THEORY for outcome in outcomes)
    methods = sorted({outcome.method for outcome in outcomes} - {THEORY})
    return f"""# The settling test

Written by `lrbench study falsify --suite {suite}` from records; no number here is typed by hand. The theory of *A Unified Theory of
Sparse Dictionary Learning in Mechanistic Interpretability: Piecewise Biconvexity and Spurious Minima* (`docs/theory.md`) predicts
what training ends in; here every SDL method is trained where it does, and the predictions are held against what came out.
At the base point {count[HOLDS]} predictions hold, {count[FAILS]} fail, and {count[OPEN]} cannot be told.

* Worlds: n = {spec.n_features} features in {spec.dims[0]} dimensions, two sites, M = {spec.interference:g}, {scale.n_latents} latents, {scale.n_samples // scale.batch_size} steps of
  {scale.batch_size} samples.
* {trained} trainings: {len(methods)} methods ({", ".join(methods)})
  and their twins, {seeds} seeds. A seed is another world, another start and other data; a twin shares them with its plain method. Hyper-parameters are the catalogue's and were not tuned here.
* Base point: 1−S = 1/n = {spec.rate:.3g}, ε = 0. From there one axis at a time is varied.
* ε bends the representation: x = s((1 − ε) y + ε g(y)) with y = W x, g a random rotation and tanh, s keeping E‖x‖². ε = 0 is the
  linear world to the bit. A feature's direction is where it points on its own, which is also what recovery is measured against: a
  rotation of the whole space is no failure.
* Intervals: Student's t at {LEVEL:.0%} over seeds, of the mean over methods. A prediction *holds* where the whole interval is on the
  predicted side of its threshold, *fails* where it is on the other side; else, or where nothing was observed, the verdict is *cannot tell*.
  Thresholds are in `lrbench/falsify/predictions.py`. Along an axis the first place is named at which a prediction does not hold.
  With {len(results)} predictions at {LEVEL:.0%}, about one wrong call is to be expected.
  Thresholds were fixed before this run, those marked † with results of a smaller run in sight: they are observations rather than
  tests.

## Verdicts"""


def summary(results: Sequence[Result]) -> str:
    """Return the table of all predictions."""
    rows = [
        [
            f"[{result.prediction.title}](#{_anchor(result.prediction.title)})",
            result.prediction.source + (" †" if result.prediction.after_look else ""),
            shown(result.base.seen),
            result.prediction.rule,
            f"**{result.base.verdict}**",
            _tally(result.base),
            result.stops_rate,
            result.stops_bend,
        ]
        for result in results
    ]
    heads = [
        "prediction",
        "from",
        "observed",
        "holds when",
        "verdict",
        "methods that hold",
        "holds in 1−S",
        "holds in ε",
    ]
    return table(heads, rows)


def section(result: Result) -> str:
    """Return one prediction with its tables."""
    prediction, parts = result.prediction, []
    parts.append(f"## {prediction.title}\n\n*{prediction.source}.* {prediction.statement}")
    parts.append(
        f"Measured: {prediction.measure}; {prediction.rule}. Observed {shown(result.base.seen)}: **{result.base.verdict}**."
    )
    if len(result.base.methods) > 1:
        rows = [[name, shown(seen), verdict] for name, (seen, verdict) in result.base.methods.items()]
        parts.append(table(["method, at the base point", "observed", "verdict"], rows))
    for name, axis, findings in (("1−S", result.stops_rate, result.rates), ("ε", result.stops_bend, result.bends)):
        rows = [[f"{value:.3g}", shown(found.seen), found.verdict, _tally(found)] for value, found in findings.items()]
        parts.append(f"Holds in {name}: {axis}.\n\n" + table([name, "observed", "verdict", "methods that hold"], rows))
    return "\n\n".join(parts)


def _worlds(suite: str, outcomes: Sequence[Outcome]) -> str:
    """Return how far the bent worlds are from linear ones, and how many parents the absorption predictions saw."""
    plan, rows = plan_of(suite), []
    known = [(outcome, outcome.numbers) for outcome in outcomes if outcome.numbers is not None]
    for point in plan.bends:
        found = [numbers for o, numbers in known if (o.point, o.kind, o.method) == (point, OWN, THEORY)]
        if found:
            means = [sum(numbers[name] for numbers in found) / len(found) for name in ("bent", "interference")]
            rows.append([f"{point.bend:g}", *(f"{mean:.3f}" for mean in means)])
    dropped = [(outcome.point, numbers["dropped"]) for outcome, numbers in known if "dropped" in numbers]
    counts = [
        sum(count for point, count in dropped if point in some) for some in ([plan.base], {*plan.rates, *plan.bends})
    ]
    parents = (
        f"Which child goes first is asked of the parents whose latent's recall differs between two children by {ABSORBED:g} or "
        f"more: {counts[0]:.0f} at the base point, {counts[1]:.0f} in all, over methods and seeds."
    )
    heads = ["ε", "power that features alone do not add up to", "largest inner product of two features alone"]
    return f"How far bent worlds are from linear ones, at the base 1−S:\n\n{table(heads, rows, left=0)}\n{parents}"


def _unanswered(suite: str, outcomes: Sequence[Outcome]) -> str:
    plan, causes = plan_of(suite), defaultdict[str, list[Outcome]](list)
    for outcome in outcomes:
        if outcome.numbers is None:
            causes[_without_numbers(f"{outcome.kind}: {outcome.reason}")].append(outcome)
    if not causes:
        return ""
    total = sum(map(len, causes.values()))
    lines = [
        f"## Cells without an answer\n\n{total} of {len(outcomes)} cells ended without a dictionary; for instance:\n"
    ]
    for found in [*causes.values()][:REASONS_SHOWN]:
        points = sorted({(plan.rate(o.point), o.point.bend) for o in found})
        where = ", ".join(f"(1−S {rate:.3g}, ε {bend:g})" for rate, bend in points)
        lines.append(f"* {found[0].kind}, {len(found)} cells at {where}: {found[0].reason}")
    return "\n".join(lines)


def _without_numbers(text: str) -> str:
    return "".join(character for character in text if not character.isdigit())


def shown(seen: Interval) -> str:
    """Return mean ± half width for a table."""
    if math.isnan(seen.mean):
        return "—"
    half = 0.0 if seen.half < 1e-12 * abs(seen.mean) else seen.half  # rounding
    return f"{seen.mean:.3g} ± {half:.2g}" if math.isfinite(half) else f"{seen.mean:.3g} (one seed)"


def _tally(found: Finding) -> str:
    verdicts = [verdict for _, verdict in found.methods.values()]
    return f"{verdicts.count(HOLDS)} of {len(verdicts)}" if len(verdicts) > 1 else ""


def _anchor(title: str) -> str:
    kept = (character for character in title.lower() if character.isalnum() or character in " -_")
    return "".join(kept).replace(" ", "-")
