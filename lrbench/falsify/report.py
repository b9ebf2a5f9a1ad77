"""The page `docs/falsification.md`: every number in it comes from the outcomes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lrbench.falsify.figure import save_figure
from lrbench.falsify.outcome import ABSORBED
from lrbench.falsify.run import Finding, Outcome, Result, results_of
from lrbench.falsify.verdict import FAILS, HOLDS, LEVEL, OPEN, Interval
from lrbench.falsify.worlds import OWN, THEORY, points_of, scale_of

REASONS_SHOWN = 12


def write_page(suite: str, seeds: int, outcomes: Sequence[Outcome], path: Path) -> list[Result]:
    """Write the page and its figure (``figures/NAME.png`` beside it), and return the results."""
    results = results_of(suite, outcomes)
    figure = path.parent / "figures" / f"{path.stem}.png"
    figure.parent.mkdir(parents=True, exist_ok=True)  # a caller from Python need not have made it
    save_figure(results, figure)
    path.write_text(page(suite, seeds, outcomes, results, f"figures/{figure.name}"), encoding="utf-8")
    return results


def page(suite: str, seeds: int, outcomes: Sequence[Outcome], results: Sequence[Result], figure: str) -> str:
    """Return the page as markdown."""
    parts = [_header(suite, seeds, outcomes, results), summary(results)]
    parts.append(f"![Every measure against 1−S and ε, with its threshold]({figure})")
    parts.append(_worlds(suite, outcomes))
    parts += [section(result) for result in results]
    parts.append(_unanswered(outcomes))
    return "\n\n".join(part for part in parts if part) + "\n"


def _header(suite: str, seeds: int, outcomes: Sequence[Outcome], results: Sequence[Result]) -> str:
    scale, (base, _, _) = scale_of(suite), points_of(suite)
    spec = scale.task().world
    count = Counter(result.base.verdict for result in results)
    trained = sum(outcome.cell.method != THEORY for outcome in outcomes)
    methods = sorted({outcome.cell.method for outcome in outcomes} - {THEORY})
    return f"""# The settling test

Written by `lrbench falsify --suite {suite}` (`make falsify`); no number here is typed by hand. The theory of *A Unified Theory of
Sparse Dictionary Learning in Mechanistic Interpretability: Piecewise Biconvexity and Spurious Minima* (`docs/theory.md`) predicts
what training ends in; here every SDL method is trained where it does, and the predictions are held against what came out.
At the base point {count[HOLDS]} predictions hold, {count[FAILS]} fail, and {count[OPEN]} cannot be told.

* Worlds: n = {spec.n_features} features in {spec.dims[0]} dimensions, two sites, M = {spec.interference:g}, {scale.n_latents} latents, {scale.n_samples // scale.batch_size} steps of
  {scale.batch_size} samples.
* {trained} trainings: {len(methods)} methods ({", ".join(methods)})
  and their twins, {seeds} seeds. A seed is another world, another start and other data; a twin shares them with its plain method. Hyper-parameters are the catalogue's and were not tuned here.
* Base point: 1−S = 1/n = {base.rate:.3g}, ε = 0. From there one axis at a time is varied.
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
    return _table(heads, rows)


def section(result: Result) -> str:
    """Return one prediction with its tables."""
    prediction, parts = result.prediction, []
    parts.append(f"## {prediction.title}\n\n*{prediction.source}.* {prediction.statement}")
    parts.append(
        f"Measured: {prediction.measure}; {prediction.rule}. Observed {shown(result.base.seen)}: **{result.base.verdict}**."
    )
    if len(result.base.methods) > 1:
        rows = [[name, shown(seen), verdict] for name, (seen, verdict) in result.base.methods.items()]
        parts.append(_table(["method, at the base point", "observed", "verdict"], rows))
    for name, axis, findings in (("1−S", result.stops_rate, result.rates), ("ε", result.stops_bend, result.bends)):
        rows = [[f"{value:.3g}", shown(found.seen), found.verdict, _tally(found)] for value, found in findings.items()]
        parts.append(f"Holds in {name}: {axis}.\n\n" + _table([name, "observed", "verdict", "methods that hold"], rows))
    return "\n\n".join(parts)


def _worlds(suite: str, outcomes: Sequence[Outcome]) -> str:
    """Return how far the bent worlds are from linear ones, and how many parents the absorption predictions saw."""
    base, rates, bends = points_of(suite)
    rows = []
    for point in bends:
        found = [
            o.numbers
            for o in outcomes
            if o.numbers is not None and (o.cell.point, o.cell.kind, o.cell.method) == (point, OWN, THEORY)
        ]
        if found:
            means = [sum(numbers[name] for numbers in found) / len(found) for name in ("bent", "interference")]
            rows.append([f"{point.bend:g}", *(f"{mean:.3f}" for mean in means)])
    dropped = [
        (o.cell.point, o.numbers["dropped"]) for o in outcomes if o.numbers is not None and "dropped" in o.numbers
    ]
    counts = [sum(count for point, count in dropped if point in places) for places in ([base], {*rates, *bends})]
    parents = (
        f"Which child goes first is asked of the parents whose latent's recall differs between two children by {ABSORBED:g} or "
        f"more: {counts[0]:.0f} at the base point, {counts[1]:.0f} in all, over methods and seeds."
    )
    heads = ["ε", "power that features alone do not add up to", "largest inner product of two features alone"]
    return f"How far bent worlds are from linear ones, at the base 1−S:\n\n{_table(heads, rows)}\n\n{parents}"


def _unanswered(outcomes: Sequence[Outcome]) -> str:
    causes: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.numbers is None:
            key = f"{outcome.cell.kind}: {outcome.reason}"
            causes.setdefault(_without_numbers(key), []).append(outcome)
    if not causes:
        return ""
    total = sum(map(len, causes.values()))
    lines = [
        f"## Cells without an answer\n\n{total} of {len(outcomes)} cells ended without a dictionary; for instance:\n"
    ]
    for found in [*causes.values()][:REASONS_SHOWN]:
        points = sorted({(o.cell.point.rate, o.cell.point.bend) for o in found})
        where = ", ".join(f"(1−S {rate:.3g}, ε {bend:g})" for rate, bend in points)
        lines.append(f"* {found[0].cell.kind}, {len(found)} cells at {where}: {found[0].reason}")
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


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _anchor(title: str) -> str:
    kept = (character for character in title.lower() if character.isalnum() or character in " -_")
    return "".join(kept).replace(" ", "-")
