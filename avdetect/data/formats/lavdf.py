"""LAV-DF (Cai et al. 2022): short manipulations inside genuine recordings, with their periods.

    {train,dev,test}/*.mp4
    metadata.min.json or metadata.json: [{"file": "test/000001.mp4", "n_fakes": 0, "fake_periods": [],
      "duration": 4.224, "original": null, "modify_video": false, "modify_audio": false,
      "split": "test", …}, …]

`metadata.json` adds keys to those of `metadata.min.json`; unknown ones are ignored. Split `dev` is val here.
The publisher does not name the people.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd

from avdetect.data.formats.base import DatasetFormat
from avdetect.data.formats.official import confine_groups
from avdetect.data.manifest import Manifest
from avdetect.data.textfiles import read_json
from avdetect.errors import DataError

DATASET = "LAV-DF"
NAMES = ("metadata.min.json", "metadata.json")
SPLITS = {"train": "train", "dev": "val", "val": "val", "test": "test"}
COUNTS = {"train": 78_703, "val": 31_501, "test": 26_100}
NEEDED = ("file", "split", "modify_video", "modify_audio", "fake_periods")
HEAD = 65_536  # characters in which the first entry ends; transcripts come before its flags


def _index(root: Path) -> Path | None:
    for file in (root / name for name in NAMES):
        if file.is_file():
            with open(file, encoding="utf-8-sig", errors="replace") as opened:
                head = opened.read(HEAD)
            if re.match(r"\s*\[\s*\{", head) and '"modify_video"' in head:
                return file
    return None


def load_entries(file: Path, needed: tuple[str, ...]) -> list[dict]:
    """Entries of a JSON list of objects; DataError where it is none or one of them lacks a key."""
    entries = read_json(file, list)
    for number, entry in enumerate(entries):
        lacking = [key for key in needed if key not in entry] if isinstance(entry, dict) else list(needed)
        if lacking:
            raise DataError(f"{file}: entry {number} lacks {', '.join(lacking)}")
        check_names(entry, file)
    return entries


def check_names(entry: dict, file: Path) -> None:
    """Raise DataError unless `file` is a name, and `original` is one or nothing."""
    good = isinstance(entry["file"], str) and isinstance(entry.get("original"), (str, type(None)))
    if not (good and entry["file"]):
        named = f"file {entry['file']!r} and original {entry.get('original')!r}"
        raise DataError(f"{file}: an entry has {named}, expected names of files")


def periods_json(periods: object, file: Path, name: str) -> str:
    """`[[start_s, end_s], …]` as JSON, or DataError."""
    good = isinstance(periods, list) and all(
        isinstance(pair, list)
        and len(pair) == 2
        and all(isinstance(time, (int, float)) and not isinstance(time, bool) for time in pair)
        and 0 <= pair[0] <= pair[1]
        for pair in periods
    )
    if not good:
        raise DataError(f"{file}: {name} has the fake periods {periods!r}, expected [[start_s, end_s], …]")
    return json.dumps(periods)


def _row(entry: dict, file: Path) -> dict:
    name, video, audio = entry["file"], entry["modify_video"], entry["modify_audio"]
    if entry["split"] not in SPLITS:
        raise DataError(f"{file}: {name} has the split {entry['split']!r}, expected train, dev or test")
    if not isinstance(video, bool) or not isinstance(audio, bool):
        raise DataError(
            f"{file}: {name} has modify_video {video!r} and modify_audio {audio!r}, not true or false"
        )
    modified = [key for key in ("modify_video", "modify_audio") if entry[key]]
    return {
        "path": name, "label": int(video or audio), "visual_label": int(video), "audio_label": int(audio),
        "split": SPLITS[entry["split"]], "source": entry.get("original") or name,
        "method": "+".join(modified) or pd.NA,
        "fake_periods": periods_json(entry["fake_periods"], file, name),
        "duration": entry.get("duration"),
    }  # fmt: skip


def read(root: Path, seed: int = 0) -> Manifest:
    """Every clip of the metadata; `seed` is not used, the split is the publisher's."""
    file = _index(root)
    if file is None:
        raise DataError(f"{root} has no index of LAV-DF: expected {FORMAT.accepts}")
    table = pd.DataFrame([_row(entry, file) for entry in load_entries(file, NEEDED)])
    table = table.assign(kind="video", dataset=DATASET, subject=pd.NA)
    found = {split: int((table["split"] == split).sum()) for split in COUNTS}
    notes = [
        "LAV-DF names no people: `subject` is missing, so that only a `source` in two splits can be noticed"
    ]
    if found != COUNTS:
        notes.append(
            f"LAV-DF: {found['train']}/{found['val']}/{found['test']} clips in train/dev/test, where the "
            f"publisher has {COUNTS['train']}/{COUNTS['val']}/{COUNTS['test']}"
        )
    odd = int(((table["label"] == 1) != (table["fake_periods"] != "[]")).sum())
    if odd:
        notes.append(
            f"LAV-DF: {odd} clips are marked as modified without fake periods, or the other way round"
        )
    table, shared = confine_groups(table)
    return Manifest(table, root=root, name=DATASET, notes=notes + [f"{DATASET}: {note}" for note in shared])


FORMAT = DatasetFormat(
    name="lavdf",
    accepts="metadata.min.json or metadata.json (a list with modify_video, modify_audio) and "
    "{train,dev,test}/*.mp4",
    detect=lambda root: _index(root) is not None,
    read=read,
)
