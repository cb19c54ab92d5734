"""WildDeepfake (Zi et al. 2020, arXiv:2101.01456): face sequences from the internet, kept as pictures.

    {real_train,real_test,fake_train,fake_test}/N.tar.gz    inside: N/{real,fake}/SEQUENCE/FRAME.png
    {real_train,real_test,fake_train,fake_test}/N/…          or the same unpacked

A sequence is one clip of the manifest: its path is the folder of its frames, or `real_train/1.tar.gz!/1/real/12`
inside an archive, which is read without being unpacked (`avdetect.media.frames`). An archive has to be read to
its end to know what is in it: indexing the packed set takes as long as reading it all once. The pictures are
face crops already: prepare them with the clip setting `pictures=face`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pandas as pd

from avdetect.data.formats.base import DatasetFormat, walk_error
from avdetect.data.manifest import Manifest, class_counts
from avdetect.data.splits import split_by_source
from avdetect.errors import DataError, MediaError
from avdetect.media.frames import archived_sequences, is_frame

DATASET = "WildDeepfake"
PART = re.compile(r"(real|fake)[_ ](train|test)", re.IGNORECASE)
ARCHIVE = re.compile(r"(.+)\.(tar\.gz|tgz|tar)", re.IGNORECASE)
TOP = "deepfake_in_the_wild"  # folder that the publisher's copy begins with
VAL_SHARE = 0.15
SEQUENCES = 7_314


def _parts(root: Path) -> list[tuple[str, str, str]]:
    """(folder relative to `root`, real|fake, train|test) of the four parts, as far as they are there."""
    found = []
    for top in ("", f"{TOP}/"):
        folder = root / top
        for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
            part = PART.fullmatch(name)
            if part and (folder / name).is_dir():
                found.append((f"{top}{name}", part[1].lower(), part[2].lower()))
    return found


def _sequences(folder: Path) -> Iterator[tuple[str, str]]:
    """(path relative to the part, shard) of every sequence in a part; an unpacked shard goes before its archive."""
    names = sorted(os.listdir(folder))
    unpacked = {name for name in names if (folder / name).is_dir()}
    for name in names:
        archive = ARCHIVE.fullmatch(name)
        if name in unpacked:
            for parent, folders, files in os.walk(folder / name, onerror=walk_error):
                folders.sort()
                if any(is_frame(file) for file in files):
                    yield Path(parent).relative_to(folder).as_posix(), name
        elif archive and archive[1] not in unpacked and not name.startswith("."):
            try:
                inside = archived_sequences(folder / name)
            except MediaError as error:
                raise DataError(str(error)) from error
            for path in sorted(inside):
                yield f"{name}!/{path}", archive[1]


def _rows(root: Path, place: str, kind: str, split: str) -> list[dict]:
    rows = []
    for path, shard in _sequences(root / place):
        told = {"real", "fake"} & {part.lower() for part in PurePosixPath(path).parts}
        if told and told != {kind}:
            raise DataError(
                f"{root / place}/{path}: a {'/'.join(told)} sequence in the part {place}: sort it out"
            )
        group = f"wilddeepfake_{kind}_{split}_{shard}"
        rows.append({
            "path": f"{place}/{path}", "label": int(kind == "fake"), "split": split,
            "source": group, "subject": group,
        })  # fmt: skip
    return rows


def read(root: Path, seed: int = 0) -> Manifest:
    """Every sequence; val is carved from train by shard."""
    parts = _parts(root)
    rows = [row for part in parts for row in _rows(root, *part)]
    if not rows:
        raise DataError(f"{root} holds no sequences of WildDeepfake: expected {FORMAT.accepts}")
    table = pd.DataFrame(rows).assign(kind="video", dataset=DATASET, audio_label=pd.NA)
    table["visual_label"] = table["label"]
    notes = []
    for split, part in table.groupby("split"):
        counts = class_counts(part["label"])
        notes.append(f"{split}: {counts['genuine']} genuine and {counts['fake']} fake sequences")
    if len(rows) != SEQUENCES:
        notes.append(f"{len(rows)} sequences, where the publisher has {SEQUENCES}")
    train = table["split"] == "train"
    carved = split_by_source(table[train], {"train": 1 - VAL_SHARE, "val": VAL_SHARE}, seed)
    table["split"] = carved.reindex(table.index).where(train, table["split"])
    notes.append(f"no official val: {VAL_SHARE:.0%} of train carved by shard (seed {seed})")
    notes.append(
        "nobody named the people: a shard counts as one person, the same face in two shards stays unnoticed"
    )
    return Manifest(table, root=root, name=DATASET, notes=notes)


FORMAT = DatasetFormat(
    name="wilddeepfake",
    accepts="{real_train,real_test,fake_train,fake_test}/ (or `real train` …) with N.tar.gz, or unpacked "
    "N/{real,fake}/SEQUENCE/*.png",
    detect=lambda root: bool(_parts(root)),
    read=read,
)
