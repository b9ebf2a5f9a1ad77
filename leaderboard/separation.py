"""How well a board tells methods apart: the pairs that differ, and what each family adds to the differences."""

from __future__ import annotations

from itertools import combinations

from .compile import Board

FIRST = 15  # of the methods of a pairing: a board has to part the good ones too


def told_apart(board: Board, pair: str, first: int | None = None) -> tuple[int, int]:
    """Return how many pairs of ranked methods of a pairing are told apart, and how many pairs there are.

    Parameters
    ----------
    first
        Only so many, from the top.
    """
    rows = board.standings
    names = list(rows["method"][(rows["pair"] == pair) & rows["rank_low"].notna()])[:first]
    pairs = list(combinations(names, 2))
    return sum((a, b) in board.ahead or (b, a) in board.ahead for a, b in pairs), len(pairs)


def family_shares(board: Board, pair: str) -> dict[str, float]:
    """Return each family's share in the variance of the score between the ranked methods of a pairing; the shares add up to 1.

    A share is the covariance of the family's mean score with the score, over the score's variance and the number of families. It is
    negative for a family that ranks methods the other way round. Methods that lack a task do not count; nothing is returned for fewer
    than two methods, or where all have one score.
    """
    import pandas as pd

    rows = board.standings
    whole = rows["ranked"] & (rows["pair"] == pair) & (rows["tasks"] == len(board.tasks))
    means = pd.DataFrame({family: table.mean(axis=1) for family, table in board.families.items()}).loc[
        rows["method"][whole]
    ]
    score = means.mean(axis=1)
    if len(means) < 2 or score.var() == 0.0:
        return {}
    return {str(family): float(means[family].cov(score) / score.var() / means.shape[1]) for family in means.columns}
