"""Miniature of AI-Face: faces of six groups of gender and skin tone, with the CSV files of both schemas."""

from __future__ import annotations

import csv
from pathlib import Path

from avdetect.data.demo.miniature import Miniature

SPLITS = {"train": (0, 1, 2, 3), "val": (4, 5), "test": (6, 7)}
ROUNDS = {"train": 3, "val": 1, "test": 2}  # images of each class in each of the six groups
TOP = "AI_Face_imagesV2"
HEADER = (
    "Image Path", "Predicted Gender", "Predicted Age", "Skin Tone", "Target", "Skin Tone Group", "Intersection",
)  # fmt: skip
AGES = (0, 1, 3, 4, 5)
SPECIFIC = {"Real": 0, "GANs": 2, "DMs": 3}


def make(root: Path, media: Miniature) -> None:
    """Write the images, a CSV for each split, and the two files of pairs that repeat the rows of train."""
    number = 0
    for split, people in SPLITS.items():
        rows = []
        for _ in range(ROUNDS[split]):
            for group in range(6):
                for fake in (False, True):
                    person = people[number % len(people)]
                    name = _name(number, person, fake)
                    media.image(root / name, person, fake, size=160)
                    tone = group % 3
                    slash = "/" if number % 5 == 4 else ""  # some rows of the publisher's begin with one
                    rows.append((
                        slash + name, group // 3, AGES[number % 5], 2 + 3 * tone, int(fake), tone, group,
                    ))  # fmt: skip
                    number += 1
        _write(root / f"{split}.csv", HEADER, rows)
        if split == "train":
            told = [(*row, SPECIFIC[row[0].lstrip("/").split("/")[1]]) for row in rows]
            _write(root / "train_fake_spe.csv", (*HEADER, "Specific"), [row for row in told if row[4]])
            _write(root / "train_real.csv", (*HEADER, "Specific"), [row for row in told if not row[4]])


def _name(number: int, person: int, fake: bool) -> str:
    if not fake:
        return f"{TOP}/Real/FFHQ/{number:05d}.jpg"
    # DCFace draws many images of one invented person into a folder; GAN images lie side by side.
    return (
        f"{TOP}/DMs/DCFACe/{7856 + person}/{number}.jpg"
        if number % 4 == 1
        else f"{TOP}/GANs/StyleGAN2/{number}.jpg"
    )


def _write(file: Path, header: tuple[str, ...], rows: list[tuple]) -> None:
    with open(file, "w", newline="", encoding="utf-8") as opened:
        csv.writer(opened, lineterminator="\n").writerows([header, *rows])
