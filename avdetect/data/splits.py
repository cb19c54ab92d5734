"""Train, validation and test without leaks.

Clips that share a `source` or a `subject`, directly or through others, stay on one side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from avdetect.errors import ConfigError, DataError

FRACTIONS = {"train": 0.7, "val": 0.15, "test": 0.15}


def published_dfdc_split(part: int) -> str:
    """Split of a DFDC training part as ISPL published it (Bonettini et al. 2020): 0-34, 35-39, 40-49."""
    if not 0 <= part <= 49:
        raise DataError(
            f"DFDC has training parts 0 to 49, found part {part}: give the split in a manifest instead"
        )
    return "train" if part <= 34 else "val" if part <= 39 else "test"


def connected_groups(table: pd.DataFrame) -> np.ndarray:
    """(N,) group number of each row: rows joined by any common source or subject are one group.

    A row that names neither is a group of its own. `table` has the columns `source` and `subject`.
    """
    parent: list[int] = list(range(len(table)))

    def find(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    owner: dict[tuple[str, str], int] = {}
    for row, (source, subject) in enumerate(zip(table["source"], table["subject"], strict=True)):
        names = [] if pd.isna(source) else [("source", source)]
        names += [] if pd.isna(subject) else [("subject", s.strip()) for s in subject.split("+") if s.strip()]
        for name in names:
            first, second = find(owner.setdefault(name, row)), find(row)
            parent[max(first, second)] = min(first, second)
    roots = np.array([find(row) for row in range(len(table))], dtype=np.int64)
    return np.unique(roots, return_inverse=True)[1] if len(roots) else roots


def split_by_source(
    table: pd.DataFrame, fractions: Mapping[str, float] = FRACTIONS, seed: int = 0
) -> pd.Series:
    """Split of each row, whole groups (`connected_groups`) to one side.

    They are dealt so that every split comes near its fraction of each dataset, class and modality label.

    Groups go largest first, then in an order set by `seed`, to the split that lacks their kind of rows most.
    The result depends on the rows, not on their order in the table (with equal keys excluded by the
    manifest's check).
    """
    names, shares = list(fractions), np.array(list(fractions.values()), dtype=float)
    if not names or (shares <= 0).any() or not np.isclose(shares.sum(), 1.0):
        raise ConfigError(f"split fractions must be positive and sum to 1, not {dict(fractions)}")
    if table.empty:
        return pd.Series([], index=table.index, dtype="string", name="split")
    groups = connected_groups(table)
    kinds = (
        table[["dataset", "label", "visual_label", "audio_label"]]
        .astype("string")
        .fillna("?")
        .agg("|".join, axis=1)
    )
    columns = pd.factorize(kinds, sort=True)[0]
    counts = np.zeros((groups.max() + 1, columns.max() + 1))
    np.add.at(counts, (groups, columns), 1)
    total = counts.sum(axis=0)

    keys = (table["dataset"].astype("string") + "/" + table["path"].astype("string")).fillna("")
    first_key = keys.groupby(groups).min()
    drawn = [hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=8).digest() for key in first_key]
    order = sorted(range(len(counts)), key=lambda g: (-counts[g].sum(), drawn[g]))

    lacking = shares[:, None] * total  # (splits, kinds) rows still wanted
    chosen = np.empty(len(counts), dtype=np.int64)
    for group in order:
        # Each kind counts relative to its own size and share, so that rare kinds and small splits are served.
        want = (counts[group] * lacking / (shares[:, None] * total)).sum(axis=1)
        chosen[group] = int(np.argmax(want))
        lacking[chosen[group]] -= counts[group]
    return pd.Series(
        np.array(names, dtype=object)[chosen[groups]], index=table.index, dtype="string", name="split"
    )


def dfdc_split(table: pd.DataFrame, part: pd.Series, seed: int = 0) -> tuple[pd.Series, str]:
    """Split of DFDC training rows, and one sentence on how it was made.

    `part`: number of the training part of each row (missing outside the parts). The published split is used
    where train (0-34) and val (35-39) or test (40-49) are there with both classes each; a range that is not
    there is then carved from train by source. Otherwise all rows are split by source.
    """
    if part.notna().all() and len(table):
        published = part.map(published_dfdc_split).astype("string")
        classes = table["label"].groupby(published).nunique()
        full = [name for name in FRACTIONS if classes.get(name, 0) == 2]
        if "train" in full and len(full) > 1:
            return _completed(table, published, full, seed)
    text = ", ".join(f"{share:.0%} {name}" for name, share in FRACTIONS.items())
    return split_by_source(table, FRACTIONS, seed), (
        f"split by source ({text}; seed {seed}): the published split by part needs parts with both classes "
        "from 0-34 and from 35-39 or 40-49"
    )


def _completed(
    table: pd.DataFrame, published: pd.Series, full: list[str], seed: int
) -> tuple[pd.Series, str]:
    note = "published split by part: train 0-34, val 35-39, test 40-49"
    absent = [name for name in FRACTIONS if not (published == name).any()]
    if absent:
        train = table[published == "train"]
        shares = {"train": 1 - sum(FRACTIONS[name] for name in absent), **{n: FRACTIONS[n] for n in absent}}
        published.loc[train.index] = split_by_source(train, shares, seed)
        note += f"; no part of {' or '.join(absent)} is there, taken from train by source (seed {seed})"
    return published, note
