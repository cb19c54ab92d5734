"""DeepfakeBench (Yan et al. 2023): its JSON lists of videos, with the frames in folders or in lmdb databases.

    [dataset_json/|preprocessing/dataset_json/]UADFV.json
    {"UADFV": {"UADFV_Real": {"train": {"0000": {"label": "UADFV_Real", "frames": ["UADFV\\real\\frames\\0000\\000.png",
    …]}, …}, "val": {…}, "test": {…}}, "UADFV_Fake": {…}}}

The FaceForensics++ family has a level more, the compression (`c23`), between split and video. Frames lie in
`[datasets/][rgb/]UADFV/real/frames/0000/000.png` or in `[datasets/][lmdb/]UADFV_lmdb/data.mdb` under the name in
the list. A video is its folder of frames (`avdetect.media.frames`), so its key tells method, compression and
name apart. Whatever stands before the data set's folder in a frame's name is dropped.

The lists put many videos into several splits: Celeb-DF's test videos are in train and val as well, those of
UADFV and DFD in all three. Here a video listed for test is a test video and nothing else, one listed for train
and val a training video, and val is carved from train where that leaves none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from avdetect.data.formats.base import DatasetFormat
from avdetect.data.formats.official import carve_validation, confine_groups
from avdetect.data.manifest import Manifest
from avdetect.data.textfiles import read_json
from avdetect.errors import DataError

FFPP, DFD = "FaceForensics++", "DeepFakeDetection"
# label of the lists: (data set, fake, method as its publisher names it)
LABELS: dict[str, tuple[str, int, str | None]] = {
    "FF-real": (FFPP, 0, None),
    "FF-DF": (FFPP, 1, "Deepfakes"),
    "FF-F2F": (FFPP, 1, "Face2Face"),
    "FF-FS": (FFPP, 1, "FaceSwap"),
    "FF-NT": (FFPP, 1, "NeuralTextures"),
    "FF-FH": (FFPP, 1, "FaceShifter"),
    "DFD_real": (DFD, 0, None),
    "DFD_fake": (DFD, 1, "DeepFakeDetection"),
    "CelebDFv1_real": ("Celeb-DF-v1", 0, None),
    "CelebDFv1_fake": ("Celeb-DF-v1", 1, "Celeb-synthesis"),
    "CelebDFv2_real": ("Celeb-DF-v2", 0, None),
    "CelebDFv2_fake": ("Celeb-DF-v2", 1, "Celeb-synthesis"),
    "DFDCP_Real": ("DFDCP", 0, None),
    "DFDCP_FakeA": ("DFDCP", 1, "method_A"),
    "DFDCP_FakeB": ("DFDCP", 1, "method_B"),
    "DFDC_Real": ("DFDC", 0, None),
    "DFDC_Fake": ("DFDC", 1, None),
    "DF_real": ("DeeperForensics-1.0", 0, None),
    "DF_fake": ("DeeperForensics-1.0", 1, "DF-VAE"),
    "UADFV_Real": ("UADFV", 0, None),
    "UADFV_Fake": ("UADFV", 1, "FakeApp"),
}
SPLITS = ("train", "val", "test")
FOLDERS = (".", "dataset_json", "preprocessing/dataset_json")
RGB = (".", "rgb", "datasets", "datasets/rgb")
LMDB = (".", "lmdb", "datasets", "datasets/lmdb")
HEAD = re.compile(r'\s*\{\s*"[^"]+"\s*:\s*\{\s*"([^"]+)"\s*:\s*\{\s*"(?:train|val|test)"\s*:\s*\{')
TOPS = {name for name, _, _ in LABELS.values()}
# what subjects and sources begin with where the data set has a reader of its own, so that a copy in this layout
# is known for the same recordings when manifests are joined
TAGS = {FFPP: "ffpp", DFD: "dfd", "Celeb-DF-v1": "celebdf", "Celeb-DF-v2": "celebdf"}
# name of a video in each data set: the people in it, and for fakes what ties it to the genuine recording
NAMES = {
    FFPP: re.compile(r"(?P<a>\d{3})(?:_(?P<b>\d{3}))?"),
    DFD: re.compile(r"(?P<a>\d\d)(?:_(?P<b>\d\d))?__(?P<scene>[a-z_]+?)(?:__[A-Z0-9]+)?"),
    "Celeb-DF-v1": re.compile(r"(?P<a>id\d+)(?:_(?P<b>id\d+))?_(?P<scene>\d+)"),
    "Celeb-DF-v2": re.compile(r"(?P<a>id\d+)(?:_(?P<b>id\d+))?_(?P<scene>\d+)"),
    "DFDCP": re.compile(r"(?:(?P<b>\d+)_)?(?P<a>\d+)_(?P<scene>[A-Z]+_?\d*)"),
}


def _files(root: Path) -> list[Path]:
    """JSON lists of DeepfakeBench, told by how they begin."""
    files = [file for folder in FOLDERS for file in sorted((root / folder).glob("*.json"))]
    return [file for file in files if _is_list(file)]


def _is_list(file: Path) -> bool:
    with open(file, encoding="utf-8-sig", errors="replace") as opened:
        return HEAD.match(opened.read(4096)) is not None


def _videos(file: Path) -> Iterator[tuple[str, str, str | None, str, dict]]:
    """(label, split, compression, name, entry) of every video; what is no video is left out.

    (DFDC.json has `label` and `frames` of one video where the videos of val should be.)
    """
    for labels in read_json(file, dict).values():
        for label, splits in _level(labels, file).items():
            if label not in LABELS:
                raise DataError(
                    f"{file}: the label {label!r} is none of {', '.join(LABELS)}, so nothing tells whether it is "
                    "real or fake: rename it"
                )
            for split in SPLITS:
                for name, entry in _level(_level(splits, file).get(split, {}), file).items():
                    if not isinstance(entry, dict):
                        continue
                    if "frames" in entry:
                        yield label, split, None, name, entry
                        continue
                    for inner, video in entry.items():
                        yield label, split, name, inner, video


def _level(entries: object, file: Path) -> dict:
    if not isinstance(entries, dict):
        raise DataError(f"{file}: expected labels, splits and videos as objects, found {str(entries)[:40]!r}")
    return entries


def _frame_folder(frames: list[str]) -> str:
    """Folder of a video's frames, from the data set's folder on, with slashes."""
    parts = frames[0].replace("\\", "/").split("/")[:-1]
    tops = [place for place, part in enumerate(parts) if part in TOPS]
    return "/".join(parts[tops[0] :] if tops else [part for part in parts if part not in ("", ".", "..")])


def _people(dataset: str, name: str) -> tuple[str | None, str]:
    """Subject and source of a video: what its name tells; a fake has its genuine recording as source."""
    tag = TAGS.get(dataset) or re.sub(r"\W", "", dataset).lower()
    found = NAMES[dataset].fullmatch(name) if dataset in NAMES else None
    if found is None:
        return None, f"{tag}_{name.removesuffix('_fake')}"  # UADFV: 0000 and 0000_fake
    parts = found.groupdict()
    people = [f"{tag}_{person}" for person in (parts["a"], parts["b"]) if person]
    return "+".join(people), "_".join(filter(None, (tag, parts["a"], parts.get("scene"))))


def _rows(files: list[Path]) -> tuple[pd.DataFrame, list[str]]:
    """One row per video, with the splits it is listed in joined by `+`."""
    videos: dict[str, dict] = {}
    empty = 0
    for file in files:
        for label, split, compression, name, entry in _videos(file):
            frames = entry.get("frames") if isinstance(entry, dict) else None
            if not frames:
                empty += 1
                continue
            if not isinstance(frames, list) or not all(isinstance(frame, str) for frame in frames):
                raise DataError(f"{file}: the frames of {name} are no list of names: download it again")
            dataset, fake, method = LABELS[label]
            path = _frame_folder(frames)
            subject, source = _people(dataset, name)
            row = videos.setdefault(path, {
                "path": path, "label": fake, "dataset": dataset, "method": method, "quality": compression,
                "subject": subject, "source": source, "frames": len(frames), "splits": set(),
            })  # fmt: skip
            if row["label"] != fake:
                raise DataError(f"{file}: {path} is listed as real and as fake: correct one of the entries")
            row["splits"].add(split)
    notes = [f"{empty} entries list no frames and are left out"] if empty else []
    return pd.DataFrame(videos.values()), notes


def _split_of(splits: set[str]) -> str:
    return "test" if "test" in splits else "train" if "train" in splits else "val"


def _located(table: pd.DataFrame, root: Path) -> pd.Series:
    """Paths of the videos below `root`: folders where they are there, else inside the databases that are."""
    found = []
    places: dict[str, str] = {}
    for path in table["path"]:
        top = path.split("/")[0]
        if top not in places:
            rgb = next((folder for folder in RGB if (root / folder / top).is_dir()), None)
            mdb = next(
                (folder for folder in LMDB if (root / folder / f"{top}_lmdb" / "data.mdb").is_file()), None
            )
            packed = rgb is None and mdb is not None
            folder = Path(mdb if packed else rgb or ".") / (f"{top}_lmdb!" if packed else "")
            places[top] = "" if folder == Path() else f"{folder.as_posix()}/"
        found.append(places[top] + path)
    return pd.Series(found, index=table.index, dtype="string")


def read(root: Path, seed: int = 0) -> Manifest:
    """Every video of the JSON lists, once, whether its frames are there or not."""
    files = _files(root)
    table, notes = _rows(files) if files else (pd.DataFrame(), [])
    if table.empty:
        raise DataError(f"{root} has no list of DeepfakeBench with videos in it: expected {FORMAT.accepts}")
    several = table["splits"].map(len) > 1
    if several.any():
        notes.append(
            f"{int(several.sum())} videos are listed in several splits: those of test are kept for it alone, "
            "the others are train"
        )
    table["split"] = table["splits"].map(_split_of)
    label = table["label"].astype("Int64")
    # The fakes of DFDC may be in the voice, which frames do not show; all other methods replace the face.
    table["visual_label"] = label.mask((table["dataset"] == "DFDC") & (label == 1))
    table["kind"], table["audio_label"] = "video", pd.NA
    table["path"] = _located(table, root)
    parts = []
    for dataset, rows in table.drop(columns="splits").groupby("dataset", sort=False):
        split, carved = carve_validation(rows, seed)
        confined, shared = confine_groups(rows.assign(split=split))
        parts.append(confined)
        notes += [f"{dataset}: {note}" for note in (carved, *shared) if note]
    return Manifest(pd.concat(parts, ignore_index=True), root=root, name="DeepfakeBench", notes=notes)


FORMAT = DatasetFormat(
    name="deepfakebench",
    accepts="JSON lists of DeepfakeBench in the root or in [preprocessing/]dataset_json/, and the frames in "
    "[datasets/][rgb/]DATASET/…/frames/VIDEO/*.png or [datasets/][lmdb/]DATASET_lmdb/data.mdb",
    detect=lambda root: root.is_dir() and bool(_files(root)),
    read=read,
)
