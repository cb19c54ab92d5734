"""140k Real and Fake Faces (Kaggle): 70,000 photographs of FFHQ and 70,000 faces made by StyleGAN, 256 x 256.

    real_vs_fake/real-vs-fake/{train,valid,test}/{real,fake}/*.jpg
    {train,valid,test}.csv      `,original_path,id,label,label_str,path`; beside real_vs_fake/ or the pictures

**In the CSV files label 1 is real.** They are the index where they are; a part without one is listed from its
folders. Nobody is named: `subject` stays missing, each picture is its own `source`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from avdetect.data.formats.base import DatasetFormat
from avdetect.data.manifest import KIND_OF_SUFFIX, Manifest, class_counts
from avdetect.data.textfiles import read_table
from avdetect.errors import DataError

DATASET = "140k Real and Fake Faces"
COLUMNS = {"original_path", "id", "label", "label_str", "path"}
# folder and CSV name: (split, pictures of each class)
PARTS = {"train": ("train", 50_000), "valid": ("val", 10_000), "test": ("test", 10_000)}
CLASSES = {"real": 0, "fake": 1}
INNER, OUTER = "real-vs-fake", "real_vs_fake"


def _base(root: Path) -> Path | None:
    """Folder of train/, valid/ and test/: below one of the names that the archive gives it, or beside a CSV."""
    places = [root / OUTER / INNER, root / INNER, root / OUTER]
    places += [root] if root.name in (INNER, OUTER) or any(_csv(root, part) for part in PARTS) else []
    return next(
        (p for p in places if any((p / part / name).is_dir() for part in PARTS for name in CLASSES)), None
    )


def _csv(root: Path, part: str) -> Path | None:
    """CSV file of a part, known by its columns: other data sets have a train.csv as well."""
    for folder in (root, root / OUTER, root / OUTER / INNER, root / INNER):
        file = folder / f"{part}.csv"
        if file.is_file():
            with open(file, encoding="utf-8-sig", errors="replace") as opened:
                if set(opened.readline().strip().split(",")) >= COLUMNS:
                    return file
    return None


def _indexed(file: Path) -> pd.DataFrame:
    raw = read_table(file, dtype="string")
    wrong = raw[(raw["label"] + raw["label_str"]).isin(["1real", "0fake"]).eq(False).fillna(True)]
    if len(wrong):
        row = wrong.iloc[0]
        raise DataError(
            f"{file} line {wrong.index[0] + 2}: expected the label 1 with real or 0 with fake, found "
            f"{row['label']} with {row['label_str']}"
        )
    return pd.DataFrame({"path": raw["path"], "class": raw["label_str"], "original_id": raw["id"]})


def _listed(folder: Path) -> pd.DataFrame:
    rows = []
    for name in CLASSES:
        if (folder / name).is_dir():
            files = sorted(os.listdir(folder / name))
            rows += [
                {"path": f"{folder.name}/{name}/{file}", "class": name, "original_id": Path(file).stem}
                for file in files if KIND_OF_SUFFIX.get(Path(file).suffix.lower()) == "image"
            ]  # fmt: skip
    return pd.DataFrame(rows, columns=["path", "class", "original_id"])


def read(root: Path, seed: int = 0) -> Manifest:
    """All pictures in the publisher's split; `seed` is not used."""
    base = _base(root) or root
    prefix = "" if base == root else f"{base.relative_to(root).as_posix()}/"
    tables, notes = [], []
    for part, (split, count) in PARTS.items():
        file = _csv(root, part)
        table = _indexed(file) if file else _listed(base / part)
        if table.empty:
            notes.append(f"140k {part}: neither {part}.csv nor pictures, part left out")
            continue
        # The one place where the CSV files' polarity (1 = real) is turned: by the class that both tell.
        label = table["class"].map(CLASSES).astype("Int64")
        tables.append(pd.DataFrame({
            "path": prefix + table["path"], "kind": "image", "label": label, "visual_label": label,
            "split": split, "source": table["class"] + "/" + table["original_id"],
            "method": pd.Series("StyleGAN", index=table.index).where(label == 1), "dataset": DATASET,
        }))  # fmt: skip
        found = class_counts(label)
        if (found["genuine"], found["fake"]) != (count, count):
            notes.append(
                f"140k {part}: {found['genuine']} real and {found['fake']} fake pictures, where the publisher has "
                f"{count} of each"
            )
    if not tables:
        raise DataError(f"{root} is not the 140k set: expected {FORMAT.accepts}")
    return Manifest(pd.concat(tables, ignore_index=True), root=root, name=DATASET, notes=notes)


FORMAT = DatasetFormat(
    name="faces140k",
    accepts="real_vs_fake/real-vs-fake/{train,valid,test}/{real,fake}/*.jpg, or {train,valid,test}.csv with the "
    "columns original_path, id, label (1 = real), label_str and path, or both",
    detect=lambda root: (
        root.is_dir() and (_base(root) is not None or any(_csv(root, part) for part in PARTS))
    ),
    read=read,
)
