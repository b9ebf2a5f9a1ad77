"""Pairings: which sites a dictionary reads and which it reconstructs (the paper's table of families)."""

from __future__ import annotations

from lrbench.errors import LrbenchError, NotApplicable

PAIRS = ("autoencoder", "transcoder", "crosscoder")


def check_pair(pair: str) -> str:
    """Return the pair, or raise `LrbenchError` when it is none."""
    if pair not in PAIRS:
        raise LrbenchError(f"pair={pair!r}: expected one of {', '.join(PAIRS)}")
    return pair


def pair_sites(pair: str, n_sites: int) -> tuple[list[int], list[int]]:
    """Return the sites of the input x_p and of the target x_r; several sites are concatenated.

    Parameters
    ----------
    pair
        ``"autoencoder"`` (the first site to itself), ``"transcoder"`` (the first to the second) or ``"crosscoder"`` (all
        sites to themselves).
    n_sites
        Number of sites m.
    """
    if check_pair(pair) == "crosscoder":
        return list(range(n_sites)), list(range(n_sites))
    if pair == "transcoder" and n_sites < 2:
        raise NotApplicable(
            "pair='transcoder' needs two sites and there is one: use task.view() or task.view('transcoder')"
        )
    return [0], [1 if pair == "transcoder" else 0]
