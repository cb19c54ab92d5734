"""ASVspoof 2019 LA (logical access): protocols of the publisher, official split.

    LA/ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.{train.trn,dev.trl,eval.trl}.txt[.gz]
    LA/ASVspoof2019_LA_{train,dev,eval}/flac/<utterance>.flac

A line is `speaker utterance - attack key`, key `bonafide` or `spoof`.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from avdetect.data.formats.base import DatasetFormat
from avdetect.data.manifest import Manifest, class_counts
from avdetect.data.textfiles import read_lines
from avdetect.errors import DataError

DATASET = "ASVspoof2019 LA"
PROTOCOLS = "ASVspoof2019_LA_cm_protocols"
# part of the corpus: (ending of the protocol's name, split, bona fide, spoofed)
PARTS = {
    "train": ("train.trn", "train", 2_580, 22_800),
    "dev": ("dev.trl", "val", 2_548, 22_296),
    "eval": ("eval.trl", "test", 7_355, 63_882),
}


def _protocol(root: Path, part: str) -> tuple[Path, str] | None:
    """Protocol file of a part, and what stands before the audio folders' names, relative to `root`."""
    name = f"ASVspoof2019.LA.cm.{PARTS[part][0]}.txt"
    places = ((root / "LA" / PROTOCOLS, "LA/"), (root / PROTOCOLS, ""), (root, ""))
    for folder, prefix in places:
        for file in (folder / name, folder / f"{name}.gz"):
            if file.is_file():
                return file, prefix
    return None


def _lines(file: Path) -> pd.DataFrame:
    rows = []
    for number, line in read_lines(file):
        fields = line.split()
        if len(fields) != 5 or fields[4] not in ("bonafide", "spoof"):
            expected = "`speaker utterance - attack bonafide|spoof`"
            raise DataError(f"{file} line {number}: expected {expected}, found {line!r}")
        rows.append(fields)
    return pd.DataFrame(rows, columns=["subject", "utterance", "environment", "method", "key"])


def read(root: Path, seed: int = 0) -> Manifest:
    """All trials of the protocols that are there; `seed` is not used, the split is the publisher's."""
    root = root.parent if root.name == PROTOCOLS else root  # the protocol folder itself was given
    tables, notes = [], []
    for part, (ending, split, genuine, fake) in PARTS.items():
        found = _protocol(root, part)
        if found is None:
            notes.append(
                f"ASVspoof 2019 LA {part}: no protocol ASVspoof2019.LA.cm.{ending}.txt, part left out"
            )
            continue
        file, prefix = found
        lines = _lines(file)
        folder = f"{prefix}ASVspoof2019_LA_{part}/flac/"
        label = (lines["key"] == "spoof").astype("Int64")
        tables.append(pd.DataFrame({
            "path": folder + lines["utterance"] + ".flac", "kind": "audio", "label": label,
            "audio_label": label,
            "split": split, "subject": lines["subject"], "source": lines["utterance"],
            "method": lines["method"].replace("-", pd.NA), "dataset": DATASET,
            "utterance": lines["utterance"],
        }))  # fmt: skip
        counts = class_counts(label)
        if (counts["genuine"], counts["fake"]) != (genuine, fake):
            notes.append(
                f"ASVspoof 2019 LA {part}: {counts['genuine']} bona fide and {counts['fake']} spoofed "
                f"trials, where the publisher has {genuine} and {fake}"
            )
    if not tables:
        raise DataError(f"{root} has no protocol of ASVspoof 2019 LA: expected {FORMAT.accepts}")
    return Manifest(pd.concat(tables, ignore_index=True), root=root, name=DATASET, notes=notes)


FORMAT = DatasetFormat(
    name="asvspoof2019_la",
    accepts=f"LA/{PROTOCOLS}/ASVspoof2019.LA.cm.{{train.trn,dev.trl,eval.trl}}.txt and "
    "LA/ASVspoof2019_LA_{train,dev,eval}/flac/*.flac (LA/ itself, or the protocols alone, will do)",
    detect=lambda root: any(_protocol(root, part) for part in PARTS),
    read=read,
)
