"""AV-Deepfake1M and AV-Deepfake1M++ (Cai et al. 2024, 2025): words replaced in face, voice or both.

    {train,val}_metadata.json   [{"file": "id00012/21Uxsk56VDQ/00001/fake_video_fake_audio.mp4",
                                  "modify_type": "both_modified", "fake_segments": […], …}, …]
    {train,val}_metadata/<file>.json   or, in ++, {train,val}/<file>.json: the same, one file per clip
    {train,val,test}/<file>
    test_files.txt (++: testA_files.txt, testB_files.txt)   names of test clips, labels unpublished

In ++ a folder for the collection (`vox_celeb_2`, `lrs3`, `silent_videos`) stands before the name. The
publisher's own loader looks for `both-modified` where the data say `both_modified`; both are taken.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from avdetect.data.formats.base import DatasetFormat, walk_error
from avdetect.data.formats.lavdf import check_names, load_entries, periods_json
from avdetect.data.formats.official import confine_groups
from avdetect.data.manifest import Manifest
from avdetect.data.textfiles import read_json, read_lines
from avdetect.errors import DataError

DATASET = "AV-Deepfake1M"
COLLECTIONS = ("vox_celeb_2", "lrs3", "silent_videos")
LABELLED = ("train", "val", "test")
TEST_LISTS = ("test", "testA", "testB")
# modify_type -> (visual, audio)
MODIFIED = {"real": (0, 0), "visual_modified": (1, 0), "audio_modified": (0, 1), "both_modified": (1, 1)}
NEEDED = ("file", "modify_type")


def _index(root: Path, split: str) -> Path | None:
    """Metadata of a split: the list, else the folder that has a file per clip."""
    if (file := root / f"{split}_metadata.json").is_file():
        return file
    folders = [root / f"{split}_metadata", *(root / split / name for name in COLLECTIONS)]
    for folder in folders:
        if folder.is_dir() and next(_json_files(folder), None) is not None:
            return folder if folder.name not in COLLECTIONS else root / split
    return None


def _json_files(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder, onerror=walk_error):
        folders.sort()
        yield from (Path(parent) / name for name in sorted(files) if name.endswith(".json"))


def _entries(index: Path) -> Iterator[tuple[Path, dict]]:
    """Entries with the file that each is from."""
    if index.is_file():
        yield from ((index, entry) for entry in load_entries(index, NEEDED))
        return
    for file in _json_files(index):
        entry = read_json(file, dict)
        if "modify_type" not in entry:
            raise DataError(f"{file} has no modify_type: it is no metadata of AV-Deepfake1M")
        name = file.relative_to(index).with_suffix(".mp4").as_posix()
        entry = {"file": name, **entry}
        check_names(entry, file)
        yield file, entry


def _identity(file: str, original: str | None) -> dict:
    """Person and recording, from the folders `[collection/]person/video/clip/` of the publisher."""
    whole = original or file
    first, _, rest = whole.partition("/")
    folder = (rest if first in COLLECTIONS else whole).rpartition("/")[0]
    if "/" not in folder:
        return {"subject": pd.NA, "source": whole.rpartition(".")[0] or whole}
    return {"subject": folder.partition("/")[0], "source": folder}


def _row(entry: dict, index: Path, split: str) -> dict:
    name = entry["file"].removeprefix(f"{split}/")
    kind = str(entry["modify_type"]).replace("-", "_")
    if kind not in MODIFIED:
        raise DataError(
            f"{index}: {name} has the modify_type {entry['modify_type']!r}, expected {', '.join(MODIFIED)}"
        )
    visual, audio = MODIFIED[kind]
    row = {
        "path": f"{split}/{name}", "file": name, "label": int(visual or audio), "visual_label": visual,
        "audio_label": audio, "split": split, "method": kind if kind != "real" else pd.NA,
        "audio_model": entry.get("audio_model"), "video_model": entry.get("video_model"),
        **_identity(name, entry.get("original")),
    }  # fmt: skip
    # Some clips list the periods of the modified stream under the genuine one too: the kind decides.
    segments = {
        "fake_periods": entry.get("fake_segments"),
        "visual_fake_periods": entry.get("visual_fake_segments") if visual else [],
        "audio_fake_periods": entry.get("audio_fake_segments") if audio else [],
    }
    known = {key: value for key, value in segments.items() if value is not None}
    return row | {key: periods_json(value, index, name) for key, value in known.items()}


def _test_rows(root: Path) -> list[dict]:
    rows = []
    for folder in TEST_LISTS:
        file = root / f"{folder}_files.txt"
        if not file.is_file():
            continue
        names = [line for _, line in read_lines(file)]
        rows += [
            {"path": f"{folder}/{name}", "file": name, "split": "test", **_identity(name, None)}
            for name in (name.removeprefix(f"{folder}/") for name in names)
        ]
    return rows


def read(root: Path, seed: int = 0) -> Manifest:
    """Clips of the metadata, and those of the test lists without labels; the split is the publisher's."""
    rows, notes = [], []
    for split in LABELLED:
        if (index := _index(root, split)) is not None:
            rows += [_row(entry, file, split) for file, entry in _entries(index)]
    known = {row["path"] for row in rows}
    unlabelled = [row for row in _test_rows(root) if row["path"] not in known]
    if unlabelled:
        notes.append(
            f"{DATASET}: {len(unlabelled)} test clips have no labels, the publisher keeps them: score them "
            "and hand in the score file"
        )
    if not rows and not unlabelled:
        raise DataError(f"{root} has no index of {DATASET}: expected {FORMAT.accepts}")
    table = pd.DataFrame(rows + unlabelled)
    for column in ("label", "visual_label", "audio_label"):
        table[column] = table[column].astype("Int64") if column in table else pd.NA
    # People are on both sides of the publisher's train and val, which are kept.
    table, shared = confine_groups(table.assign(kind="video", dataset=DATASET))
    return Manifest(table, root=root, name=DATASET, notes=notes + [f"{DATASET}: {note}" for note in shared])


def _detect(root: Path) -> bool:
    for split in LABELLED:
        index = _index(root, split)
        file = index if index is None or index.is_file() else next(_json_files(index), None)
        if file is not None:
            with open(file, encoding="utf-8-sig", errors="replace") as opened:
                if '"modify_type"' in opened.read(65_536):
                    return True
    return any((root / f"{name}_files.txt").is_file() and (root / name).is_dir() for name in TEST_LISTS)


FORMAT = DatasetFormat(
    name="avdeepfake1m",
    accepts="{train,val}_metadata.json (or {train,val}_metadata/**/*.json, ++: {train,val}/**/*.json), "
    "test_files.txt (++: testA_files.txt, testB_files.txt) and {train,val,test}/**/*.mp4",
    detect=_detect,
    read=read,
)
