"""FakeAVCeleb v1.2 (Khalid et al. 2021): face, voice or both manipulated, with the people of every clip.

    {Real,Fake}Video-{Real,Fake}Audio/RACE/GENDER/idNNNNN/*.mp4
    meta_data.csv    source,target1,target2,method,category,type,race,gender,path,
                     id00076,-,-,real,A,RealVideo-RealAudio,African,men,00109.mp4,FakeAVCeleb/…/id00076

The header ends with a comma: `path` is the name of the file, the nameless tenth column its folder. Some files
are listed twice with different methods. Where only `file_list.txt` is there (`TYPE/RACE/GENDER/id/name.mp4
label`, label 1 = real), people and methods are read from the names of the files as far as those tell.

There is no official split, and nearly everybody of one race and gender is in fakes with nearly everybody else
of it. So the people are dealt to the splits, within each race and gender; a clip that shows people of
different splits belongs to none.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import re
from pathlib import Path, PurePosixPath

import pandas as pd

from avdetect.data.formats.base import DatasetFormat
from avdetect.data.manifest import Manifest, class_counts
from avdetect.data.splits import FRACTIONS
from avdetect.errors import DataError

DATASET = "FakeAVCeleb"
INDEX = "meta_data.csv"
LISTS = ("file_list.txt", "file_list.txt.gz")
HEADER = ["source", "target1", "target2", "method", "category", "type", "race", "gender", "path"]
FOLDERS = ("", "FakeAVCeleb", "FakeAVCeleb_v1.2")
# type -> (category, visual, audio)
TYPES = {
    "RealVideo-RealAudio": ("A", 0, 0), "RealVideo-FakeAudio": ("B", 0, 1),
    "FakeVideo-RealAudio": ("C", 1, 0), "FakeVideo-FakeAudio": ("D", 1, 1),
}  # fmt: skip
PERSON = re.compile(r"id\d{5}")
CLIPS, GENUINE = 21_544, 500


def _index(root: Path) -> tuple[Path, str] | None:
    """Index file, and the folder that it is in, relative to `root` and with a slash."""
    for folder in FOLDERS:
        for name in (INDEX, *LISTS):
            file = root / folder / name
            if file.is_file() and _is_index(file):
                return file, f"{folder}/" if folder else ""
    return None


def _is_index(file: Path) -> bool:
    with _opened(file) as lines:
        first = lines.readline(4096).strip()
    if file.name == INDEX:
        return first.split(",")[: len(HEADER)] == HEADER
    return first.split("/", 1)[0] in TYPES and first.rpartition(" ")[2] in ("0", "1")


def _opened(file: Path):
    if file.suffix == ".gz":
        return gzip.open(file, "rt", encoding="utf-8", errors="replace")
    return open(file, encoding="utf-8-sig", errors="replace", newline="")


def _type(name: str, file: Path, number: int) -> tuple[str, int, int]:
    if name not in TYPES:
        raise DataError(f"{file} line {number}: the type {name!r} is none of {', '.join(TYPES)}")
    return TYPES[name]


def _csv_rows(file: Path) -> list[dict]:
    rows = []
    with _opened(file) as lines:
        for number, fields in enumerate(csv.reader(lines), start=1):
            if number == 1 or not any(fields):
                continue
            if len(fields) < len(HEADER) + 1 or not fields[8] or not fields[9]:
                raise DataError(
                    f"{file} line {number}: expected ten fields, the last two a file name and its folder, "
                    f"found {','.join(fields)!r}"
                )
            row = dict(zip(HEADER, fields, strict=False))
            category, visual, audio = _type(row["type"], file, number)
            if row["category"] != category:
                raise DataError(
                    f"{file} line {number}: category {row['category']!r} contradicts the type {row['type']}"
                )
            folder = fields[9].strip("/")
            # The publisher's paths begin with the dataset's own folder, in which the index lies.
            folder = folder.removeprefix("FakeAVCeleb/")
            people = [row["source"], *(t for t in (row["target1"], row["target2"]) if PERSON.fullmatch(t))]
            rows.append({
                "path": f"{folder}/{row['path']}", "visual_label": visual, "audio_label": audio,
                "source": row["source"], "subject": "+".join(dict.fromkeys(people)),
                "method": row["method"] if row["method"] != "real" else pd.NA,
                "type": row["type"], "race": row["race"], "gender": row["gender"],
            })  # fmt: skip
    return rows


def _list_rows(file: Path) -> list[dict]:
    rows = []
    with _opened(file) as lines:
        for number, line in enumerate(lines, start=1):
            path, _, label = line.strip().rpartition(" ")
            parts = PurePosixPath(path).parts
            if not line.strip():
                continue
            if len(parts) != 5 or label not in ("0", "1"):
                raise DataError(
                    f"{file} line {number}: expected `TYPE/RACE/GENDER/id/name.mp4 0|1`, found "
                    f"{line.strip()!r}"
                )
            _, visual, audio = _type(parts[0], file, number)
            genuine = label == "1"  # the list's label 1 = real: turned here, and nowhere else
            if genuine != (not visual and not audio):
                raise DataError(f"{file} line {number}: label {label} (1 = real) contradicts {parts[0]}")
            people = [parts[3], *PERSON.findall(parts[4])]
            rows.append({
                "path": path, "visual_label": visual, "audio_label": audio,
                "source": parts[3], "subject": "+".join(dict.fromkeys(people)),
                "method": _method_of_name(parts[0], parts[4]),
                "type": parts[0], "race": parts[1], "gender": parts[2],
            })  # fmt: skip
    return rows


def _method_of_name(kind: str, name: str) -> str | object:
    """Method where the file's name tells it: fsgan is never named, so most clips with two steps stay open."""
    if kind == "RealVideo-FakeAudio":
        return "rtvc"
    if kind == "RealVideo-RealAudio":
        return pd.NA
    if "faceswap" in name:
        return "faceswap-wav2lip" if "wavtolip" in name else "faceswap"
    return "wav2lip" if re.fullmatch(r"\d+_id\d{5}_wavtolip\.mp4", name) else pd.NA


def read(root: Path, seed: int = 0) -> Manifest:
    """Every file of the index once; `seed` decides who is in which split."""
    found = _index(root)
    if found is None:
        raise DataError(f"{root} has no index of FakeAVCeleb: expected {FORMAT.accepts}")
    file, prefix = found
    table = pd.DataFrame(_csv_rows(file) if file.name == INDEX else _list_rows(file))
    if table.empty:
        raise DataError(f"{file} lists no clips")
    notes = []
    again = table["path"].duplicated()
    if again.any():
        methods = table.groupby("path")["method"].nunique(dropna=False)
        notes.append(
            f"FakeAVCeleb: {int(again.sum())} files were listed again, {int((methods > 1).sum())} of them "
            "with another method; the first is kept"
        )
        table = table[~again].reset_index(drop=True)
    table["label"] = table[["visual_label", "audio_label"]].max(axis=1)
    table["path"] = prefix + table["path"]
    table = table.assign(kind="video", dataset=DATASET, split=_split(table, seed))
    counts = class_counts(table["label"])
    if (len(table), counts["genuine"]) != (CLIPS, GENUINE):
        notes.append(
            f"FakeAVCeleb: {len(table)} files, {counts['genuine']} of them real, where the publisher has "
            f"{CLIPS} and {GENUINE}"
        )
    unnamed = int((table["method"].isna() & (table["label"] == 1)).sum())
    if unnamed:
        notes.append(f"FakeAVCeleb: {unnamed} fakes have no method, as only {INDEX} tells them all")
    apart = int(table["split"].isna().sum())
    notes.append(
        f"FakeAVCeleb has no split of its own: people were dealt to train, val and test within each race and "
        f"gender (seed {seed}); {apart} clips show people of different splits and have none"
    )
    return Manifest(table, root=root, name=DATASET, notes=notes)


def _split(table: pd.DataFrame, seed: int) -> pd.Series:
    """Split of each clip: that of all its people, missing where they are on different sides."""
    people = table["subject"].str.split("+")
    group = (table["race"] + "/" + table["gender"]).repeat(people.str.len())
    known = pd.DataFrame({"person": people.explode(), "group": group}).drop_duplicates("person")
    drawn = [
        hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).hexdigest() for name in known["person"]
    ]
    known = known.assign(drawn=drawn).sort_values(["group", "drawn"])
    dealt = dict.fromkeys(FRACTIONS, 0)
    side = {}
    for number, person in enumerate(known["person"], start=1):
        # To the split that lacks most of its share so far: every stretch of the order has its part of each.
        chosen = max(FRACTIONS, key=lambda name: FRACTIONS[name] * number - dealt[name])
        dealt[chosen] += 1
        side[person] = chosen
    sides = [{side[name] for name in names} for names in people]
    return pd.Series([s.pop() if len(s) == 1 else pd.NA for s in sides], index=table.index, dtype="string")


FORMAT = DatasetFormat(
    name="fakeavceleb",
    accepts=f"{INDEX} ({','.join(HEADER)},) or file_list.txt (`TYPE/RACE/GENDER/id/name.mp4 label`), and "
    "{RealVideo-RealAudio,…,FakeVideo-FakeAudio}/RACE/GENDER/id/*.mp4 beside it",
    detect=lambda root: root.is_dir() and _index(root) is not None,
    read=read,
)
