"""Miniature of the test set of DFDC: augmented videos, both forms of the labels."""

from __future__ import annotations

import json
from pathlib import Path

from avdetect.data.demo.layouts.dfdc import KINDS, name_of
from avdetect.data.demo.miniature import Miniature

CLIPS = 10
AUGMENTATIONS = ({}, {"augmenter": {"blur": {}}}, {"distractor": {"text": {}}, "augmenter": {"fps": {}}})


def make(root: Path, media: Miniature) -> None:
    """Write `test/` with `metadata.json` (`is_fake`) and `labels.csv` (`filename,label`)."""
    folder = root / "test"
    entries = {}
    for number in range(CLIPS):
        fake, name = number % 2, name_of(3000 + number)
        kind = KINDS[number // 2 % len(KINDS)] if fake else "genuine"
        media.video(folder / name, number // 2 % 8, kind, seconds=1.0, size=224)
        changes = AUGMENTATIONS[number // 2 % len(AUGMENTATIONS)]
        entries[name] = {"augmentations": changes, "is_fake": fake}
    (folder / "metadata.json").write_text(json.dumps(entries))
    lines = [f"{name},{entry['is_fake']}" for name, entry in entries.items()]
    (folder / "labels.csv").write_text("\n".join(["filename,label", *lines]) + "\n")
