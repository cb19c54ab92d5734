"""Miniature of Real and Fake Face Detection (CIPLAB), with the second copy that its archive holds."""

from __future__ import annotations

import shutil
from pathlib import Path

from avdetect.data.demo.miniature import SUBJECTS, Miniature

PICTURES = 24  # of each class
LEVELS = ("easy", "mid", "hard")
MASKS = ("1110", "0011", "1111", "0100", "1010")


def make(root: Path, media: Miniature) -> None:
    """Write `training_real` and `training_fake`, and both once more one level down."""
    base = root / "real_and_fake_face"
    for number in range(PICTURES):
        person = number % SUBJECTS
        media.image(base / "training_real" / f"real_{number + 1:05d}.jpg", person, False)
        name = f"{LEVELS[number % 3]}_{number + 1}_{MASKS[number % 5]}.jpg"
        media.image(base / "training_fake" / name, person, True)
    shutil.copytree(base, root / "real_and_fake_face_detection" / base.name)
