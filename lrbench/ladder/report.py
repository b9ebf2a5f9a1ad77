"""The ladder's page: every number in it comes from the records."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from lrbench.ladder.axes import STEP
from lrbench.ladder.breakdown import HALF
from lrbench.ladder.curves import REFERENCE, Ladder, ladder_of
from lrbench.ladder.figure import save_curves, save_planes
from lrbench.ladder.limit import density_limit
from lrbench.ladder.plane import Plane, edge_of, planes_of
from lrbench.ladder.schedule import SCAN, UNDERSAMPLINGS
from lrbench.ladder.summary import Standing, standings_of
from lrbench.ladder.words import level_text, sentences
from lrbench.pages.interval import LEVEL
from lrbench.pages.markdown import NONE, code, table
from lrbench.pages.terminal import as_text
from lrbench.pages.unscored import unscored
from lrbench.record import Record


def write(records: Sequence[Record], suite: str, path: Path) -> str:
    """Write the page with its two figures in ``figures/`` beside it, and return the places for a terminal."""
    ladder, planes = ladder_of(records), planes_of(records)
    folder = path.parent / "figures"
    if ladder.axes:
        save_curves(ladder, folder / f"{path.stem}.png")
    if planes:
        save_planes(planes, folder / f"{path.stem}-phase.png")
    path.write_text(page(records, ladder, planes, suite, path.stem), encoding="utf-8")
    rows = [[method, f"{each.relative:.3f}", str(each.bounds)] for method, each in standings_of(ladder).items()]
    return f"{as_text([['method', 'relative level', 'bounds'], *rows])}\n\n{cost(records)}"


def page(
    records: Sequence[Record],
    ladder: Ladder,
    planes: Mapping[str, Plane],
    suite: str,
    stem: str,
) -> str:
    """Return the page as markdown."""
    parts = [_header(records, suite)]
    said = sentences(ladder, planes)
    if said:
        parts.append("\n".join(f"{place}. {sentence}" for place, sentence in enumerate(said, start=1)))
    if ladder.axes:
        parts += [_levels(ladder), f"![Score against the level, a panel per axis](figures/{stem}.png)"]
        parts.append(_reading())
    if planes:
        parts += [_planes(planes), f"![Score over δ and ρ, a panel per method](figures/{stem}-phase.png)"]
    parts.append(f"## The records\n\n{cost(records)}\n\n{_unanswered(records)}")
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def _header(records: Sequence[Record], suite: str) -> str:
    count = len({record.seed for record in records})
    seeds = f"Means over {count} seeds are geometric, with Student's t interval\nat {LEVEL:.0%}, cut at the ends of the axis."
    seeds = seeds if count > 1 else "There is one seed, so there are no intervals."
    return f"""# Where each method breaks

Written by `lrbench study ladder --suite {suite}` from records; no number here is typed by hand. The default world of the suite is made
harder along one axis at a time, and a method *breaks* at the level where it finds less than half: where its mean value of a feature
([metrics.md](metrics.md), `found`: the headline before it is scaled by the oracle) falls to {HALF:g}. Every method of the table is trained on {SCAN} levels of an axis; then the bracket of every method and seed is halved until its ends are no more than {STEP - 1:.0%} apart (or whole numbers
next to each other), and the level in between is read off the straight line. {seeds}
Hyper-parameters are the catalogue's and were not tuned here."""


def _levels(ladder: Ladder) -> str:
    places = standings_of(ladder)
    rows = []
    for method in sorted(ladder.methods, key=lambda name: (name == REFERENCE, -_relative(places, name), name)):
        cells = []
        for axis in ladder.axes:
            breaks = ladder.breaks[axis.name]
            found = breaks.get(method)
            others = [each.hardness for name, each in breaks.items() if name != REFERENCE]
            best = found is not None and method != REFERENCE and found.hardness == max(others) > min(others)
            shown = NONE if found is None else level_text(axis, found)
            cells.append(f"**{shown}**" if best else shown)
        name = f"*{code(method)} (reference)*" if method == REFERENCE else code(method)
        rows.append([name, _place(places.get(method)), *cells])
    heads = ["method", "relative", *(axis.title for axis in ladder.axes)]
    ends = ", ".join(f"{axis.title} {axis.easy:g} to {axis.hard:g}" for axis in ladder.axes)
    return f"## Levels at which methods break\n\n{table(heads, rows, left=1)}\nThe axes, from the easiest to the hardest level: {ends}."


def _reading() -> str:
    return f"""* *relative*: the geometric mean over axes of a method's level relative to the best method's, which is 1 for one that is best on
  every axis. A level counts by its logarithm; of samples and latents fewer are harder, so their ratio is turned over; a correlation
  counts by 1 / (1 − level).
* `> 8` and `< 3`: all seeds get beyond the end of the axis, or none gets to its start; `≥` and `≤`: some do. Such a level is a bound. In
  means it stands for what lies beyond, so *relative* is a bound too; the number behind it says on how many axes. `~`: seeds lie beyond both ends.
* In the figure, dots are the levels of the table and bars their intervals, where neither is a bound. Between two rungs of a seed its curve is a straight line.
* A cell that was skipped because the method cannot run there counts as one in which it found nothing.
* The axes: *features per dimension*, at the same mean L0 and number of features in fewer dimensions, directions random; *interference*, the
  largest inner product M that is allowed (random directions of the default world stay below the hardest level, so it adds nothing beyond
  what chance brings); *correlation*, the probability that a member of an active group of four is active; *frequency skew*, the exponent of
  Zipf's law; *hierarchy depth*, chains of so many features of which each needs the one before and follows it half of the time, at the
  same mean L0; *samples*, distinct ones, shown over and over within the same budget; *bend*, ε as in
  [worlds.md](worlds.md).
* `{REFERENCE}` knows the true directions. Scores are not scaled by its own here: the headline asks how much of what can be found is found,
  and rises again where nothing can."""


def _planes(planes: Mapping[str, Plane]) -> str:
    rows = []
    for delta in UNDERSAMPLINGS:
        cells = []
        for plane in planes.values():
            edge = edge_of(plane).get(delta)
            mark = "" if edge is None else {-1: "< ", 0: "", 1: "> "}[edge.side]
            cells.append(NONE if edge is None else f"{mark}{math.exp(edge.hardness):.2g}")
        rows.append([f"{delta:g}", f"{density_limit(delta):.2f}", *cells])
    heads = ["δ", "limit, dictionary known", *map(code, planes)]
    return f"""## The phase diagram

As many features as in the default world, in d = δ n dimensions, with a mean L0 of ρ d, independent and in random directions. For every δ
the table has the highest ρ at which half of the features are found, between two places of the grid on the straight line in log ρ. Beside it the limit ρ₊(δ) =
max_z (1 − g/δ) / (1 + z² − g), g = (1 + z²)Φ(−z) − zφ(z), up to which ℓ1 minimisation finds a non-negative code when the dictionary is *known*, as n grows (Donoho, Maleki
and Montanari, arXiv 0907.3574). It is no bound on a score: it asks for exact codes, one half asks for half of the features. Red dashes in the figure are that
limit; triangles point to where the edge lies beyond what was tried.

{table(heads, rows, left=0)}"""


def cost(records: Sequence[Record]) -> str:
    """Say how many cells there are, what they cost, and where they ran."""
    status = Counter(record.status for record in records)
    seconds = math.fsum(record.timing.seconds for record in records)
    places = sorted({f"{record.provenance.platform}, {record.provenance.device}" for record in records})
    torch = sorted({record.provenance.packages.get("torch", "?") for record in records})
    counts = ", ".join(f"{status[name]} {name}" for name in ("ok", "skipped", "failed"))
    longest = max((record.timing.seconds for record in records), default=0.0)
    return (
        f"{len(records)} cells ({counts}) took {seconds / 60:.0f} minutes of one process, so {seconds / 120:.0f} minutes of two; the longest "
        f"cell took {longest:.1f} s. {'; '.join(places)}; torch {', '.join(torch)}."
    )


def _unanswered(records: Sequence[Record]) -> str:
    lines = unscored(records)
    return "\n".join(["Cells without a score:", "", *lines]) if lines else ""


def _relative(places: Mapping[str, Standing], method: str) -> float:
    return places[method].relative if method in places else 0.0


def _place(standing: Standing | None) -> str:
    if standing is None:
        return NONE
    return f"{standing.relative:.2f}" + f" ({standing.bounds} bounds)" * bool(standing.bounds)
