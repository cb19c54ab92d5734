"""Miniature of AV-Deepfake1M: four versions of a recording, people shared by train and val, blind test."""

from __future__ import annotations

import json
from pathlib import Path

from avdetect.data.demo.miniature import Miniature

# split -> people, and recordings of each; as in the publisher's split, those of val are in train too
SPLITS = {"train": ((0, 1, 2, 3, 4, 5), 2), "val": ((0, 1), 1), "test": ((6, 7), 1)}
# kind of Miniature.video, name of the file, modify_type (spelled in both ways that occur), audio model
VERSIONS = (
    ("genuine", "real", "real", None),
    ("face_swap", "fake_video_real_audio", "visual_modified", None),
    ("voice_resynthesis", "real_video_fake_audio", "audio_modified", "vits"),
    ("both", "fake_video_fake_audio", "both_modified", "yourtts"),
)
SECONDS, FPS, RATE = 1.6, 25, 16_000


def make(root: Path, media: Miniature) -> None:
    """Write the splits, `{train,val}_metadata.json`, the same per file, and `test_files.txt`."""
    for split, (people, recordings) in SPLITS.items():
        entries = []
        for subject in people:
            for recording in range(recordings):
                # Videos of one person differ between the splits, the person does not.
                folder = f"id{subject + 12:05d}/{split}_video_{recording}/00001"
                entries += [_clip(root, media, split, folder, subject, v) for v in VERSIONS]
        if split == "test":
            (root / "test_files.txt").write_text("".join(f"{entry['file']}\n" for entry in entries))
            continue
        if split == "val":
            entries[-1]["modify_type"] = "both-modified"
        (root / f"{split}_metadata.json").write_text(json.dumps(entries))
        for entry in entries:
            file = (root / f"{split}_metadata" / entry["file"]).with_suffix(".json")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(entry))


def _clip(root: Path, media: Miniature, split: str, folder: str, subject: int, version: tuple) -> dict:
    kind, name, modified, model = version
    file = f"{folder}/{name}.mp4"
    start = 0.2 + 0.1 * (subject % 4)
    periods = [[round(start, 2), round(start + 0.6, 2)]] if kind != "genuine" else []
    media.video(
        root / split / file, subject, kind, seconds=SECONDS, size=192, periods=periods if periods else None
    )
    return {
        "file": file, "original": f"{folder}/real.mp4" if periods else None, "split": split,
        "modify_type": modified, "audio_model": model, "fake_segments": periods,
        "audio_fake_segments": periods if modified in ("audio_modified", "both_modified") else [],
        # As in the published files: the periods of the voice stand here too, though the face is genuine.
        "visual_fake_segments": periods,
        "video_frames": int(SECONDS * FPS), "audio_frames": int(SECONDS * RATE),
    }  # fmt: skip
