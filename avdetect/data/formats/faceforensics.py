"""FaceForensics++ (Rössler et al. 2019, arXiv:1901.08971) with FaceShifter, and Google's DeepFakeDetection (DFD).

    original_sequences/{youtube,actors}/{raw,c0,c23,c40}/videos/*.mp4
    manipulated_sequences/METHOD/{raw,c0,c23,c40}/videos/*.mp4      masks/videos/*.mp4 are no clips
    {,splits/}{train,val,test}.json    [["071", "054"], …]: of each pair both directions were made

METHOD: Deepfakes, Face2Face, FaceSwap, NeuralTextures, FaceShifter, DeepFakeDetection. A fake `004_982.mp4` is
the video 004 with the face (or expression) of 982. A DFD video is `24__SCENE.mp4` of the actor 24, its fake
`24_23__SCENE__CODE.mp4`. The name of a file tells no method: the same 140 names are in the test split of each.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from avdetect.data.formats.base import DatasetFormat
from avdetect.data.manifest import Manifest
from avdetect.data.splits import split_by_source
from avdetect.data.textfiles import read_json
from avdetect.errors import DataError

DATASET, DFD = "FaceForensics++", "DeepFakeDetection"
METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")
# (folder, method, dataset)
PLACES = (
    ("original_sequences/youtube", "", DATASET),
    *((f"manipulated_sequences/{method}", method, DATASET) for method in METHODS),
    ("original_sequences/actors", "", DFD),
    (f"manipulated_sequences/{DFD}", DFD, DFD),
)
COMPRESSIONS = ("raw", "c0", "c23", "c40")
PAIRS = {"train": 360, "val": 70, "test": 70}
SHARES = {"train": 0.72, "val": 0.14, "test": 0.14}  # the official ones, where no split file is there


def _video_folders(root: Path) -> list[tuple[str, str, str, str]]:
    """(folder of videos relative to `root`, method or empty, compression, dataset) of those on disk."""
    return [
        (f"{place}/{compression}/videos", method, compression, dataset)
        for place, method, dataset in PLACES
        for compression in COMPRESSIONS
        if (root / place / compression / "videos").is_dir()
    ]


def _official_pairs(root: Path) -> dict[str, list[tuple[str, str]]] | None:
    """Pairs by split, from `splits/` or the root; None where there is no split file."""
    found = {
        split: next(
            (f for f in (root / "splits" / f"{split}.json", root / f"{split}.json") if f.is_file()), None
        )
        for split in PAIRS
    }
    missing = [split for split, file in found.items() if file is None]
    if len(missing) == len(PAIRS):
        return None
    if missing:
        raise DataError(
            f"{root} has split files, but no {missing[0]}.json: put all three into {root / 'splits'}"
        )
    pairs = {split: _pairs(file) for split, file in found.items()}
    owner: dict[str, str] = {}
    for split, listed in pairs.items():
        for name in (name for pair in listed for name in pair):
            if owner.setdefault(name, split) != split:
                raise DataError(f"{found[split]}: video {name} is in {owner[name]}.json as well")
    return pairs


def _pairs(file: Path) -> list[tuple[str, str]]:
    listed = read_json(file, object)
    right = isinstance(listed, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) for name in pair)
        for pair in listed
    )
    if not right:
        raise DataError(f'{file}: expected a list of pairs of names, as [["071", "054"], …]')
    return [tuple(pair) for pair in listed]


def _expected(pairs: dict[str, list[tuple[str, str]]] | None, fake: bool) -> dict[str, str]:
    """Name without suffix -> split of every video that the split files tell of."""
    expected = {}
    for split, listed in (pairs or {}).items():
        for a, b in listed:
            expected.update(dict.fromkeys((f"{a}_{b}", f"{b}_{a}") if fake else (a, b), split))
    return expected


def _row(folder: str, stem: str, method: str, compression: str, dataset: str) -> dict:
    prefix = "dfd" if dataset == DFD else "ffpp"
    who, _, scene = stem.partition("__")
    people = who.split("_")
    if len(people) != (2 if method else 1) or bool(scene) != (dataset == DFD):
        kind = "24_23__SCENE__CODE" if dataset == DFD else "004_982"
        expected = kind if method else kind.replace("_23", "").replace("__CODE", "").replace("_982", "")
        raise DataError(f"{folder}/{stem}.mp4: expected a name like {expected}.mp4")
    # A DFD fake is named after the recording of its first actor, and has a code at its end.
    recording = f"{people[0]}__{scene.rpartition('__')[0] if method else scene}" if scene else people[0]
    return {
        "path": f"{folder}/{stem}.mp4", "label": int(bool(method)),
        "subject": "+".join(f"{prefix}_{person}" for person in dict.fromkeys(people)),
        "source": f"{prefix}_{recording}",
        "method": method or pd.NA, "quality": compression, "dataset": dataset,
    }  # fmt: skip


def read(root: Path, seed: int = 0) -> Manifest:
    """The videos of every method and compression of which there is a folder, as the split files list them."""
    folders = _video_folders(root)
    if not folders:
        raise DataError(f"{root} has no videos of FaceForensics++: expected {FORMAT.accepts}")
    pairs = _official_pairs(root)
    rows, unlisted = [], 0
    for folder, method, compression, dataset in folders:
        names = os.listdir(root / folder)
        there = {n[:-4] for n in names if n.lower().endswith(".mp4") and not n.startswith(".")}
        split = {} if dataset == DFD else _expected(pairs, fake=bool(method))
        for stem in sorted(there | set(split)):
            row = _row(folder, stem, method, compression, dataset)
            rows.append(row | {"split": "test" if dataset == DFD else split.get(stem, pd.NA)})
            unlisted += dataset != DFD and pairs is not None and stem not in split
    if not rows:
        raise DataError(f"{root}: the folders of FaceForensics++ are empty, and no split file lists videos")
    table = pd.DataFrame(rows).assign(kind="video", audio_label=pd.NA)
    table["visual_label"] = table["label"]
    notes = _notes(pairs, unlisted, folders)
    ours = table["dataset"] == DATASET
    if pairs is None and ours.any():
        table.loc[ours, "split"] = split_by_source(table[ours], SHARES, seed)
        notes.append(
            f"no split files (splits/train.json …): dealt by pairs of videos (seed {seed}), not official"
        )
    name = DATASET if ours.any() else DFD
    return Manifest(table, root=root, name=name, notes=notes)


def _notes(pairs: dict | None, unlisted: int, folders: list[tuple[str, str, str, str]]) -> list[str]:
    kinds = [f"{method or folder.split('/')[1]} {compression}" for folder, method, compression, _ in folders]
    notes = [f"found {', '.join(kinds)}"]
    if pairs is not None:
        counts = {split: len(listed) for split, listed in pairs.items()}
        notes.append(f"split files with {', '.join(f'{n} {split}' for split, n in counts.items())} pairs")
        if counts != PAIRS:
            notes.append(f"the publisher has {', '.join(f'{n} {split}' for split, n in PAIRS.items())} pairs")
    if unlisted:
        notes.append(f"{unlisted} videos are in no split file and have no split")
    if any(dataset == DFD for *_, dataset in folders):
        notes.append(
            "DFD has no official split, and its few actors are swapped with one another: all of it is test"
        )
    return notes


FORMAT = DatasetFormat(
    name="faceforensics",
    accepts="original_sequences/{youtube,actors} and manipulated_sequences/METHOD with {raw,c0,c23,c40}/videos/"
    "*.mp4, and splits/{train,val,test}.json (DFD and FaceShifter too)",
    detect=lambda root: bool(_video_folders(root)),
    read=read,
)
