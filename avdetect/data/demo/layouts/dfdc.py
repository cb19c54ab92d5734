"""Miniature of the training parts of DFDC: one of each split as ISPL published it."""

from __future__ import annotations

import json
from pathlib import Path

from avdetect.data.demo.miniature import Miniature

# part -> people, originals
PARTS = {0: ((0, 1, 2), 8), 35: ((3, 4), 3), 40: ((5, 6, 7), 4)}
KINDS = ("face_swap", "face_swap", "both", "voice_resynthesis")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def make(root: Path, media: Miniature) -> None:
    """Write `dfdc_train_part_{0,35,40}` with `metadata.json`; the `split` in it is always `train`."""
    first = 0
    for part, (people, originals) in PARTS.items():
        write_train(root / f"dfdc_train_part_{part}", media, people, originals, first)
        first += 2 * originals


def name_of(number: int) -> str:
    """A name of ten letters, as DFDC's; another for every number below a million."""
    letters = [LETTERS[number * 11 // 26**place % 26] for place in range(5)]
    return "".join(letters) + "qwxyz" + ".mp4"


def write_train(folder: Path, media: Miniature, people: tuple[int, ...], originals: int, first: int) -> None:
    """Write originals and a fake of each, with names from number `first` on, and their `metadata.json`."""
    entries: dict[str, dict] = {}
    for number in range(originals):
        subject, kind = people[number % len(people)], KINDS[number % len(KINDS)]
        genuine, fake = name_of(first + 2 * number), name_of(first + 2 * number + 1)
        media.video(folder / genuine, subject, seconds=1.0, size=224)
        media.video(folder / fake, subject, kind, seconds=1.0, size=224)
        # Some releases leave the key out for genuine clips, others have null.
        entries[genuine] = {"label": "REAL", "split": "train"} | ({"original": None} if number % 2 else {})
        entries[fake] = {"label": "FAKE", "split": "train", "original": genuine}
    (folder / "metadata.json").write_text(json.dumps(entries))
