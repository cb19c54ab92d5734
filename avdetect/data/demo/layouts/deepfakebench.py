"""Miniature of DeepfakeBench: FaceForensics++ as folders of frames, UADFV in an lmdb database."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from avdetect.data.demo.miniature import Miniature

# pairs of FaceForensics++ videos of each split, by the numbers of their people among the drawn ones
PAIRS = {"train": ((0, 1), (2, 3), (1, 2)), "val": ((4, 5),), "test": ((6, 7), (7, 6))}
METHODS = {"FF-DF": "Deepfakes", "FF-NT": "NeuralTextures"}
FRAMES, STEP, SIZE = 4, 9, 128  # pictures of a video, and how many frames of it lie between two
UADFV = 3  # videos of each class


def make(root: Path, media: Miniature) -> None:
    """Write `dataset_json/*.json`, `rgb/FaceForensics++` and `lmdb/UADFV_lmdb`."""
    lists = root / "dataset_json"
    lists.mkdir()
    _faceforensics(root / "rgb", lists, media)
    _uadfv(root, lists, media)


def _frames(folder: Path, media: Miniature, person: int, fake: bool) -> list[str]:
    """Draw the frames of a video and return their names; they are numbered as frames of a longer video."""
    media.images(folder, person, fake, FRAMES, size=SIZE)
    for number in reversed(range(FRAMES)):
        (folder / f"{number:03d}.png").rename(folder / f"{number * STEP:03d}.png")
    return [f"{number * STEP:03d}.png" for number in range(FRAMES)]


def _faceforensics(root: Path, lists: Path, media: Miniature) -> None:
    real = {split: {"c23": {}} for split in PAIRS}
    fakes = {label: {split: {"c23": {}} for split in PAIRS} for label in METHODS}
    serial = 0
    for split, pairs in PAIRS.items():
        for people in pairs:
            names = (f"{serial:03d}", f"{serial + 1:03d}")
            serial += 2
            for k, person in enumerate(people):
                folder = f"FaceForensics++/original_sequences/youtube/c23/frames/{names[k]}"
                frames = _listed(folder, _frames(root / folder, media, person, False))
                real[split]["c23"][names[k]] = {"label": "FF-real", "frames": frames}
                label = list(METHODS)[k]
                name = f"{names[k]}_{names[1 - k]}"
                folder = f"FaceForensics++/manipulated_sequences/{METHODS[label]}/c23/frames/{name}"
                frames = _listed(folder, _frames(root / folder, media, person, True))
                fakes[label][split]["c23"][name] = {"label": label, "frames": frames, "masks": []}
    (lists / "FaceForensics++.json").write_text(json.dumps({"FaceForensics++": {"FF-real": real, **fakes}}))
    for label, splits in fakes.items():  # a list for each method repeats its part of the whole
        (lists / f"{label}.json").write_text(json.dumps({label: {"FF-real": real, label: splits}}))


def _uadfv(root: Path, lists: Path, media: Miniature) -> None:
    """A list that names every video in all three splits, and a database with the frames."""
    import lmdb

    unpacked, labels, pictures = root / "unpacked", {}, {}
    for label, part in (("UADFV_Real", "real"), ("UADFV_Fake", "fake")):
        videos = {}
        for number in range(UADFV):
            name = f"{number:04d}" + ("_fake" if part == "fake" else "")
            folder = unpacked / name
            files = _frames(folder, media, number, part == "fake")
            keys = _listed(f"UADFV/{part}/frames/{name}", files)
            videos[name] = {"label": label, "frames": keys}
            pictures |= {key: (folder / file).read_bytes() for key, file in zip(keys, files, strict=True)}
        labels[label] = dict.fromkeys(("train", "test", "val"), videos)
    (lists / "UADFV.json").write_text(json.dumps({"UADFV": labels}))
    shutil.rmtree(unpacked)
    database = root / "lmdb" / "UADFV_lmdb"
    database.mkdir(parents=True)
    with (
        lmdb.open(str(database), map_size=2**26, lock=False) as environment,
        environment.begin(write=True) as lot,
    ):
        for key, content in sorted(pictures.items()):
            lot.put(key.encode(), content)


def _listed(folder: str, names: list[str]) -> list[str]:
    """Names of frames as the publisher's lists have them, with the separators of Windows."""
    return [f"{folder}/{name}".replace("/", "\\") for name in names]
