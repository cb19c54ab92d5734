"""A plain tree of genuine and fake files: for data that no publisher laid out.

    real/…  fake/…                          the class folders, whatever lies below them
    train/real/…  val/fake/…                with a split level above,
    real/train/…  fake/test/…               or below

Class folders: `real`, `genuine`, `bonafide`, `original` and `fake`, `deepfake`, `spoof`; splits: `train`,
`val`, `test` (and `valid`, `validation`, `dev`, `eval`); capitals and `_ -` do not count. Videos, recordings and
pictures are told by their suffix, other files are left alone. The `source` is the sub-folder of a class folder
that a file is in, else the file's name without its suffix: what has the same name in both classes stays
together. Where splits are given, equal names in two of them are taken for different recordings, as numbers
often begin anew in each.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from avdetect.data.formats.base import DatasetFormat, folders_in, walk_error
from avdetect.data.formats.official import carve_validation
from avdetect.data.manifest import KIND_OF_SUFFIX, Manifest
from avdetect.data.splits import FRACTIONS, split_by_source
from avdetect.errors import DataError

LABELS = {
    **dict.fromkeys(("real", "genuine", "bonafide", "original"), 0),
    **dict.fromkeys(("fake", "deepfake", "spoof"), 1),
}
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


def _class_folders(root: Path) -> list[tuple[Path, int, str | None]]:
    """Folder, label and split (where given) of every class folder; a split level below is taken apart."""
    found = []
    for parent, split in [(root, None), *((f, SPLITS.get(_plain(f.name))) for f in folders_in(root))]:
        if parent != root and split is None:
            continue
        for folder in folders_in(parent):
            label = LABELS.get(_plain(folder.name))
            if label is None:
                continue
            below = [(f, SPLITS.get(_plain(f.name))) for f in folders_in(folder)] if split is None else []
            parts = [(f, label, inner) for f, inner in below if inner]
            # Files beside split folders would belong to no split: then the names are no splits.
            found += parts if parts and len(parts) == len(below) else [(folder, label, split)]
    return found


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, onerror=walk_error):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def read(root: Path, seed: int = 0) -> Manifest:
    """Every media file below the class folders; the split is drawn with `seed` where the tree has none."""
    rows, other = [], 0
    for folder, label, split in _class_folders(root):
        for file in _files(folder):
            if file.suffix.lower() not in KIND_OF_SUFFIX:
                other += 1
                continue
            inside = file.relative_to(folder)
            source = inside.parent.as_posix() if len(inside.parts) > 1 else file.stem
            rows.append({
                "path": file.relative_to(root).as_posix(), "label": label, "split": split,
                "source": f"{split}/{source}" if split else source,
            })  # fmt: skip
    if not rows:
        raise DataError(f"{root} holds no media files of known class: expected {FORMAT.accepts}")
    table = pd.DataFrame(rows).assign(subject=pd.NA, dataset=root.resolve().name)
    table = table.assign(visual_label=pd.NA, audio_label=pd.NA)
    suffixes = table["path"].str.extract(r"(\.[^./]+)$")[0].str.lower()
    kinds = suffixes.map(KIND_OF_SUFFIX)
    # A fake video does not tell whether its face or its voice is fake; a picture and a recording do.
    table["visual_label"] = table["label"].where(
        (kinds == "image") | (table["label"] == 0) & (kinds != "audio")
    )
    table["audio_label"] = table["label"].where(
        (kinds == "audio") | (table["label"] == 0) & (kinds == "video")
    )
    notes = [f"{other} files of other kinds are left alone"] if other else []
    if table["split"].isna().all():
        table["split"] = split_by_source(table, FRACTIONS, seed)
        shares = ", ".join(f"{share:.0%} {name}" for name, share in FRACTIONS.items())
        notes.append(f"the tree has no split: drawn by source ({shares}; seed {seed})")
    else:
        notes += _shared_folders(table)
        table["split"], carved = carve_validation(table, seed)
        notes += [carved] if carved else []
    return Manifest(table, root=root, name=root.resolve().name, notes=notes)


def _shared_folders(table: pd.DataFrame) -> list[str]:
    """A sentence about sub-folders of one name in several splits: of persons or recordings they would be leaks."""
    names = table["source"].str.partition("/")[2]
    names = names[names != [Path(path).stem for path in table["path"]]]
    splits = table["split"].groupby(names).nunique()
    shared = splits.index[splits > 1].tolist()
    if not shared:
        return []
    return [
        f"sub-folders of {len(shared)} names are in more than one split ({', '.join(shared[:3])}, …): if each is a "
        "person or a recording, the split leaks"
    ]


def _detect(root: Path) -> bool:
    return root.is_dir() and {label for _, label, _ in _class_folders(root)} == {0, 1}


FORMAT = DatasetFormat(
    name="folder",
    accepts="folders real (or genuine, bonafide, original) and fake (or deepfake, spoof) with media files, and "
    "train, val, test above or below them or not at all",
    detect=_detect,
    read=read,
)
