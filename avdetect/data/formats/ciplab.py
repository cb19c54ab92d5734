"""Real and Fake Face Detection (CIPLAB, Yonsei University; Kaggle): photographs and expert composites of faces.

    real_and_fake_face/training_real/real_00001.jpg
    real_and_fake_face/training_fake/easy_1_1110.jpg

The name of a fake tells how hard it is to see (`easy`, `mid`, `hard`; column `difficulty`), a number, and in
four digits whether the left eye, the right eye, the nose and the mouth were replaced (columns `left_eye`,
`right_eye`, `nose`, `mouth`). The archive holds a second copy below `real_and_fake_face_detection/`: files of
the same name and content are listed once. There is no official split: 80 % train, 10 % val and 10 % test are
drawn. Nobody is named, and the name does not tell from which photographs a composite was made.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pandas as pd

from avdetect.data.formats.base import DatasetFormat
from avdetect.data.manifest import KIND_OF_SUFFIX, Manifest, class_counts
from avdetect.data.splits import split_by_source
from avdetect.errors import DataError
from avdetect.media.files import file_sha256

DATASET = "Real and Fake Face Detection"
CLASSES = {"training_real": 0, "training_fake": 1}
PUBLISHED = (1_081, 960)  # real, fake
FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}
FAKE = re.compile(r"(?P<difficulty>easy|mid|hard)_\d+_(?P<mask>[01]{4})", re.IGNORECASE)
PARTS = ("left_eye", "right_eye", "nose", "mouth")


def _bases(root: Path) -> list[Path]:
    """Folders with training_real and training_fake: the root and two levels below, the nearest first."""
    levels = [root, *sorted(root.glob("*/")), *sorted(root.glob("*/*/"))]
    return [folder for folder in levels if all((folder / name).is_dir() for name in CLASSES)]


def _pictures(base: Path, root: Path) -> list[dict]:
    rows = []
    for folder, label in CLASSES.items():
        with os.scandir(base / folder) as entries:
            files = sorted(
                e.name for e in entries if KIND_OF_SUFFIX.get(Path(e.name).suffix.lower()) == "image"
            )
        for name in files:
            row = {"path": (base / folder / name).relative_to(root).as_posix(), "label": label, "name": name}
            found = FAKE.fullmatch(Path(name).stem) if label else None
            if found:
                row["difficulty"] = found["difficulty"].lower()
                row |= dict(zip(PARTS, map(int, found["mask"]), strict=True))
            rows.append(row)
    return rows


def _once(rows: list[dict], root: Path) -> tuple[list[dict], int]:
    """Rows without those whose name and content came before, and how many those are."""
    first: dict[tuple[int, str], list[Path]] = {}
    kept = []
    for row in rows:
        file = root / row["path"]
        before = first.setdefault((row["label"], row["name"]), [])
        if not any(_same(file, other) for other in before):
            before.append(file)
            kept.append(row)
    return kept, len(rows) - len(kept)


def _same(file: Path, other: Path) -> bool:
    if file.resolve() == other.resolve():
        return True
    return file.stat().st_size == other.stat().st_size and file_sha256(file) == file_sha256(other)


def read(root: Path, seed: int = 0) -> Manifest:
    """All pictures, each once; the split is drawn with `seed`."""
    rows, copies = _once([row for base in _bases(root) for row in _pictures(base, root)], root)
    if not rows:
        raise DataError(f"{root} is not the CIPLAB set: expected {FORMAT.accepts}")
    table = pd.DataFrame(rows, columns=["path", "label", "name", "difficulty", *PARTS])
    table = table.astype({"difficulty": "string", **dict.fromkeys((*PARTS, "label"), "Int64")})
    table = table.assign(
        kind="image", visual_label=table["label"], audio_label=pd.NA, dataset=DATASET, subject=pd.NA,
        source=table["name"].map(lambda name: Path(name).stem),
        method=pd.Series("composite", index=table.index).where(table["label"] == 1),
    ).drop(columns="name")  # fmt: skip
    table["split"] = split_by_source(table, FRACTIONS, seed)
    shares = ", ".join(f"{share:.0%} {name}" for name, share in FRACTIONS.items())
    notes = [f"there is no official split: drawn by picture ({shares}; seed {seed})"]
    if copies:
        notes.append(f"{copies} pictures are there twice (a second copy inside the archive), listed once")
    unnamed = table[(table["label"] == 1) & table["difficulty"].isna()]
    if len(unnamed):
        notes.append(
            f"the names of {len(unnamed)} fakes tell no difficulty and parts, as {unnamed['path'].iloc[0]}"
        )
    counts = class_counts(table["label"])
    if (counts["genuine"], counts["fake"]) != PUBLISHED:
        notes.append(
            f"{counts['genuine']} real and {counts['fake']} fake pictures, where the publisher has "
            f"{PUBLISHED[0]} and {PUBLISHED[1]}"
        )
    return Manifest(table, root=root, name=DATASET, notes=notes)


FORMAT = DatasetFormat(
    name="ciplab",
    accepts="real_and_fake_face/{training_real,training_fake}/*.jpg, also inside real_and_fake_face_detection/",
    detect=lambda root: root.is_dir() and bool(_bases(root)),
    read=read,
)
