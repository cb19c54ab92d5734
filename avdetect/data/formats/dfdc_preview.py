"""DFDC preview (Dolhansky et al. 2019, arXiv:1910.08854): two ways of swapping faces, official train and test.

    dataset.json    {"method_A/643049/643049_A/1085144_643049_A_001.mp4": {"label": "fake", "set": "train", …},
                     "original_videos/643049/643049_A_000.mp4": {"label": "real", "set": "train", …}, …}

A fake is named `<swapped>_<target>_<suffix>_<counter>`, a genuine video `<id>_<suffix>_<counter>`; of the other
entries only `target_id`, `swapped_id` and `augmentations` are used, where they are there. Copies in which a
folder `videos/` was put below each of the three folders are read as well. There is no official val: it is carved
from train by people.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pandas as pd

from avdetect.data.carving import carve_by_people
from avdetect.data.formats.base import DatasetFormat
from avdetect.data.formats.official import confine_groups
from avdetect.data.manifest import Manifest, class_counts
from avdetect.data.textfiles import read_json
from avdetect.errors import DataError

DATASET = "DFDC preview"
INDEX = "dataset.json"
ORIGINALS = "original_videos"
LABELS = {"real": 0, "fake": 1}
GENUINE, FAKE = 1_131, 4_119


def _entries(root: Path) -> dict[str, dict]:
    file = root / INDEX
    if not file.is_file():
        raise DataError(f"{root} has no {INDEX} of the DFDC preview: expected {FORMAT.accepts}")
    entries = read_json(file, dict)
    for name, entry in entries.items():
        if not isinstance(entry, dict) or entry.get("label") not in LABELS:
            raise DataError(f"{file}: {name} has no label real or fake")
        if entry.get("set") not in ("train", "test"):
            raise DataError(f"{file}: {name} has the set {entry.get('set')!r}, expected train or test")
        if (name.split("/")[0] == ORIGINALS) != (entry["label"] == "real"):
            raise DataError(f"{file}: {name} is labelled {entry['label']}, which contradicts its folder")
    return entries


def _row(name: str, entry: dict) -> dict:
    """Row of a clip without its folder on disk."""
    fake = entry["label"] == "fake"
    fields = PurePosixPath(name).stem.split("_")
    swapped, target, suffix = ["", *fields][-4:-1] if fake else ["", *fields[:2]]
    people = [str(entry.get("target_id") or target)]
    if fake:
        people.append(str(entry.get("swapped_id") or swapped))
    return {
        "label": LABELS[entry["label"]],
        "split": entry["set"],
        "subject": "+".join(f"dfdcp_{person}" for person in dict.fromkeys(people) if person),
        "source": f"dfdcp_{people[0]}_{suffix}",
        "method": name.split("/")[0] if fake else pd.NA,
        "quality": "+".join(map(str, entry.get("augmentations") or ())) or pd.NA,
    }


def read(root: Path, seed: int = 0) -> Manifest:
    """Every clip of `dataset.json`; val is carved from train by people."""
    entries = _entries(root)
    if not entries:
        raise DataError(f"{root / INDEX} lists no clips: download it again")
    below = {top: (root / top / "videos").is_dir() for top in {name.split("/")[0] for name in entries}}
    rows = []
    for name, entry in entries.items():
        top, _, rest = name.partition("/")
        inserted = below[top] and not rest.startswith("videos/")
        rows.append({"path": f"{top}/videos/{rest}" if inserted else name, **_row(name, entry)})
    table = pd.DataFrame(rows).assign(kind="video", dataset=DATASET)
    table["visual_label"], table["audio_label"] = table["label"], pd.NA
    counts = class_counts(table["label"])
    notes = [f"{counts['genuine']} genuine and {counts['fake']} fake clips, official train and test"]
    if (counts["genuine"], counts["fake"]) != (GENUINE, FAKE):
        notes.append(f"the publisher has {GENUINE} genuine and {FAKE} fake clips")

    train = table["split"] == "train"
    carved = carve_by_people(table[train], seed)
    table["split"] = carved.reindex(table.index).where(train, table["split"])
    notes.append(
        f"no official val: carved from train by people (seed {seed}); {int(carved.isna().sum())} fakes that join "
        "a person of train with one of val have no split"
    )
    table, shared = confine_groups(table)
    return Manifest(table, root=root, name=DATASET, notes=notes + shared)


def _detect(root: Path) -> bool:
    file = root / INDEX
    if not file.is_file():
        return False
    with open(file, encoding="utf-8-sig", errors="replace") as opened:
        head = opened.read(4096)
    return re.match(rf'\s*\{{\s*"(method_[A-Z]|{ORIGINALS})/[^"]+\.mp4"\s*:\s*\{{', head) is not None


FORMAT = DatasetFormat(
    name="dfdc_preview",
    accepts=f"{INDEX} with method_{{A,B}}/ and {ORIGINALS}/ (a folder videos/ below each of them will do)",
    detect=_detect,
    read=read,
)
