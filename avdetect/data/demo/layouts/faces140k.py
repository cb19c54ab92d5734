"""Miniature of 140k Real and Fake Faces: three parts, two classes, and CSV files in which label 1 is real."""

from __future__ import annotations

import csv
from pathlib import Path

from avdetect.data.demo.miniature import Miniature

PARTS = {"train": (0, 1, 2, 3), "valid": (4, 5), "test": (6, 7)}
PICTURES = {"train": 12, "valid": 4, "test": 6}  # of each class
ORIGINS = {
    "real": "/kaggle/input/flickrfaceshq-dataset-nvidia-part-1/{}.png",
    "fake": "/kaggle/input/1-million-fake-faces/{}.jpg",
}


def make(root: Path, media: Miniature) -> None:
    """Write `real_vs_fake/real-vs-fake/PART/CLASS/*.jpg` and `PART.csv`."""
    number = 0
    for part, people in PARTS.items():
        rows = []
        for name, origin in ORIGINS.items():
            for k in range(PICTURES[part]):
                number += 1
                serial = f"{number * 2237 % 70_000:05d}"
                path = f"{part}/{name}/{serial}.jpg"
                media.image(
                    root / "real_vs_fake/real-vs-fake" / path, people[k % len(people)], name == "fake"
                )
                rows.append((len(rows), origin.format(serial), serial, int(name == "real"), name, path))
        with open(root / f"{part}.csv", "w", newline="", encoding="utf-8") as opened:
            table = csv.writer(opened, lineterminator="\n")
            table.writerow(("", "original_path", "id", "label", "label_str", "path"))
            table.writerows(rows)
