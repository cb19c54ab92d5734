"""Validation clips out of a training split whose fakes join the faces of two people.

Where everybody is swapped with everybody, all clips hang together, and no split keeps all of them without
showing a face on both sides. So people are chosen, and what joins one of them with somebody else is left out.
"""

from __future__ import annotations

import hashlib
from collections import Counter

import pandas as pd

from avdetect.data.splits import split_by_source

SHARE = 0.15  # of the people, and of the clips whose people are in no other's fake


def carve_by_people(table: pd.DataFrame, seed: int = 0, share: float = SHARE) -> pd.Series:
    """`train`, `val` or missing for every row; no subject is in both.

    `table`: rows with `subject`, `source`, `dataset`, `path` and the labels. Of the people who share a row
    with somebody, `share` (at least two) become validation: the first is drawn with `seed`, each next one is
    who completes most rows among those chosen already, so that few rows are lost. Rows that join a chosen
    person with another have no split. Rows of other people are dealt by source.
    """
    people = table["subject"].str.split("+").map(frozenset)
    joined = people[people.map(len) > 1].drop_duplicates()
    linked = sorted(frozenset().union(*joined))
    chosen = _chosen(linked, Counter(people[people.map(len) > 1]), max(2, round(share * len(linked))), seed)
    split = pd.Series(pd.NA, index=table.index, dtype="string", name="split")
    alone = people.map(lambda who: who.isdisjoint(linked)).astype(bool)
    split[people.map(chosen.isdisjoint).astype(bool)] = "train"
    split[people.map(chosen.issuperset).astype(bool)] = "val"
    split[alone] = split_by_source(table[alone], {"train": 1 - share, "val": share}, seed)
    return split


def _chosen(linked: list[str], rows: Counter, count: int, seed: int) -> set[str]:
    """`count` people, none where that would leave fewer than two for training."""
    if len(linked) < count + 2:
        return set()
    drawn = {
        person: hashlib.blake2b(f"{seed}/{person}".encode(), digest_size=8).digest() for person in linked
    }
    chosen = {min(linked, key=drawn.__getitem__)}
    while len(chosen) < count:
        gained, lost = Counter(), Counter()
        for group, times in rows.items():
            missing = group - chosen
            (gained if len(missing) == 1 else lost).update(dict.fromkeys(missing, times))
        rest = (person for person in linked if person not in chosen)
        chosen.add(min(rest, key=lambda person: (-gained[person], lost[person], drawn[person])))
    return chosen
