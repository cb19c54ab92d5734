"""The clips that the report is made from: one split of a manifest, read as the bundle wants."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from avdetect.data import Manifest, read_format
from avdetect.data.guard import check_split
from avdetect.data.manifest import COLUMNS, SPLITS
from avdetect.data.prepare import PreparedSet, prepare
from avdetect.errors import ConfigError, DataError
from avdetect.media import ClipSettings

SUBJECTS = 5  # fewer speakers than this are no sample of speakers: their recordings are the groups then


@dataclass
class Material:
    """table: one row a clip with the manifest's columns and `key`, `file` (the prepared clip), `tracks`, `mouths`,
    `has_audio`, `group` (what is drawn together) and `learnt` (whether its dataset has a train split).

    failed: rows that could not be read, with `reason`.
    """

    split: str
    table: pd.DataFrame
    failed: pd.DataFrame

    def manifest(self) -> Manifest:
        """The judged clips as a manifest."""
        return Manifest(self.table[[name for name in self.table if name in COLUMNS]], name=self.split)


def read_material(
    root: str | Path,
    where: str | None,
    split: str,
    face_crops: Sequence[str],
    clip: ClipSettings,
    prepared: Sequence[str | Path],
    folder: Path,
    workers: int,
    say: Callable[[str], None],
) -> Material:
    """Read the clips of `split`, from the folders `prepared` where these were made with the same settings.

    face_crops: datasets whose pictures are face crops already; other pictures are searched for faces, as a user's
    are. folder: where clips that no prepared folder holds are prepared. Raises DataError where the split is `test`
    and not open (`avdetect.data.guard`), or nothing is left; ConfigError for an unknown split.
    """
    if split not in SPLITS:
        raise ConfigError(f"unknown split {split!r}: choose of {', '.join(SPLITS)}")
    check_split([split])
    # The whole manifest may hold leaks that concern none of these clips (a reader heard in train and in test).
    whole = read_format("auto", Path(root), check=False)
    learnt = set(whole.table.loc[whole.table["split"] == "train", "dataset"])
    manifest = whole.where(f"split == {split!r}")
    manifest = (manifest.where(where) if where else manifest).check()
    if not len(manifest) or not len(manifest := manifest.existing(say)):
        raise DataError(f"{root} has no clip in the split {split}: choose another split or data.where")
    crops = manifest.table["dataset"].isin(list(face_crops))
    pictures = manifest.table["kind"] == "image"
    parts = {"face": pictures & crops, "search": pictures & ~crops, "media": ~pictures}
    tables = []
    for name, rows in parts.items():
        if rows.any():
            settings = replace(clip, pictures="search" if name == "search" else "face")
            part = Manifest(manifest.table[rows], name=name)
            tables += _read_part(part, settings, prepared, folder / name, workers, say)
    table = pd.concat(tables, ignore_index=True)
    table["learnt"] = table["dataset"].isin(learnt)
    table["group"] = groups_of(table)
    ready = table["status"] == "ok"
    return Material(split, table[ready].reset_index(drop=True), table[~ready].reset_index(drop=True))


def groups_of(table: pd.DataFrame) -> pd.Series:
    """What is drawn together: speakers where a dataset names `SUBJECTS` or more, else recordings, else clips."""
    groups = (table["dataset"] + ":" + table["source"]).fillna("clip:" + table["key"])
    several = table.groupby("dataset")["subject"].transform("nunique") >= SUBJECTS
    return groups.where(~(several & table["subject"].notna()), table["dataset"] + ":" + table["subject"])


def _read_part(
    manifest: Manifest,
    settings: ClipSettings,
    prepared: Sequence[str | Path],
    folder: Path,
    workers: int,
    say: Callable[[str], None],
) -> list[pd.DataFrame]:
    """Tables of prepared clips, with `file` as a whole path; what no folder holds is prepared."""
    tables, left = [], manifest
    for one in prepared:
        opened = PreparedSet.open(one, left)
        if not _alike(opened.settings, settings, left):
            say(
                f"{one} was prepared with other settings than are wanted here: {len(left)} clips are read anew"
            )
            continue
        fresh = [row["status"] == "ok" and _unchanged(row) for _, row in opened.table.iterrows()]
        tables.append(_with_files(opened.table[fresh], opened))
        left = Manifest(left.table[[not done for done in fresh]], name=left.name)
        if not len(left):
            return tables
    say(f"preparing {len(left)} clips in {folder}")
    opened = prepare(left, folder, settings, workers)
    return [*tables, _with_files(opened.table, opened)]


def _alike(theirs: ClipSettings, ours: ClipSettings, manifest: Manifest) -> bool:
    old, new = theirs.to_dict(), ours.to_dict()
    if manifest.table["kind"].ne("image").all():
        old.pop("pictures"), new.pop("pictures")
    return old == new


def _unchanged(row: pd.Series) -> bool:
    """Whether the file is the one that was prepared."""
    stat = os.stat(os.path.join(row["root"], row["path"]))
    return (stat.st_size, stat.st_mtime_ns) == (row["size_bytes"], row["mtime_ns"])


def _with_files(table: pd.DataFrame, prepared: PreparedSet) -> pd.DataFrame:
    return table.assign(
        file=[str(prepared.folder / name) if pd.notna(name) else pd.NA for name in table["file"]]
    )
