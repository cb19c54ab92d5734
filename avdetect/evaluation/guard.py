"""What a test set has in common with what a detector was trained and chosen on."""

from __future__ import annotations

import pandas as pd

_SHOWN = 3


def seen_in_training(tested: pd.DataFrame, trained: pd.DataFrame) -> list[str]:
    """One sentence each for clips, sources and subjects of `tested` that a detector has seen; empty = none.

    Both are manifest tables. Of `trained`, rows of train and val count: weights were fitted to the one, and
    epochs, calibration and thresholds chosen on the other. Sources and subjects are compared inside a dataset,
    as their names mean nothing outside it.
    """
    seen = trained[trained["split"].isin(["train", "val"])]
    warnings = []
    kinds = (("are", "clips", _keys), ("are of", "sources", _sources), ("show", "subjects", _subjects))
    for verb, what, names in kinds:
        of_rows, known = names(tested), set(names(seen))
        both = of_rows[of_rows.isin(known)]
        if len(both):
            shown = ", ".join(both.drop_duplicates().head(_SHOWN))
            warnings.append(
                f"{both.index.nunique()} of {len(tested)} clips {verb} {what} that the detector was trained or "
                f"chosen on, such as {shown}: their figures say nothing about new {what}"
            )
    return warnings


def _keys(table: pd.DataFrame) -> pd.Series:
    return (table["dataset"] + "/" + table["path"]).astype(object)


def _sources(table: pd.DataFrame) -> pd.Series:
    return (table["dataset"] + ": " + table["source"]).dropna().astype(object)


def _subjects(table: pd.DataFrame) -> pd.Series:
    """One entry per subject and row; the index is the row's."""
    names = table["subject"].str.split("+").explode().str.strip()
    names = names[names.notna() & (names != "")]
    return (table["dataset"].reindex(names.index).to_numpy(object) + ": " + names).astype(object)
