"""Levels and findings in words: what a cell of the table shows, and the sentences that a reader would repeat."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lrbench.ladder.axes import Axis
from lrbench.ladder.breakdown import Pooled
from lrbench.ladder.curves import REFERENCE, Ladder
from lrbench.ladder.limit import density_limit
from lrbench.ladder.plane import Plane, edge_of
from lrbench.ladder.summary import standings_of


def level_text(axis: Axis, found: Pooled) -> str:
    """Return the level with its interval, cut at the ends of the axis, or a bound: > and < where all seeds are beyond an end of the axis, ≥ and ≤ where some are.

    Examples
    --------
    >>> from lrbench.ladder.axes import axis_of
    >>> level_text(axis_of("noise"), Pooled(math.log(8.0), math.nan, before=0, beyond=3, seeds=3))
    '> 8'
    """
    level = f"{axis.level(found.hardness):.3g}"
    if found.before and found.beyond:
        return f"~ {level}"
    if found.bound:
        above = (found.beyond > 0) != axis.falls
        every = found.before + found.beyond == found.seeds
        return f"{'>≥'[not every] if above else '<≤'[not every]} {level}"
    if math.isnan(found.half):
        return level
    ends = sorted(axis.level(axis.within(found.hardness + sign * found.half)) for sign in (-1, 1))
    return f"{level} ({ends[0]:.3g}–{ends[1]:.3g})"


def sentences(ladder: Ladder, planes: Mapping[str, Plane]) -> list[str]:
    """Return what the records come to, at most five sentences; one that they say nothing on is left out."""
    found = [_overall(ladder), _first_and_last(ladder), _harmless(ladder), _reference(ladder), _phase(planes)]
    return [sentence for sentence in found if sentence]


def _overall(ladder: Ladder) -> str:
    places = [*standings_of(ladder).items()]
    if len(places) < 2:
        return ""
    (best, first), (worst, last) = places[0], places[-1]
    leads: dict[str, int] = {}
    for axis in ladder.axes:
        for name in _leaders(ladder, axis):
            leads[name] = leads.get(name, 0) + 1
    return (
        f"`{best}` climbs highest: over {first.axes} axes its breakdown levels are {first.relative:.2f} of the best method's (geometric "
        f"mean), `{worst}`'s {last.relative:.2f}; none is alone the last to break on more than {max(leads.values(), default=0)} of them."
    )


def _first_and_last(ladder: Ladder) -> str:
    spans = []
    for axis in ladder.axes:
        order = sorted(_methods(ladder, axis).items(), key=lambda item: (item[1].hardness, item[0]))
        if len(order) > 1:
            spans.append((order[-1][1].hardness - order[0][1].hardness, axis.name, axis, order[0], order[-1]))
    if not spans:
        return ""
    span, _, axis, first, last = max(spans, key=lambda item: item[:2])
    bound = "at least " * (first[1].bound or last[1].bound)
    return (
        f"Methods differ most in {axis.title}: `{first[0]}` breaks first, at {level_text(axis, first[1])}, `{last[0]}` last, "
        f"at {level_text(axis, last[1])}, {bound}a factor of {math.exp(span):.3g}."
    )


def _harmless(ladder: Ladder) -> str:
    whole, counts = [], []
    for axis in ladder.axes:
        breaks = _methods(ladder, axis)
        standing = sum(each.beyond == each.seeds for each in breaks.values())
        counts.append((standing / max(len(breaks), 1), standing, len(breaks), axis))
        whole += [axis.title] * (standing == len(breaks))
    if not counts:
        return ""
    if whole:
        return f"No method breaks on {', '.join(whole)}, as far as the axis goes."
    _, standing, total, axis = max(counts, key=lambda item: item[:2])
    return f"Every axis breaks some method; the mildest is {axis.title}, whose hardest level {standing} of {total} methods withstand."


def _reference(ladder: Ladder) -> str:
    """Compare with the reference where it breaks too; where it does not, it says nothing on how hard a world is to learn."""
    ratios = []
    for axis in ladder.axes:
        own, methods = ladder.breaks[axis.name].get(REFERENCE), _methods(ladder, axis)
        if own is not None and not own.bound and methods:
            best = max(methods, key=lambda name: (methods[name].hardness, name))
            ratios.append((own.hardness - methods[best].hardness, axis.name, axis, own, best, methods[best]))
    if not ratios:
        known = any(REFERENCE in ladder.breaks[axis.name] for axis in ladder.axes)
        return f"The true directions, `{REFERENCE}`, withstand every axis as far as it goes." if known else ""
    ratio, _, axis, own, best, place = max(ratios, key=lambda item: item[:2])
    where = ", ".join(each[2].title for each in ratios)
    return (
        f"The true directions themselves give out in {where}, and the best method is close behind: furthest in {axis.title}, where "
        f"`{REFERENCE}` breaks at {level_text(axis, own)} and `{best}` at {level_text(axis, place)}, a factor of {math.exp(ratio):.3g}."
    )


def _phase(planes: Mapping[str, Plane]) -> str:
    edges = {method: edge_of(plane) for method, plane in planes.items()}
    for delta in sorted({delta for own in edges.values() for delta in own}, reverse=True):
        at = {method: own[delta] for method, own in edges.items() if delta in own}
        lost = [method for method, edge in at.items() if edge.side == -1]
        kept = {method: edge for method, edge in at.items() if edge.side == 0}
        if lost and kept:
            best = max(kept, key=lambda method: kept[method].hardness)
            density = math.exp(kept[best].hardness)
            return (
                f"In the phase diagram crowding parts the methods before density does: at δ = {delta:g} {_listed(lost)} find half of the features at"
                f" no density that was tried, `{best}` up to ρ = {density:.2g}, {density / density_limit(delta):.0%} of the limit for a known dictionary."
            )
    shares = [
        math.exp(edge.hardness) / density_limit(delta)
        for own in edges.values()
        for delta, edge in own.items()
        if edge.side == 0
    ]
    if not shares:
        return ""
    return f"In the phase diagram half of the features are found up to {min(shares):.0%} to {max(shares):.0%} of the limit for a known dictionary."


def _listed(names: Sequence[str]) -> str:
    *others, last = (f"`{name}`" for name in names)
    return f"{', '.join(others)} and {last}" if others else last


def _methods(ladder: Ladder, axis: Axis) -> dict[str, Pooled]:
    return {name: place for name, place in ladder.breaks[axis.name].items() if name != REFERENCE}


def _leaders(ladder: Ladder, axis: Axis) -> list[str]:
    """Return the one method that outlasts all others; none where several reach the same level."""
    breaks = _methods(ladder, axis)
    top = max(each.hardness for each in breaks.values()) if breaks else 0.0
    names = [name for name, each in breaks.items() if each.hardness == top]
    return names if len(names) == 1 else []
