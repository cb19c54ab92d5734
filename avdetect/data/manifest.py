"""The manifest: one table of clips, whatever dataset they come from.

Columns (all optional but `path`; extra columns are kept as they are):

| column | content |
|---|---|
| `path` | file (or folder of frames, `avdetect.media.frames`), relative to `root`, with forward slashes |
| `kind` | `video`, `audio` or `image` (told from the suffix where missing) |
| `label`, `visual_label`, `audio_label` | 1 = fake, 0 = genuine, missing = not known |
| `split` | `train`, `val`, `test` or missing |
| `subject` | identities seen or heard, joined with `+` |
| `source` | group made from one recording; must not cross splits |
| `method`, `quality`, `dataset` | free text |
| `root` | folder that `path` is relative to; missing in a file = the folder of that file |
| `fake_periods` | JSON list of `[start_s, end_s]` |
| `gender`, `age`, `skin_tone`, `race` | as the dataset's publisher gives them |

The key of a clip is `dataset/path`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import pandas as pd

from avdetect.data.textfiles import read_table
from avdetect.errors import ConfigError, DataError
from avdetect.media.frames import place_on_disk

KINDS = ("video", "audio", "image")
SPLITS = ("train", "val", "test")
LABELS = ("label", "visual_label", "audio_label")
TEXTS = ("path", "kind", "split", "subject", "source", "method", "quality", "dataset", "root", "fake_periods")
GROUPS = ("gender", "age", "skin_tone", "race")
COLUMNS = (
    "path", "kind", *LABELS, "split", "subject", "source", "method", "quality", "dataset", "root",
    "fake_periods", *GROUPS,
)  # fmt: skip
KIND_OF_SUFFIX = {
    **dict.fromkeys(
        (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".3gp", ".ts"), "video"
    ),
    **dict.fromkeys((".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus", ".wma"), "audio"),
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"), "image"),
}
_PAIR = r"\[\s*{0}\s*,\s*{0}\s*\]".format(r"\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
PERIODS = rf"\s*\[\s*(?:{_PAIR}(?:\s*,\s*{_PAIR})*\s*)?\]\s*"
SHOWN = 5  # offending rows named in a message


class Manifest:
    """A table of clips with its checks.

    `table` is a pandas DataFrame with the columns of this module (labels as `Int64`, text as `string`);
    `notes` are sentences about how it came to be (what a dataset reader found, what it did not).
    """

    def __init__(
        self, table: pd.DataFrame, root: str | Path = ".", name: str = "manifest", notes: Iterable[str] = ()
    ):
        """`root`: folder for rows without one; `name`: for messages, and the dataset of rows without one.

        Raises DataError where there is no `path`, or a label is not a number.
        """
        self.name = name
        self.notes = list(notes)
        self.table = _normalised(table, Path(root), name)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def keys(self) -> pd.Series:
        """`dataset/path` of every row."""
        return self.table["dataset"] + "/" + self.table["path"]

    @classmethod
    def read(cls, path: str | Path, check: bool = True) -> Manifest:
        """Read a `.csv` or `.parquet` manifest; relative roots are taken from the file's own folder.

        `check=False` leaves out the checks, for a table that is filtered first (`read(p,
        False).where(q).check()`).
        """
        path = Path(path)
        readers = {".csv": _read_csv, ".parquet": pd.read_parquet}
        if path.suffix.lower() not in readers:
            raise DataError(f"{path}: a manifest is a .csv or .parquet file")
        if not path.is_file():
            raise DataError(f"{path}: there is no such manifest; `avdetect data index` writes one")
        try:
            table = readers[path.suffix.lower()](path)
        except (ValueError, OSError) as error:  # arrow's parse errors are ValueErrors
            raise DataError(f"{path} cannot be read as a manifest: {error}") from error
        manifest = cls(table, root=path.parent, name=path.stem)
        return manifest.check() if check else manifest

    def write(self, path: str | Path) -> Path:
        """Write `.csv` or `.parquet`, atomically; roots below the file's folder are stored relative to it."""
        path = Path(path)
        table = self.table.copy()
        here = path.parent.resolve()
        roots = {root: _relative_root(root, here) for root in table["root"].unique()}
        table["root"] = table["root"].map(roots).astype("string")
        optional = [c for c in COLUMNS if c in table and c != "path" and table[c].isna().all()]
        table = table.drop(columns=optional)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        if path.suffix.lower() == ".parquet":
            table.to_parquet(part, index=False)
        elif path.suffix.lower() == ".csv":
            table.to_csv(part, index=False, lineterminator="\n")
        else:
            raise DataError(f"{path}: a manifest is written as .csv or .parquet")
        os.replace(part, path)
        return path

    def check(self) -> Manifest:
        """Return self, or raise one DataError that names every kind of fault with its offending rows."""
        faults = self.faults()
        if faults:
            raise DataError(f"{self.name} ({len(self)} rows) is not usable: " + "; ".join(faults))
        return self

    def faults(self) -> list[str]:
        """A sentence on every kind of fault, with its offending rows."""
        table, keys = self.table, self.keys
        conflict = (table["label"] == 0) & ((table["visual_label"] == 1) | (table["audio_label"] == 1))
        faults = [
            _fault("listed more than once (same dataset and path)", keys[keys.duplicated()]),
            _fault(
                "path leads out of its root (name the folder in the column root)",
                keys[table["path"].str.match(r"\.\.(?:/|$)")],
            ),
            *(
                _fault(
                    f"{c} is neither 0, 1 nor missing",
                    _told(keys, table[c], ~table[c].isin([0, 1]) & table[c].notna()),
                )
                for c in LABELS
            ),
            _fault("label is 0 although visual_label or audio_label is 1", keys[conflict.fillna(False)]),
            _fault(
                f"kind is none of {', '.join(KINDS)}", _told(keys, table["kind"], ~table["kind"].isin(KINDS))
            ),
            _fault(
                f"split is none of {', '.join(SPLITS)}, missing",
                _told(keys, table["split"], table["split"].notna() & ~table["split"].isin(SPLITS)),
            ),
            _fault(
                "fake_periods is no JSON list of [start_s, end_s]",
                _told(keys, table["fake_periods"], ~table["fake_periods"].str.fullmatch(PERIODS)),
            ),
            *self._leaks(),
        ]
        return [fault for fault in faults if fault]

    def _leaks(self) -> list[str]:
        """Sources and subjects that are in more than one split."""
        known = self.table[self.table["split"].notna()]
        subjects = known[["subject", "split"]].dropna().assign(subject=lambda t: t["subject"].str.split("+"))
        subjects = subjects.explode("subject").assign(subject=lambda t: t["subject"].str.strip())
        faults = []
        for column, rows in (("source", known[["source", "split"]].dropna()), ("subject", subjects)):
            pairs = rows[rows[column] != ""].drop_duplicates().sort_values([column, "split"])
            pairs = pairs[pairs.duplicated(column, keep=False)]
            leaks = pairs.groupby(column)["split"].agg(" and ".join)
            named = pd.Series([f"{group} in {splits}" for group, splits in leaks.items()], dtype="string")
            faults.append(
                _fault(f"a {column} in more than one split leaks test knowledge", named, unit=column)
            )
        return faults

    def where(self, query: str) -> Manifest:
        """Rows for which a pandas query holds, as `split == 'test' and dataset != 'GRID'`.

        Raises ConfigError for a query that is not a condition on the columns.
        """
        try:
            mask = self.table.eval(query, engine="python")
        except Exception as error:  # pandas raises whatever the expression raises
            raise ConfigError(
                f"the row filter {query!r} is no condition on the columns {', '.join(self.table)} ({error})"
            ) from error
        if not isinstance(mask, pd.Series) or not pd.api.types.is_bool_dtype(mask):
            raise ConfigError(f"the row filter {query!r} is no condition: write one as \"split == 'test'\"")
        return self._like(self.table[mask.fillna(False).astype(bool)])

    def file_of(self, row) -> Path:
        """File of a row (anything with `root` and `path`)."""
        return Path(row["root"]) / row["path"]

    def missing_files(self) -> Manifest:
        """The rows whose file does not exist."""
        return self._like(self.table[~self._there()])

    def existing(self, report: Callable[[str], None]) -> Manifest:
        """The rows whose file exists; `report` gets one sentence about the others, if any."""
        missing = self.missing_files()
        if not len(missing):
            return self
        report(missing_sentence(missing, len(self)))
        return self._like(self.table[self._there()])

    def _there(self) -> pd.Series:
        """Whether each row's file (or folder of frames, or the archive that it is in) exists.

        A folder is listed once, however many rows are in it.
        """
        files = (self.table["root"] + "/" + self.table["path"]).map(place_on_disk).str.rpartition("/")
        folders = {folder: _names_in(folder) for folder in files[0].unique()}
        there = [name in folders[folder] for folder, name in zip(files[0], files[2], strict=True)]
        return pd.Series(there, index=self.table.index, dtype=bool)

    @staticmethod
    def join(manifests: Iterable[Manifest], name: str = "joined manifest", check: bool = True) -> Manifest:
        """One manifest of several; leaks and duplicates between them are errors unless `check=False`."""
        manifests = list(manifests)
        if not manifests:
            raise DataError("no manifest was given to join")
        table = pd.concat([m.table for m in manifests], ignore_index=True)
        joined = Manifest(table, name=name, notes=[note for m in manifests for note in m.notes])
        return joined.check() if check else joined

    def summary(self) -> str:
        """Rows per dataset, kind and split as text: `DFDC  video  train  3200 genuine  3200 fake`."""
        table = self.table.assign(split=self.table["split"].fillna("no split"))
        lines = []
        for (dataset, kind, split), rows in table.groupby(
            ["dataset", "kind", "split"], dropna=False, sort=True
        ):
            counts = class_counts(rows["label"])
            lines.append(
                f"{dataset}  {kind}  {split}  " + "  ".join(f"{n} {c}" for c, n in counts.items() if n)
            )
        return "\n".join(lines) if lines else "no rows"

    def _like(self, table: pd.DataFrame) -> Manifest:
        return Manifest(table.reset_index(drop=True), name=self.name, notes=self.notes)


def missing_sentence(missing: Manifest, total: int) -> str:
    """One sentence about the rows without a file: how many, and the first few by name."""
    names = ", ".join(missing.table["path"].head(SHOWN))
    more = ", …" if len(missing) > SHOWN else ""
    listed = f"{len(missing)} of {total} files listed in {missing.name}"
    return f"{listed} are not there and are skipped: {names}{more}"


def class_counts(labels: pd.Series) -> dict[str, int]:
    """Number of genuine, fake and unlabelled rows."""
    return {
        "genuine": int((labels == 0).sum()), "fake": int((labels == 1).sum()),
        "unlabelled": int(labels.isna().sum()),
    }  # fmt: skip


def stage_label(table: pd.DataFrame, stage: str) -> pd.Series:
    """What a training stage takes for the truth of each row: 0, 1, or missing = not for this stage.

    - `clip`: `label`.
    - `visual`: `visual_label`. Where it is missing and nothing says that the fake part is the voice, `label`:
      DFDC labels clips only, and nearly all of its fakes are face swaps. Never for audio files.
    - `audio`: `audio_label`. Where it is missing and nothing says that the fake part is the face, `label`
    (with
      DFDC this is noisy: few of its fake clips have a fake voice). Never for images, nor for clips known
      to be silent (column `has_audio` of a prepared set).
    - `lipsync`: 0 for genuine videos, 1 for those with method `out_of_sync`; other fakes are missing, as a
      swapped face or a resynthesised voice may well be in time. A column `sync_label` goes before that where it
      has a value. Training makes its own shifted examples.
    """
    if stage not in ("clip", "visual", "audio", "lipsync"):
        raise ConfigError(f"unknown stage {stage!r}: one of clip, visual, audio, lipsync")
    label = table["label"].astype("Int64")
    silent = pd.Series(False, index=table.index)
    if "has_audio" in table:
        silent = table["has_audio"].astype("boolean").eq(False).fillna(False).astype(bool)
    if stage == "clip":
        return label
    if stage == "lipsync":
        out_of_sync = table["method"].eq("out_of_sync").fillna(False).astype(bool)
        known = label.eq(0).fillna(False).astype(bool) | out_of_sync
        truth = label.where(known & table["kind"].eq("video").fillna(False).astype(bool) & ~silent)
        if "sync_label" in table:
            truth = table["sync_label"].astype("Int64").fillna(truth)
        return truth.rename("lipsync_label")
    own, other = ("visual_label", "audio_label") if stage == "visual" else ("audio_label", "visual_label")
    elsewhere = table[other].eq(1).fillna(False).astype(bool) | table["method"].eq("out_of_sync").fillna(
        False
    )
    truth = table[own].astype("Int64").fillna(label.mask(elsewhere.astype(bool)))
    unfit = table["kind"].eq("audio" if stage == "visual" else "image").fillna(False).astype(bool)
    return truth.mask(unfit | (silent if stage == "audio" else False)).rename(f"{stage}_label")


def require_both_classes(table: pd.DataFrame, stage: str, what: str = "the data") -> None:
    """Raise DataError unless the rows hold both genuine and fake examples for a stage."""
    counts = class_counts(stage_label(table, stage))
    if counts["genuine"] and counts["fake"]:
        return
    raise DataError(
        f"Training on one class alone teaches nothing: for the {stage} stage {what} has {counts['genuine']} "
        f"genuine and {counts['fake']} fake clips, so join a dataset or a part that has the other class."
    )


def _read_csv(path: Path) -> pd.DataFrame:
    return read_table(path, dtype=dict.fromkeys((*TEXTS, *GROUPS), "string"))


def _normalised(table: pd.DataFrame, root: Path, name: str) -> pd.DataFrame:
    if "path" not in table:
        raise DataError(f"{name} has no column `path`, only: {', '.join(map(str, table)) or 'none'}")
    table = table.copy()
    for column in COLUMNS:
        if column not in table:
            table[column] = pd.NA
    for column in (*TEXTS, *GROUPS):
        table[column] = table[column].astype("string").str.strip().replace("", pd.NA)
    for column in LABELS:
        try:
            table[column] = pd.to_numeric(table[column]).astype("Int64")
        except (ValueError, TypeError) as error:
            raise DataError(f"{name}: column {column} must hold 0, 1 or nothing ({error})") from error
    if table["path"].isna().any():
        raise DataError(f"{name}: {int(table['path'].isna().sum())} rows have no path")
    table["dataset"] = table["dataset"].fillna(name)
    base = root.resolve()
    folders = {r: str(base / r.replace("\\", "/")) for r in table["root"].dropna().unique()}
    table["root"] = table["root"].map(folders).astype("string").fillna(str(base))
    odd = table["path"].str.contains(r"\\|^/|^[A-Za-z]:|//|(?:^|/)\.{1,2}(?:/|$)", regex=True)
    if odd.any():
        places = table.loc[odd, ["root", "path"]].itertuples(index=False)
        table.loc[odd, ["root", "path"]] = [_relative(root, path) for root, path in places]
    suffix = table["path"].str.extract(r"(\.[^./]+)$")[0].str.lower()
    table["kind"] = table["kind"].fillna(suffix.map(KIND_OF_SUFFIX).astype("string"))
    extra = [c for c in table if c not in COLUMNS]
    return table[[*COLUMNS, *extra]]


def _relative(root: str, path: str) -> tuple[str, str]:
    """Root and relative posix path of a path that has backslashes, dots, a drive or a leading slash."""
    path = (
        os.path.normpath(path.replace("\\", "/")).replace("\\", "/").lstrip("/" if path[:2] == "//" else "")
    )
    drive = re.match(r"[A-Za-z]:/", path)
    if not path.startswith("/") and not drive:
        return root, path
    if path.startswith(root.rstrip("/") + "/"):
        return root, str(PurePosixPath(path).relative_to(root))
    if drive:
        return drive.group(), path[3:]
    # Some publishers (AI-Face) put a slash before paths that are relative: believe the file that is there.
    if os.path.exists(path) and not os.path.exists(root + path):
        return "/", path[1:]
    return root, path[1:]


def _relative_root(root: str, here: Path) -> str | None:
    if Path(root) == here:
        return None
    return Path(root).relative_to(here).as_posix() if Path(root).is_relative_to(here) else root


def _names_in(folder: str) -> set[str]:
    """Files, and folders that may hold frames: not those that are named as a media file is."""
    try:
        with os.scandir(folder) as entries:
            return {
                e.name for e in entries if Path(e.name).suffix.lower() not in KIND_OF_SUFFIX or _is_file(e)
            }
    except PermissionError as error:
        raise DataError(f"{folder} cannot be listed ({error.strerror}): check its permissions") from error
    except OSError:  # no such folder, a loop of links, a name that is too long: no file can be there
        return set()


def _is_file(entry: os.DirEntry) -> bool:
    """As `entry.is_file()`, which raises for a link to itself."""
    return Path(entry.path).is_file() if entry.is_symlink() else entry.is_file()


def _told(keys: pd.Series, values: pd.Series, wrong: pd.Series) -> pd.Series:
    wrong = wrong.fillna(False).astype(bool)
    return keys[wrong] + " (" + values[wrong].astype("string").fillna("missing") + ")"


def _fault(what: str, offending: pd.Series, unit: str = "row") -> str:
    if offending.empty:
        return ""
    more = ", …" if len(offending) > SHOWN else ""
    count = f"{len(offending)} {unit}{'s' * (len(offending) > 1)}"
    return f"{what}: {count}: {', '.join(offending.head(SHOWN))}{more}"
