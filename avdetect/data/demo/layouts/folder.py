"""Miniature of a plain tree: `Real` and `Fake`, a sub-folder for each person, videos, pictures and voices."""

from __future__ import annotations

from pathlib import Path

from avdetect.data.demo.miniature import SUBJECTS, Miniature


def make(root: Path, media: Miniature) -> None:
    """Write three files of each person and class; fake videos have a swapped face or another voice in turn."""
    for person in range(SUBJECTS):
        for name, fake in (("Real", False), ("Fake", True)):
            folder = root / name / f"person_{person}"
            kind = ("face_swap", "voice_resynthesis")[person % 2] if fake else "genuine"
            media.video(folder / "clip.mp4", person, kind, seconds=1.0, size=192)
            media.image(folder / "face.jpg", person, fake)
            media.speech(folder / "voice.wav", person, fake, seconds=1.0)
