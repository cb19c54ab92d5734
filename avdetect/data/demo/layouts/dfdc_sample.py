"""Miniature of the sample of DFDC on Kaggle: labelled training videos and test videos without labels."""

from __future__ import annotations

from pathlib import Path

from avdetect.data.demo.layouts.dfdc import name_of, write_train
from avdetect.data.demo.miniature import Miniature

ORIGINALS = 18  # 15 % of them must make a test split of three


def make(root: Path, media: Miniature) -> None:
    """Write `train_sample_videos/metadata.json` and `test_videos/`."""
    write_train(root / "train_sample_videos", media, tuple(range(8)), ORIGINALS, 1000)
    for number, kind in enumerate(("genuine", "face_swap")):
        media.video(root / "test_videos" / name_of(2000 + number), number, kind, seconds=1.0, size=224)
