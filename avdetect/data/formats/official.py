"""Publishers' own splits: what they lack is carved from train, what they share between sides is named."""

from __future__ import annotations

import pandas as pd

from avdetect.data.carving import carve_by_people
from avdetect.data.splits import split_by_source

VAL_SHARE = 0.15
SHARED = "shared_between_splits"


def carve_validation(table: pd.DataFrame, seed: int = 0, share: float = VAL_SHARE) -> tuple[pd.Series, str]:
    """Split of each row with a validation part carved from train by source and subject, and a sentence on it.

    Nothing changes (and the sentence is empty) where the publisher has a validation part or no train. Where
    fakes join everybody with everybody, people are chosen (`carve_by_people`), and rows that join them with
    others lose their split. `table`: columns split, source, subject, dataset, path and the labels.
    """
    split = table["split"].astype("string")
    train = table[split.eq("train").fillna(False).astype(bool)]
    if split.eq("val").any() or train.empty:
        return split, ""
    split, carved = split.copy(), split_by_source(train, {"train": 1 - share, "val": share}, seed)
    how = "by source"
    if not _both_classes(train, carved):
        carved, how = carve_by_people(_named(train), seed, share), "by people"
    if not _both_classes(train, carved):
        return split, "there is no val split, and no part with both classes can be carved without a leak"
    split.loc[train.index] = carved
    lost = int(carved.isna().sum())
    joined = f"; {lost} clips that join both sides have no split" if lost else ""
    return (
        split,
        f"the publisher has no val split: {share:.0%} of train is carved {how} (seed {seed}){joined}",
    )


def _both_classes(table: pd.DataFrame, split: pd.Series) -> bool:
    """Whether train and val each have every class that `table` has."""
    classes = table["label"].groupby(split).nunique()
    return all(classes.get(name, 0) == table["label"].nunique() for name in ("train", "val"))


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a subject of its own for every row that tells none."""
    rows = pd.Series([f"row {row}" for row in table.index], index=table.index, dtype="string")
    return table.assign(subject=table["subject"].astype("string").fillna(rows))


def confine_groups(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Rename sources and subjects that the publisher's own split has on several sides: `id0` -> `id0@test`.

    Such a split leaks, but it is the one that published numbers are about, so it is kept and not taken for
    clean. The groups stay whole within each side; the column `shared_between_splits` has the original names
    (`+`-joined) where any was renamed, and a sentence for each column with such groups tells how many.
    Returns a new table.
    """
    table, notes = table.copy(), []
    shared: list[dict[str, None]] = [{} for _ in range(len(table))]
    for column in ("source", "subject"):
        lists = table[column].astype("string").where(table["split"].notna())
        lists = lists.str.split("+" if column == "subject" else "\n", regex=False)  # a source is one name
        pairs = pd.DataFrame({"name": lists.explode(), "split": table["split"]}).dropna().drop_duplicates()
        crossing = set(pairs.loc[pairs.duplicated("name", keep=False), "name"])
        if not crossing:
            continue
        renamed = table[column].tolist()
        for row, (names, split) in enumerate(zip(lists, table["split"], strict=True)):
            if isinstance(names, list) and not crossing.isdisjoint(names):
                renamed[row] = "+".join(f"{name}@{split}" if name in crossing else name for name in names)
                shared[row] |= dict.fromkeys(name for name in names if name in crossing)
        table[column] = pd.Series(renamed, index=table.index, dtype="string")
        notes.append(
            f"the publisher's split has {len(crossing)} {column}s on more than one side "
            f"({', '.join(sorted(crossing)[:3])}, …): it is kept, see the column {SHARED}"
        )
    if notes:
        names = ["+".join(names) or pd.NA for names in shared]
        table[SHARED] = pd.Series(names, index=table.index, dtype="string")
    return table, notes
