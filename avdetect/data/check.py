"""Is a dataset what its manifest says? Everything that can be told from the rows and from opening the files."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from avdetect.data.manifest import SHOWN, Manifest, class_counts
from avdetect.data.published import PUBLISHED, Counts, Published
from avdetect.data.workers import run_in_workers
from avdetect.errors import MediaError
from avdetect.media.facts import trial_read
from avdetect.media.files import file_sha256
from avdetect.media.frames import is_sequence, open_sequence

ERROR, WARNING, NOTE = "error", "warning", "note"
LOPSIDED = 20  # times as many clips of one class as of the other
GENUINE_WORDS = {"real", "genuine", "original", "originals", "bonafide"}
FAKE_WORDS = {"fake", "fakes", "synthesis", "manipulated", "spoof", "spoofed"}
GENUINE_METHODS = (*GENUINE_WORDS, "youtube", "actors", "-")
LESS = "it is a part of the dataset, or its index was misread"
SURE = 10.0  # natural log of how much likelier the counts are with exchanged classes

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Finding:
    """One thing that was found: `severity` is error, warning or note, `check` names what was looked at."""

    severity: str
    check: str
    message: str
    rows: int = 0
    examples: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"examples": list(self.examples)}

    def __str__(self) -> str:
        named = ", ".join(self.examples)
        more = ", …" if self.rows > len(self.examples) > 0 else ""
        return f"{self.severity:8} {self.check:11} {self.message}" + (f": {named}{more}" if named else "")


def check_manifest(manifest: Manifest, workers: int = 2, progress: Progress | None = None) -> list[Finding]:
    """Findings about the rows and their files, the errors first. A bad file is a finding and never raises.

    Of every video both ends are decoded, of sound and pictures everything. Files are compared by content
    (SHA-256) where their sizes are the same. `workers`: processes, 0 = this one; `progress` is called with
    (files done, files in all).
    """
    found = [Finding(ERROR, "rows", fault) for fault in manifest.faults()]
    found += [*_labels(manifest), *_folders_across_splits(manifest)]
    found += [*_named_polarity(manifest), *_published(manifest), *_files(manifest, workers, progress)]
    order = (ERROR, WARNING, NOTE)
    return sorted(found, key=lambda finding: order.index(finding.severity))


def _about(severity: str, check: str, message: str, keys: Iterable[str]) -> Finding:
    keys = list(keys)
    return Finding(severity, check, message, len(keys), tuple(keys[:SHOWN]))


def _true(condition: pd.Series) -> pd.Series:
    return condition.fillna(False).astype(bool)


def _labels(manifest: Manifest) -> Iterator[Finding]:
    table, keys = manifest.table, manifest.keys
    if not len(table):
        yield Finding(ERROR, "rows", "the manifest has no rows")
    unlabelled = table["label"].isna()
    if unlabelled.any():
        yield _about(WARNING, "labels", f"{unlabelled.sum()} rows have no label", keys[unlabelled])
    homeless = table["split"].isna() & ~unlabelled
    if homeless.any():
        yield _about(WARNING, "splits", f"{homeless.sum()} labelled rows are in no split", keys[homeless])
    absolute = table["root"].str.fullmatch(r"/|[A-Za-z]:/")
    if absolute.any():
        what = f"{absolute.sum()} rows name files by absolute paths outside of the manifest's folder"
        yield _about(WARNING, "rows", f"{what}: it can be used on this machine only", keys[absolute])
    neither = _true((table["label"] == 1) & (table["visual_label"] == 0) & (table["audio_label"] == 0))
    neither &= ~_true(table["method"] == "out_of_sync")
    if neither.any():
        what = f"{neither.sum()} fakes have neither a fake face nor a fake voice: were all names of the kinds of "
        yield _about(ERROR, "labels", what + "fakes understood?", keys[neither])
    for (dataset, split), rows in table.groupby(["dataset", "split"], sort=True):
        counts = class_counts(rows["label"])
        genuine, fake = counts["genuine"], counts["fake"]
        text = f"{dataset} {split}: {genuine:,} genuine, {fake:,} fake"
        if not genuine + fake:
            continue
        if not (genuine and fake):
            yield Finding(WARNING, "balance", f"{text}: only one class")
        elif max(genuine, fake) > LOPSIDED * min(genuine, fake):
            yield Finding(WARNING, "balance", f"{text}: more than {LOPSIDED} to 1")
        else:
            yield Finding(NOTE, "balance", text)


def _folders_across_splits(manifest: Manifest) -> Iterator[Finding]:
    """Pictures of one folder on both sides, where nothing else tells what belongs together."""
    table = manifest.table
    pictures = table[_true(table["kind"] == "image") & table["source"].isna() & table["split"].notna()]
    folders = (pictures["root"] + "/" + pictures["path"]).str.replace("/[^/]*$", "", regex=True)
    splits = pictures["split"].groupby(folders).nunique()
    mixed = splits.index[splits > 1]
    if len(mixed):
        what = f"pictures of {len(mixed)} folders are in more than one split and have no source: a video's frames, "
        yield _about(WARNING, "leak", what + "or a person's, may be on both sides", mixed)


def _named_polarity(manifest: Manifest) -> Iterator[Finding]:
    """Labels against what folders, file names and methods are called."""
    table = manifest.table
    words = pd.Series([_meaning(path) for path in table["path"]], index=table.index, dtype="Int64")
    method = table["method"].str.lower()
    words = words.mask(words.isna() & method.notna() & ~method.isin(GENUINE_METHODS), 1)
    for dataset, rows in table.assign(word=words).groupby("dataset", sort=True):
        known = rows[rows["word"].notna() & rows["label"].notna()]
        against = known[known["word"].astype(int) != known["label"].astype(int)]
        if against.empty:
            continue
        keys = manifest.keys[against.index]
        if 2 * len(against) > len(known):
            what = f"{dataset}: the labels look inverted: {len(against):,} of {len(known):,} names of folders, files"
            yield _about(ERROR, "polarity", what + " or methods say the opposite (1 must be fake)", keys)
        else:
            what = f"{dataset}: {len(against):,} labels contradict the name of a folder, a file or the method"
            yield _about(WARNING, "polarity", what, keys)


def _meaning(path: str) -> int | None:
    """1 or 0 where words of a path say fake or genuine, None where they say nothing or both."""
    said = set()
    for part in path.lower().replace("bona-fide", "bonafide").split("/"):
        words = set(re.split(r"[^a-z]+", part))
        both = bool(words & GENUINE_WORDS), bool(words & FAKE_WORDS)
        if both[0] != both[1]:
            said.add(int(both[1]))
    return said.pop() if len(said) == 1 else None


def _published(manifest: Manifest) -> Iterator[Finding]:
    for dataset, rows in manifest.table.groupby("dataset", sort=True):
        known = PUBLISHED.get(str(dataset))
        if known is None:
            continue
        labelled = rows[rows["label"].notna()]
        if known.phase and "phase" in labelled:
            labelled = labelled[_true(labelled["phase"] == known.phase)]
        if known.methods:
            yield from _by_method(str(dataset), labelled, known)
            continue
        for split, counts in known.splits.items():
            part = labelled[_true(labelled["split"] == split)]
            if len(part):
                yield from _against(f"{dataset} {split}", _counts(part), counts, known.exact)
        if known.total and len(labelled):
            yield from _against(f"{dataset} in all", _counts(labelled), known.total, known.exact)


def _counts(rows: pd.DataFrame) -> Counts:
    counts = class_counts(rows["label"])
    return counts["genuine"], counts["fake"]


def _by_method(dataset: str, rows: pd.DataFrame, known: Published) -> Iterator[Finding]:
    """The fakes of every method and the genuine videos, in every compression: a video that is known by its
    file name alone loses all methods but one."""
    ours = rows[rows["method"].isna() | rows["method"].isin(known.methods)]
    kinds = ["split", "quality", "method"]
    for (split, quality, method), part in ours.fillna({"quality": "", "method": ""}).groupby(
        kinds, sort=True
    ):
        genuine, fake = known.splits.get(str(split), (0, 0))
        wanted, what = (fake, "fakes") if method else (genuine, "genuine videos")
        named = " ".join(filter(None, (dataset, str(split), str(quality), str(method))))
        if len(part) != wanted:
            text = f"{named}: {len(part):,} {what}, the publisher has {wanted:,}"
            yield Finding(WARNING, "published", f"{text}: {LESS}", len(part))


def _against(what: str, found: Counts, published: Counts, exact: bool) -> Iterator[Finding]:
    """Counts of genuine and fake clips against the publisher's."""
    stated = f"the publisher has {published[0]:,} genuine and {published[1]:,} fake"
    here = f"{what}: {found[0]:,} genuine and {found[1]:,} fake, {stated}"
    if found == published:
        yield Finding(NOTE, "published", f"{what}: the publisher's counts, {found[0]:,} and {found[1]:,}")
    elif found == published[::-1] or _looks_inverted(found, published):
        yield Finding(ERROR, "polarity", f"{here}: the labels look inverted (1 must be fake)", sum(found))
    elif sum(published) - sum(found) == 1:
        hint = "one row is lost, as when a list without a header is read as if it had one"
        yield Finding(WARNING, "published", f"{here}: {hint}")
    else:
        yield Finding(WARNING if exact else NOTE, "published", f"{here}: {LESS}")


def _looks_inverted(found: Counts, published: Counts) -> bool:
    """Whether exchanged classes explain the share of fakes, and chance does not."""
    share, here = published[1] / sum(published), found[1] / sum(found)
    likelier = (found[0] - found[1]) * math.log(share / (1 - share))
    return likelier > SURE and abs(here - (1 - share)) < abs(here - 0.5)


def _files(manifest: Manifest, workers: int, progress: Progress | None) -> Iterator[Finding]:
    if not len(manifest):
        return
    missing = manifest.missing_files()
    if len(missing):
        yield _about(ERROR, "missing", f"{len(missing)} of {len(manifest)} files are not there", missing.keys)
    gone = manifest.keys.isin(missing.keys)
    rows = manifest.table[~gone].copy()
    if rows.empty:
        return
    results = _read_all(rows, workers, progress)
    keys = manifest.keys
    bad = {row: result["reason"] for row, result in results.items() if result["reason"]}
    if bad:
        told = [f"{keys[row]} ({reason})" for row, reason in sorted(bad.items())]
        yield _about(ERROR, "unreadable", f"{len(bad)} of {len(rows)} files cannot be read", told)
    hurt = {row: "; ".join(result["warnings"]) for row, result in results.items() if result["warnings"]}
    if hurt:
        told = [f"{keys[row]} ({text})" for row, text in sorted(hurt.items())]
        yield _about(WARNING, "damaged", f"{len(hurt)} files are damaged in part", told)
    rows["sha256"] = pd.Series({row: result["sha256"] for row, result in results.items()}, dtype="object")
    yield from _duplicates(rows[rows["sha256"].notna()], keys)


def _duplicates(rows: pd.DataFrame, keys: pd.Series) -> Iterator[Finding]:
    groups = [part for _, part in rows.groupby("sha256", sort=False) if len(part) > 1]
    across = [part for part in groups if part["split"].nunique() > 1]
    inside = [part for part in groups if part["split"].nunique() <= 1]
    opposed = [part for part in groups if part["label"].nunique() > 1]

    def told(parts: list[pd.DataFrame]) -> list[str]:
        return [" = ".join(keys[row] for row in part.index[:3]) for part in parts]

    if across:
        what = f"{len(across)} recordings are in more than one split under different names (same content)"
        yield _about(ERROR, "duplicates", what, told(across))
    if opposed:
        what = f"{len(opposed)} recordings are labelled both genuine and fake (same content)"
        yield _about(ERROR, "duplicates", what, told(opposed))
    if inside:
        what = f"{len(inside)} recordings are listed several times inside a split (same content)"
        yield _about(WARNING, "duplicates", what, told(inside))


def _read_all(rows: pd.DataFrame, workers: int, progress: Progress | None) -> dict[int, dict[str, Any]]:
    """Row number -> {"reason", "warnings", "sha256"} of every file, each opened once."""
    files = rows["root"] + "/" + rows["path"]
    unique = files.drop_duplicates()
    sizes = unique.map(_size)
    repeated = unique.isin(files[files.duplicated()])
    shared = sizes.duplicated(keep=False) | sizes.isna() | repeated  # other sizes, other content
    tasks = [
        (path, None if pd.isna(kind) else str(kind), bool(hashed))
        for path, kind, hashed in zip(unique, rows.loc[unique.index, "kind"], shared, strict=True)
    ]
    results = {}
    for done, (task, result, death) in enumerate(run_in_workers(tasks, _make_reader, workers), start=1):
        results[task[0]] = {"reason": death, "warnings": [], "sha256": None} if death else result
        if progress is not None:
            progress(done, len(tasks))
    return {row: results[file] for row, file in files.items()}


def _size(path: str) -> int | None:
    """Bytes of a file; None for a folder of frames, whose content is not told by one number."""
    try:
        return None if is_sequence(path) else os.stat(path).st_size
    except OSError:
        return None


def _make_reader() -> Callable[[tuple[str, str | None, bool]], dict[str, Any]]:
    return _read_one


def _read_one(task: tuple[str, str | None, bool]) -> dict[str, Any]:
    path, kind, hashed = task
    result: dict[str, Any] = {"reason": "", "warnings": [], "sha256": None}
    try:
        result["warnings"] = trial_read(path, kind)
        if hashed:
            result["sha256"] = open_sequence(path).info().sha256 if is_sequence(path) else file_sha256(path)
    except MediaError as error:
        result["reason"] = str(error)
    except Exception as error:  # whatever a damaged file makes a decoder do is a finding about that file
        result["reason"] = f"{path}: {type(error).__name__}: {error}"
    return result
