"""A certificate for a person: tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group
from rich.table import Table

from lrbench.theory.certificate import Certificate


def as_tables(certificate: Certificate, title: str) -> Group:
    """Return a table of the measured numbers and one that says, statement by statement, what holds."""
    numbers = Table("quantity", "value", title=title, title_justify="left")
    for name, value in _numbers(certificate):
        numbers.add_row(name, value)
    statements = Table("statement", "verdict", "by how much, and where", title="statements", title_justify="left")
    for row in _statements(certificate):
        statements.add_row(*row)
    return Group(numbers, statements)


def _numbers(c: Certificate) -> Iterator[tuple[str, str]]:
    how = "duality gap" if c.encoder_exact else "bracket"
    width = f"{how} {_number(c.encoder_gap_most - c.encoder_gap_least)}"
    kkt = "" if c.encoder_stationarity is None else f", KKT residual {_number(c.encoder_stationarity)}"
    yield "dictionary", f"{c.n_latents} latents, {c.activation}, {c.pair}; {c.n_features} features"
    yield "loss L", f"{_number(c.loss.mean)} ± {_number(c.loss.standard_error)} (sampled)"
    yield "approximate loss L̃", f"{_number(c.approximate_loss)} of {_number(c.scale)} for an empty dictionary"
    if c.unseen:
        yield "features that L̃ does not see", f"{c.unseen}, they never fire alone"
    yield "L̃ falls by, minimising W_D", _number(c.decoder_gap)
    yield (
        "L̃ falls by, minimising W_E in Ω_P",
        f"{_number(c.encoder_gap_least)} to {_number(c.encoder_gap_most)} ({width}{kkt})",
    )
    yield "largest gradient entry", f"W_E {_number(c.gradient_encoder)}, W_D {_number(c.gradient_decoder)}"
    yield "distance to the border of Ω_P", _number(c.border)
    yield "latents", ", ".join(f"{number} {name}" for name, number in c.counts.items())


def _statements(c: Certificate) -> Iterator[tuple[str, str, str]]:
    b = c.bound
    premise = f"1−S = {_number(b.rate)} {'≤' if b.condition else '>'} 1/n = {_number(b.limit)}"
    premise = ", ".join([premise, *b.unmet])
    verdict = ("vacuous" if b.vacuous else "holds") if b.holds else "premise fails" if b.unmet else "broken"
    yield "3.1 |L − L̃| ≤ n²C(1−S)²", verdict, f"{_number(b.difference)} against {_number(b.value)}; {premise}"
    smallest = f"smallest second differences: W_E {_number(c.curvature.encoder)}, W_D {_number(c.curvature.decoder)}"
    yield "3.2 convex in each block", "holds" if c.curvature.convex else "broken", smallest
    yield (
        "3.3 n²M² Σ M_d bounds the truth's L̃",
        "below it" if c.approximate_loss <= c.true_bound else "above it",
        f"L̃ is {_number(c.approximate_loss)} here, the bound {_number(c.true_bound)}",
    )
    yield (
        "3.4 zero loss",
        "yes" if c.zero_loss else "no",
        f"L̃ is {_number(c.approximate_loss / (c.scale or 1.0))} of the scale",
    )
    known = {True: "yes", False: "no", None: "open"}[c.partial_minimum()]
    kind = "" if known != "yes" else "a global one, L̃ = 0; " if c.zero_loss else "a spurious one, L̃ > 0; "
    where = f"{c.counts['polysemantic']} polysemantic and {c.counts['dead']} dead latents"
    yield "3.6 partial minimum", known, kind + where
    yield "3.8 absorption", "yes" if c.counts["absorbed"] else "no", f"{c.counts['absorbed']} absorbed latents"


def _number(value: float) -> str:
    return f"{value:.3g}"
