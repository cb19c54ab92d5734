"""DFDC (Deepfake Detection Challenge, Dolhansky et al. 2020) in the three layouts in which it is found.

1. training parts, any of the 50, or one part folder as root:
   `dfdc_train_part_N/metadata.json`  {"a.mp4": {"label": "FAKE", "split": "train", "original": "b.mp4"}, …}
2. the Kaggle sample: `train_sample_videos/metadata.json` (same schema) and `test_videos/` without labels
3. the test set: `labels.csv` (`filename,label`) or
   `metadata.json` {"a.mp4": {"augmentations": {…},
"is_fake": 0}}

The `split` of `metadata.json` is always "train" and says nothing. Labels are of the whole clip: a fake may be
in the face, the voice or both, so `visual_label` and `audio_label` stay missing, unless `demo_truth.csv` (the
demo set of this package) lies in the root and tells. `source` groups a genuine video with the fakes made from
it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from avdetect.data.formats.base import DatasetFormat, folders_in
from avdetect.data.manifest import Manifest
from avdetect.data.splits import dfdc_split
from avdetect.data.textfiles import read_json, read_table
from avdetect.errors import DataError

DATASET = "DFDC"
DEMO_DATASET = "DFDC demo"
TRUTH = "demo_truth.csv"
PART = re.compile(r"dfdc_train_part_(\d+)$")
UNLABELLED = "test_videos"


def _index_files(root: Path) -> list[Path]:
    """Index files in the root and two levels below; of two in one folder metadata.json, which says more."""
    if not root.is_dir():
        return []
    below = folders_in(root)
    folders = [root, *below, *(folder for parent in below for folder in folders_in(parent))]
    found = []
    for folder in folders:
        files = [folder / name for name in ("metadata.json", "labels.csv") if (folder / name).is_file()]
        found += files[:1]
    return found


def _schema(file: Path) -> str:
    """`train` or `test` of an index file of DFDC, `` for any other file, told from its first entry."""
    with open(file, encoding="utf-8-sig", errors="replace") as opened:
        head = opened.read(4096)
    if file.name == "labels.csv":
        return "test" if head.split("\n", 1)[0].strip().replace(" ", "") == "filename,label" else ""
    entry = re.match(r'\s*\{\s*"[^"]+"\s*:\s*\{(.*)', head, re.DOTALL)
    if entry is None:
        return ""
    keys = re.search(r'"(is_fake|label)"\s*:', entry.group(1))
    return {"is_fake": "test", "label": "train"}[keys.group(1)] if keys else ""


def _load_json(file: Path) -> dict[str, dict]:
    entries = read_json(file, dict)
    wrong = [name for name, entry in entries.items() if not isinstance(entry, dict)]
    if wrong:
        raise DataError(f"{file}: the entry {wrong[0]!r} is no object with label or is_fake")
    return entries


def _train_rows(file: Path, root: Path) -> list[dict]:
    part = PART.match(file.parent.resolve().name)
    rows = []
    for name, entry in _load_json(file).items():
        if entry.get("label") not in ("REAL", "FAKE"):
            raise DataError(f"{file}: {name} has the label {entry.get('label')!r}, expected REAL or FAKE")
        origin = entry.get("original") if entry["label"] == "FAKE" else None
        if not isinstance(origin, (str, type(None))):
            raise DataError(f"{file}: {name} has the original {origin!r}, expected the name of a file")
        rows.append({
            "path": _below(root, file.parent, name),
            "label": int(entry["label"] == "FAKE"),
            "source": f"dfdc_{Path(origin or name).stem}",
            "part": int(part.group(1)) if part else pd.NA,
        })  # fmt: skip
    return rows


def _test_rows(file: Path, root: Path) -> list[dict]:
    if file.name == "labels.csv":
        table = read_table(file, dtype=str, skipinitialspace=True)
        entries = {r.filename: {"is_fake": r.label} for r in table.itertuples()}
        if len(entries) < len(table):
            raise DataError(f"{file} lists {len(table) - len(entries)} file names twice")
    else:
        entries = _load_json(file)
    folder = _video_folder(file.parent, entries)
    rows = []
    for name, entry in entries.items():
        if str(entry.get("is_fake")) not in ("0", "1"):
            raise DataError(
                f"{file}: {name} has the label {entry.get('is_fake')!r}, expected 0 or 1 (1 = fake)"
            )
        applied = [a for group in (entry.get("augmentations") or {}).values() for a in group]
        rows.append({
            "path": _below(root, folder, name), "label": int(entry["is_fake"]),
            "split": "test",
            "source": f"dfdc_{Path(name).stem}", "quality": "+".join(sorted(applied)) or pd.NA,
        })  # fmt: skip
    return rows


def _below(root: Path, folder: Path, name: str) -> str:
    """Path of a listed file relative to `root`, whatever its name begins with."""
    place = folder.relative_to(root).as_posix()
    return name if place == "." else f"{place}/{name}"


def _video_folder(folder: Path, entries: dict[str, dict]) -> Path:
    """Where the videos of a test index lie: beside it, or below in `videos`, `test` or `test_videos`."""
    first = next(iter(entries), "")
    places = [folder, *(folder / name for name in ("videos", "test", UNLABELLED))]
    return next((place for place in places if first and (place / first).is_file()), folder)


def _unlabelled_rows(root: Path, listed: set[str]) -> list[dict]:
    """Videos of the Kaggle sample's `test_videos/`, as far as no index lists them."""
    files = sorted(root.glob(f"{UNLABELLED}/*.mp4")) + sorted(root.glob(f"*/{UNLABELLED}/*.mp4"))
    paths = [file.relative_to(root).as_posix() for file in files]
    return [{"path": p, "source": f"dfdc_{Path(p).stem}"} for p in paths if p not in listed]


def _add_truth(table: pd.DataFrame, file: Path) -> pd.DataFrame:
    """Join the demo set's truth per modality (path, label, visual_label, …); it must fit exactly."""
    truth = read_table(file)
    if not {"path", "label"} <= set(truth):
        raise DataError(
            f"{file} needs the columns path and label, has {', '.join(truth)}: make the demo set again"
        )
    both = table[["path", "label"]].merge(
        truth[["path", "label"]], on="path", how="outer", suffixes=("", "_truth")
    )
    differ = both[both["label"].isna() | (both["label"] != both["label_truth"])]
    if len(differ) or truth["path"].duplicated().any():
        raise DataError(
            f"{file} and the metadata.json beside do not agree on {len(differ)} clips "
            f"({', '.join(differ['path'].head(3))}): make the demo set again"
        )
    told = [c for c in truth if c not in ("path", "label")]
    return table.drop(columns=[c for c in told if c in table]).merge(
        truth[["path", *told]], on="path", how="left"
    )


def read(root: Path, seed: int = 0) -> Manifest:
    """Every clip that the index files list, and unlabelled test videos; splits by `splits.dfdc_split`."""
    train: list[dict] = []
    test: list[dict] = []
    for file in _index_files(root):
        schema = _schema(file)
        if schema == "train":
            train += _train_rows(file, root)
        elif schema == "test":
            test += _test_rows(file, root)
    unlabelled = _unlabelled_rows(root, {row["path"] for row in test})
    if not (train or test or unlabelled):
        raise DataError(f"{root} is no DFDC folder: expected {FORMAT.accepts}")

    demo = (root / TRUTH).is_file()
    notes, tables = [], []
    for rows, what in ((train, "training"), (test, "test"), (unlabelled, "unlabelled")):
        if not rows:
            continue
        table = pd.DataFrame(rows).assign(kind="video", dataset=DEMO_DATASET if demo else DATASET)
        for column in ("label", "visual_label", "audio_label", "subject", "part"):
            table[column] = table[column] if column in table else pd.NA
        if what == "training":
            table = _add_truth(table, root / TRUTH) if demo else table
            parts = sorted(table["part"].dropna().unique())
            table["split"], how = dfdc_split(table, table["part"], seed)
            notes.append(f"{len(rows)} training clips ({_parts_text(parts)}); {how}")
        else:
            notes.append(f"{len(rows)} {what} clips")
        tables.append(table)
    table = pd.concat([t.dropna(axis=1, how="all") for t in tables], ignore_index=True)
    return Manifest(table, root=root, name=DEMO_DATASET if demo else DATASET, notes=notes)


def _parts_text(parts: list[int]) -> str:
    return f"parts {', '.join(map(str, parts))}" if parts else "Kaggle sample"


def _detect(root: Path) -> bool:
    return any(_schema(file) for file in _index_files(root)) or bool(_unlabelled_rows(root, set()))


FORMAT = DatasetFormat(
    name="dfdc",
    accepts="dfdc_train_part_N/metadata.json for any N (or one part folder), train_sample_videos/metadata"
    ".json with test_videos/, or the test set with labels.csv (filename,label) or metadata.json (is_fake)",
    detect=_detect,
    read=read,
)
