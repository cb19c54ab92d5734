"""Miniature of LAV-DF: genuine clips and ones of which a part is manipulated."""

from __future__ import annotations

import json
from pathlib import Path

from avdetect.data.demo.miniature import Miniature

SPLITS = {"train": (0, 1, 2, 3), "dev": (4, 5), "test": (6, 7)}
KINDS = ("face_swap", "voice_resynthesis", "both")
CLIPS = {"train": 8, "dev": 3, "test": 4}  # genuine ones, and as many manipulated
SECONDS, FPS, RATE = 2.0, 25, 16_000


def make(root: Path, media: Miniature) -> None:
    """Write `train`, `dev`, `test`, `metadata.min.json` and the longer `metadata.json`."""
    entries = []
    for split, people in SPLITS.items():
        for number in range(CLIPS[split]):
            subject, kind = people[number % len(people)], KINDS[number % len(KINDS)]
            genuine, fake = f"{split}/{2 * number:06d}.mp4", f"{split}/{2 * number + 1:06d}.mp4"
            start = 0.4 + 0.08 * (number % 6)
            periods = [[round(start, 3), round(start + 0.6, 3)]]
            media.video(root / genuine, subject, seconds=SECONDS, size=192)
            media.video(root / fake, subject, kind, seconds=SECONDS, size=192, periods=periods)
            entries.append(_entry(genuine, split, None, "genuine", []))
            entries.append(_entry(fake, split, genuine, kind, periods))
    (root / "metadata.min.json").write_text(json.dumps(entries))
    longer = [{"file": entry["file"], "transcript": "drawn people say nothing", **entry} for entry in entries]
    (root / "metadata.json").write_text(json.dumps(longer))


def _entry(file: str, split: str, original: str | None, kind: str, periods: list[list[float]]) -> dict:
    return {
        "file": file, "n_fakes": len(periods), "fake_periods": periods, "duration": SECONDS,
        "original": original, "modify_video": kind in ("face_swap", "both"),
        "modify_audio": kind in ("voice_resynthesis", "both"), "split": split,
        "video_frames": int(SECONDS * FPS), "audio_channels": 1, "audio_frames": int(SECONDS * RATE),
    }  # fmt: skip
