"""The labelled items: nouns of WordNet 3.1 with their glosses, each in a domain, a class and a subclass (no torch).

The table and its licence lie in ``data/``; ``benchmarks/wordnet_table.py`` makes it. WordNet 3.1 Copyright 2011 by Princeton University.
"""

from __future__ import annotations

import hashlib
import lzma
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

TABLE = Path(__file__).parent / "data" / "wordnet.tsv.xz"
PROXY = "WordNet 3.1 class means"
SHORT = 3  # letters of a class's words that are too common to give it away


@dataclass(frozen=True)
class Item:
    """A noun.

    Parameters
    ----------
    lemma, gloss
        The word and its definition.
    path
        Its domain, class and subclass.

    Examples
    --------
    >>> Item("sugar maple", "maple of eastern and central North America", ("plant", "tree", "maple")).text
    'maple of eastern and central North America'
    >>> Item("gavial", "large fish-eating Indian crocodilian", ("animal", "reptile", "crocodilian reptile")).text
    'gavial: large fish-eating Indian crocodilian'
    """

    lemma: str
    gloss: str
    path: tuple[str, str, str]

    @property
    def text(self) -> str:
        """What a model reads: lemma and gloss, the gloss alone where the lemma holds a word of a class's name."""
        words = {word for name in self.path for word in name.lower().split() if len(word) > SHORT}
        given_away = any(word in self.lemma.lower() for word in words)
        return self.gloss if given_away else f"{self.lemma}: {self.gloss}"


@lru_cache(maxsize=1)
def items() -> tuple[Item, ...]:
    """Return all items, in the order of the table."""
    with lzma.open(TABLE, "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    return tuple(Item(lemma, gloss, (first, second, third)) for lemma, gloss, first, second, third in rows)


@lru_cache(maxsize=1)
def classes() -> tuple[tuple[str, ...], ...]:
    """Return all classes as paths of one to three names, a parent before its children."""
    return tuple(sorted({item.path[:depth] for item in items() for depth in (1, 2, 3)}))


@lru_cache(maxsize=1)
def parents() -> tuple[int, ...]:
    """Return the place of every class's parent in `classes`, -1 for a domain."""
    place = {path: index for index, path in enumerate(classes())}
    return tuple(place.get(path[:-1], -1) for path in classes())


@lru_cache(maxsize=1)
def labels() -> tuple[tuple[int, int, int], ...]:
    """Return the places of every item's three classes in `classes`."""
    place = {path: index for index, path in enumerate(classes())}
    return tuple((place[item.path[:1]], place[item.path[:2]], place[item.path]) for item in items())


@lru_cache(maxsize=1)
def texts_hash() -> str:
    """Return the hash of what models read."""
    text = "\n".join(item.text for item in items())
    return hashlib.sha256(text.encode()).hexdigest()[:16]
