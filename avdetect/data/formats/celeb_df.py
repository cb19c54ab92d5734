"""Celeb-DF v1 and v2 (Li et al. 2020, arXiv:1909.12962), with the publisher's list of test videos.

    Celeb-real/id0_0000.mp4, YouTube-real/00170.mp4 (also Youtube-real), Celeb-synthesis/id0_id1_0000.mp4
    List_of_testing_videos.txt     1 YouTube-real/00170.mp4     no header; 1 = REAL, 0 = fake

A folder `videos/` below each of the three will do. `id0_id1_0000` is the recording `id0_0000` with the face of
`id1`. Everything not listed is for training. The publisher has no val, and the test list shares nearly all its
people with the rest: see the notes of the manifest.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pandas as pd

from avdetect.data.carving import carve_by_people
from avdetect.data.formats.base import DatasetFormat
from avdetect.data.formats.official import confine_groups
from avdetect.data.manifest import Manifest
from avdetect.data.textfiles import read_lines
from avdetect.errors import DataError

LIST = "List_of_testing_videos.txt"
# folder, as compared without regard to case -> (name in the publisher's list, label)
FOLDERS = {
    "celeb-real": ("Celeb-real", 0),
    "youtube-real": ("YouTube-real", 0),
    "celeb-synthesis": ("Celeb-synthesis", 1),
}
LINE = re.compile(r"([01])\s+([^/\s]+)/([^/]+\.mp4)", re.IGNORECASE)
PERSON = re.compile(r"id\d+")
# clips of Celeb-real, YouTube-real and Celeb-synthesis; genuine and fake of the test list
COUNTS = {"v1": (158, 250, 795), "v2": (590, 300, 5_639)}
TEST_COUNTS = {"v2": (178, 340)}


def _listed(file: Path) -> dict[tuple[str, str], int]:
    """(folder, name) -> label, 1 = fake, of the test list."""
    listed: dict[tuple[str, str], int] = {}
    for number, line in read_lines(file):
        found = LINE.fullmatch(line)
        if found is None or found[2].lower() not in FOLDERS:
            raise DataError(f"{file} line {number}: expected `1 Celeb-real/NAME.mp4`, found {line!r}")
        label = 1 - int(found[1])  # the list's 1 is real: turned here, and nowhere else
        key = (found[2].lower(), found[3])
        if label != FOLDERS[key[0]][1]:
            raise DataError(
                f"{file} line {number}: label {found[1]} (1 = real) contradicts the folder {found[2]}"
            )
        if key in listed:
            raise DataError(f"{file} line {number}: {found[2]}/{found[3]} is listed twice")
        listed[key] = label
    return listed


def _folders(root: Path) -> dict[str, str]:
    """The three folders, as far as they are there: path relative to `root` with the level `videos/`."""
    found = {}
    for name in sorted(os.listdir(root)) if root.is_dir() else ():
        if name.lower() in FOLDERS and (root / name).is_dir():
            if name.lower() in found:
                raise DataError(
                    f"{root} has the folders {found[name.lower()]} and {name}: merge them into one"
                )
            found[name.lower()] = f"{name}/videos" if (root / name / "videos").is_dir() else name
    return found


def _row(folder: str, place: str, name: str) -> dict:
    people, stem = PERSON.findall(name), name[:-4]
    if folder == "youtube-real":  # people nobody named: each video is somebody of its own
        people, recording = [f"youtube_{stem}"], f"youtube_{stem}"
    elif len(people) != 1 + FOLDERS[folder][1]:
        raise DataError(f"{place}/{name}: expected id0_0000.mp4, or id0_id1_0000.mp4 of a fake")
    else:
        recording = f"{people[0]}_{stem.rpartition('_')[2]}"
    return {
        "path": f"{place}/{name}", "label": FOLDERS[folder][1],
        "subject": "+".join(f"celebdf_{person}" for person in dict.fromkeys(people)),
        "source": f"celebdf_{recording}",
        "method": "Celeb-synthesis" if FOLDERS[folder][1] else pd.NA,
        "folder": FOLDERS[folder][0],
    }  # fmt: skip


def _version(root: Path, listed: int, counts: tuple[int, ...]) -> str:
    """`v1` or `v2`, told from the number of files, the list or the folder's name; else empty."""
    for version, published in COUNTS.items():
        if counts == published or listed == sum(TEST_COUNTS.get(version, (0,))):
            return version
    named = re.search(r"celeb.?df.?(v[12])", root.resolve().name, re.IGNORECASE)
    return named[1].lower() if named else ""


def read(root: Path, seed: int = 0) -> Manifest:
    """All videos of the three folders and of the list; val is carved from train by people."""
    folders = _folders(root)
    if not (root / LIST).is_file():
        raise DataError(f"{root} has no {LIST}: without it the test videos cannot be told, put it there")
    listed = _listed(root / LIST)
    there = {
        (folder, name)
        for folder, place in folders.items()
        for name in os.listdir(root / place)
        if name.lower().endswith(".mp4") and not name.startswith(".")
    }
    keys = sorted(there | set(listed))
    if not keys:
        raise DataError(f"{root} holds no videos of Celeb-DF: expected {FORMAT.accepts}")
    table = pd.DataFrame([_row(f, folders.get(f, FOLDERS[f][0]), name) for f, name in keys])
    counts = tuple(sum(key[0] == folder for key in keys) for folder in FOLDERS)
    version = _version(root, len(listed), counts)
    dataset = f"Celeb-DF {version}".strip()
    table = table.assign(kind="video", dataset=dataset, visual_label=table["label"], audio_label=pd.NA)
    test = pd.Series([key in listed for key in keys], dtype=bool)
    carved = carve_by_people(table[~test], seed)
    table["split"] = carved.reindex(table.index).mask(test, "test")
    notes = _notes(version, counts, listed, carved, seed)
    table, shared = confine_groups(table)
    return Manifest(table, root=root, name=dataset, notes=notes + shared)


def _notes(version: str, counts: tuple[int, ...], listed: dict, carved: pd.Series, seed: int) -> list[str]:
    fake = sum(listed.values())
    text = " and ".join(f"{n} {name}" for n, (name, _) in zip(counts, FOLDERS.values(), strict=True))
    notes = [f"{text}; test list: {len(listed) - fake} genuine and {fake} fake"]
    if version and counts != COUNTS[version]:
        notes.append(f"the publisher has {', '.join(map(str, COUNTS[version]))} in {version}")
    if version in TEST_COUNTS and (len(listed) - fake, fake) != TEST_COUNTS[version]:
        notes.append(
            f"the publisher's test list has {' genuine and '.join(map(str, TEST_COUNTS[version]))} fake clips"
        )
    notes.append(
        f"no official val: carved from the other videos by people (seed {seed}); {int(carved.isna().sum())} fakes "
        "that join a person of train with one of val have no split"
    )
    return notes


def _detect(root: Path) -> bool:
    if not root.is_dir():
        return False
    names = {name.lower() for name in os.listdir(root)}
    return LIST.lower() in names or {"celeb-real", "celeb-synthesis"} <= names


FORMAT = DatasetFormat(
    name="celeb_df",
    accepts=f"{LIST} with Celeb-real/, YouTube-real/ (or Youtube-real/) and Celeb-synthesis/, each with *.mp4 or "
    "videos/*.mp4 (v1 or v2)",
    detect=_detect,
    read=read,
)
