"""DFDC preview: dataset.json over two methods and the original videos."""

from __future__ import annotations

import json
from pathlib import Path

from avdetect.data.demo.miniature import Miniature

PEOPLE = ("1085144", "643049", "1224068", "1368666", "2083681", "1738955", "1945386", "2160417")
TAKES = ("A", "B")  # two recordings of each person


def make(root: Path, media: Miniature) -> None:
    """Thirty-two videos with sound, half a MB: in pairs of people, the last pair for the test."""
    entries: dict[str, dict] = {}

    def add(name: str, person: int, kind: str, **told: str) -> None:
        media.video(root / name, person, kind, seconds=0.8, size=192)
        entries[name] = {
            "label": "real" if kind == "genuine" else "fake",
            "set": "test" if person >= 6 else "train",
            "augmentations": ["fps15"] if len(entries) % 7 == 3 else [],
            **told,
        }

    for person, target in enumerate(PEOPLE):
        swapped = PEOPLE[person ^ 1]
        for take in TAKES:
            original = f"original_videos/{target}/{target}_{take}_000.mp4"
            add(original, person, "genuine", target_id=target, swapped_id="")
            method = f"method_{take}"
            fake = f"{method}/{target}/{target}_{take}/{swapped}_{target}_{take}_001.mp4"
            add(fake, person, "face_swap", target_id=target, swapped_id=swapped)
    (root / "dataset.json").write_text(json.dumps(entries))
