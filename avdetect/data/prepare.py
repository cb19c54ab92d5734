"""Extract every clip of a manifest once: face crops, mouth crops, 16 kHz audio.

A prepared folder:

    settings.json    the clip settings that everything in it was made with
    prepared.csv     one row a clip: key, path, root, status ok|failed|missing, reason, file, tracks, crops,
                     mouths (longest run of mouth crops, grid frames), has_audio, duration_s, size_bytes,
                     mtime_ns
    clips/           one `.npz` a clip (`avdetect.media.save_clip`), named by the hash of its key
    journal.jsonl    rows of a run that is going on or was killed; prepared.csv takes them over
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from avdetect.data.guard import check_split
from avdetect.data.manifest import Manifest, stage_label
from avdetect.data.workers import run_in_workers
from avdetect.errors import AvdetectError, DataError
from avdetect.media import Clip, ClipFile, ClipSettings, load_clip, read_clip, save_clip
from avdetect.media.frames import place_on_disk

SCHEMA = "avdetect.prepared/1"
RECORD = (
    "key", "path", "root", "status", "reason", "file", "tracks", "crops", "mouths", "has_audio", "duration_s",
    "size_bytes", "mtime_ns",
)  # fmt: skip
DTYPES = {
    **dict.fromkeys(("key", "path", "root", "status", "reason", "file"), "string"),
    **dict.fromkeys(("tracks", "crops", "mouths", "size_bytes", "mtime_ns"), "Int64"),
    "has_audio": "boolean", "duration_s": "float64",
}  # fmt: skip
LINE_EVERY_S = 15.0
LISTED = 20


@dataclass(frozen=True)
class Task:
    """One clip to extract: its record so far, where it is read from and written to."""

    record: dict[str, Any]
    source: str
    target: str


def prepare(
    manifest: Manifest,
    out_dir: str | Path,
    settings: ClipSettings | None = None,
    workers: int = 2,
    progress: bool | str = True,
    detector_factory: Callable[[], Any] | None = None,
) -> PreparedSet:
    """Extract the clips of `manifest` into `out_dir` and return them as a PreparedSet.

    What is there already is kept: a clip is read again only where its file changed (size or time of change),
    it failed before, or its result is gone. A run that was killed goes on where it stood. Clips that cannot
    be read are recorded with their reason, so is one whose worker process dies; they do not stop the others.

    `workers`: processes (0 = this process). `progress`: True = a bar on a terminal and lines elsewhere, "bar"
    = a bar anyway, False = silence; all on stderr. `detector_factory`: picklable, makes a worker's
    FaceDetector (default: MTCNN). Raises DataError where `out_dir` was prepared with other settings or holds
    other things.
    """
    out, settings = Path(out_dir), settings or ClipSettings()
    keys, here = manifest.keys, set(manifest.keys)
    if not len(manifest):
        raise DataError(f"{manifest.name} has no rows: there is nothing to prepare")
    if keys.duplicated().any():
        raise DataError(f"{manifest.name} lists {keys[keys.duplicated()].iloc[0]} more than once")
    _claim(out, settings)
    records = _load_records(out)
    _write_records(out, records)  # takes over the journal of a killed run, so that a new one can begin
    tasks = _open_tasks(manifest, out, records)

    make_work = partial(_make_work, settings, detector_factory, one_thread=workers > 0)
    with (
        open(out / "journal.jsonl", "a", encoding="utf-8") as journal,
        _progress(len(tasks), progress) as advance,
    ):
        for task, result, death in run_in_workers(tasks, make_work, workers):
            record = task.record | ({"status": "failed", "reason": death} if death else result)
            records[record["key"]] = record
            journal.write(json.dumps(record) + "\n")
            journal.flush()
            advance(record)
    # The manifest's rows in its order, then those of other manifests: a killed run ends with the same table.
    _write_records(
        out, {key: records[key] for key in keys} | {k: r for k, r in records.items() if k not in here}
    )
    prepared = PreparedSet.open(out, manifest)
    if progress:
        print(prepared.report(), file=sys.stderr)
    return prepared


class PreparedSet:
    """The clips of a manifest in a prepared folder.

    `table`: the manifest's rows with `key` and the columns of `prepared.csv` (status `unprepared` where a
    row was never prepared). `settings`: the ClipSettings of the folder.
    """

    def __init__(self, folder: Path, settings: ClipSettings, table: pd.DataFrame):
        self.folder, self.settings, self.table = folder, settings, table

    @classmethod
    def open(cls, out_dir: str | Path, manifest: Manifest) -> PreparedSet:
        """Join a prepared folder with a manifest by key; DataError where the folder is not a prepared one."""
        out = Path(out_dir)
        settings = _read_settings(out)
        if settings is None:
            raise DataError(
                f"{out} is not a prepared folder (no settings.json): run `avdetect data prepare` first"
            )
        records = _frame(_load_records(out)).drop(columns=["path", "root"])
        clash = [c for c in manifest.table if c in records.columns]
        table = manifest.table.drop(columns=clash).assign(key=manifest.keys)
        table = table.merge(records, on="key", how="left", validate="one_to_one")
        table["status"] = table["status"].fillna("unprepared")
        return cls(out, settings, table)

    def rows(self, stage: str, split: str | None = None, min_mouths: int = 1) -> pd.DataFrame:
        """Rows that a stage can learn from or be judged on, with their truth in column `truth` (0 or 1).

        Stages as in `manifest.stage_label`; visual needs a face crop, audio needs sound, lipsync both and a
        run of at least `min_mouths` mouth crops, clip any of them. Raises DataError where test rows are among
        them and the test split is not open (`avdetect.data.guard`).
        """
        table = self.table[self.table["status"] == "ok"]
        faces, sound = table["crops"].gt(0).astype(bool), table["has_audio"].astype(bool)
        fit = {
            "visual": faces, "audio": sound, "clip": faces | sound,
            "lipsync": table["mouths"].ge(min_mouths).astype(bool) & sound,
        }  # fmt: skip
        truth = stage_label(table, stage)
        keep = fit[stage] & truth.notna()
        if split is not None:
            keep &= table["split"].eq(split).fillna(False).astype(bool)
        check_split([split] if split is not None else table.loc[keep, "split"].unique())
        return table[keep].assign(truth=truth[keep].astype(int)).reset_index(drop=True)

    def clip_path(self, row) -> Path:
        """File of the prepared clip of a row."""
        return self.folder / row["file"]

    def clip_file(self, row) -> ClipFile:
        """The prepared clip, opened lazily."""
        return ClipFile(self.clip_path(row))

    def load(self, row) -> Clip:
        """The whole prepared clip."""
        return load_clip(self.clip_path(row))

    @property
    def failures(self) -> pd.DataFrame:
        """Rows that could not be prepared, with `status` and `reason`."""
        return self.table[self.table["status"] != "ok"]

    def report(self) -> str:
        """How many clips are ready, and the others with their reason."""
        counts = self.table["status"].value_counts()
        text = ", ".join(f"{n} {status}" for status, n in counts.items())
        lines = [f"{len(self.table)} clips: {text} ({self.folder})"]
        for row in self.failures.head(LISTED).itertuples():
            lines.append(
                f"  {row.status}: {row.key}: {row.reason if pd.notna(row.reason) else 'not prepared yet'}"
            )
        if len(self.failures) > LISTED:
            lines.append(f"  and {len(self.failures) - LISTED} more in {self.folder / 'prepared.csv'}")
        return "\n".join(lines)


def _open_tasks(manifest: Manifest, out: Path, records: dict[str, dict]) -> list[Task]:
    """Clips still to be extracted; `records` gets the rows of missing files, and keeps those that stand."""
    there = set(os.listdir(out / "clips"))
    tasks = []
    table = manifest.table
    for key, root, path in zip(manifest.keys, table["root"], table["path"], strict=True):
        name = hashlib.sha256(key.encode()).hexdigest()[:32] + ".npz"
        old = records.get(key, {})
        done = old.get("status") == "ok" and name in there
        record = dict.fromkeys(RECORD) | {"key": key, "path": path, "root": root}
        source = os.path.join(root, path)
        try:
            stat = os.stat(place_on_disk(source))
        except (FileNotFoundError, NotADirectoryError):
            if not done:  # a finished clip outlives its file
                records[key] = record | {"status": "missing", "reason": "the file is not there"}
            continue
        stamp = {"size_bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
        if done and all(old.get(what) == value for what, value in stamp.items()):
            records[key] = old | {"path": path, "root": root}
            continue
        record |= {"file": f"clips/{name}"} | stamp
        tasks.append(Task(record, source, str(out / "clips" / name)))
    return tasks


def _make_work(
    settings: ClipSettings, detector_factory: Callable | None, one_thread: bool
) -> Callable[[Task], dict]:
    """What a worker does with one task; MTCNN, the default detector, is made when the first file needs it."""
    if one_thread:
        import torch

        torch.set_num_threads(1)
    detector = detector_factory() if detector_factory else None

    def work(task: Task) -> dict[str, Any]:
        try:
            clip = read_clip(task.source, settings, detector)
            save_clip(clip, task.target)
        except AvdetectError as error:
            return {"status": "failed", "reason": str(error), "file": None}
        except Exception as error:  # a defect, but one file must not stop a hundred thousand others
            return {"status": "failed", "reason": f"unexpected {type(error).__name__}: {error}", "file": None}
        return {
            "status": "ok",
            "reason": None,
            "tracks": len(clip.tracks),
            "crops": sum(len(track.crops) for track in clip.tracks),
            "mouths": max((len(track.mouths) for track in clip.tracks), default=0),
            "has_audio": clip.audio is not None and clip.audio.size > 0,
            "duration_s": round(float(clip.duration_s), 6),
        }

    return work


def _claim(out: Path, settings: ClipSettings) -> None:
    """Make the folder, or see that the same settings made it; clear what a killed run left half-written."""
    found = _read_settings(out)
    if found is None:
        if out.exists() and any(out.iterdir()):
            raise DataError(f"{out} is not empty and is no prepared folder: choose another")
        (out / "clips").mkdir(parents=True, exist_ok=True)
        content = {
            "schema": SCHEMA,
            "sha256": _digest(settings.to_dict()),
            "clip_settings": settings.to_dict(),
        }
        _write_atomically(out / "settings.json", json.dumps(content, indent=2) + "\n")
    elif found != settings:
        old, new = found.to_dict(), settings.to_dict()
        differ = ", ".join(f"{name} {old[name]}, not {new[name]}" for name in new if old[name] != new[name])
        raise DataError(
            f"{out} was prepared with other clip settings ({differ}): use another folder or delete it"
        )
    (out / "clips").mkdir(exist_ok=True)
    for name in os.listdir(out / "clips"):
        if not name.endswith(".npz"):
            os.unlink(out / "clips" / name)


def _digest(settings: dict) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _read_settings(out: Path) -> ClipSettings | None:
    file = out / "settings.json"
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        settings = ClipSettings.from_dict(content["clip_settings"])
        if content["schema"] != SCHEMA or content["sha256"] != _digest(content["clip_settings"]):
            raise ValueError("schema or hash does not fit")
    except (ValueError, KeyError, TypeError, AvdetectError) as error:
        raise DataError(
            f"{file} is damaged or of another version ({error}): prepare into another folder"
        ) from error
    return settings


def _load_records(out: Path) -> dict[str, dict]:
    """Records by key: prepared.csv, then what the journal of a run that did not end says later."""
    records: dict[str, dict] = {}
    if (out / "prepared.csv").is_file():
        # As text first: pandas reads integers beside gaps as floats, and nanoseconds do not fit into those.
        table = pd.read_csv(out / "prepared.csv", dtype=str, keep_default_na=False)
        rows = table[list(RECORD)].to_dict("records")
        records = {row["key"]: {name: _parsed(name, text) for name, text in row.items()} for row in rows}
    if (out / "journal.jsonl").is_file():
        for line in (
            (out / "journal.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
        ):  # the last may be torn
            record = json.loads(line)
            records[record["key"]] = record
    return records


def _parsed(name: str, text: str) -> Any:
    """A field of prepared.csv; empty = None."""
    kind = DTYPES[name]
    if text == "" or kind == "string":
        return text or None
    return int(text) if kind == "Int64" else float(text) if kind == "float64" else text == "True"


def _frame(records: dict[str, dict]) -> pd.DataFrame:
    return pd.DataFrame(list(records.values()), columns=list(RECORD), dtype=object).astype(DTYPES)


def _write_records(out: Path, records: dict[str, dict]) -> None:
    _write_atomically(out / "prepared.csv", _frame(records).to_csv(index=False, lineterminator="\n"))
    (out / "journal.jsonl").unlink(missing_ok=True)


def _write_atomically(file: Path, text: str) -> None:
    part = file.with_name(file.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, file)


@contextlib.contextmanager
def _progress(total: int, mode: bool | str) -> Iterator[Callable[[dict], None]]:
    """Yield a function that is told of every finished record."""
    if not mode or not total:
        yield lambda record: None
        return
    console = Console(stderr=True)
    if mode == "bar" or console.is_terminal:
        columns = (TextColumn("preparing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, TextColumn("{task.fields[bad]} failed"), console=console) as bar:
            task, bad = bar.add_task("preparing", total=total, bad=0), [0]

            def advance(record: dict) -> None:
                bad[0] += record["status"] != "ok"
                bar.update(task, advance=1, bad=bad[0])

            yield advance
        return
    started = said = time.monotonic()
    done = failed = 0

    def say(record: dict) -> None:
        nonlocal said, done, failed
        done, failed, now = done + 1, failed + (record["status"] != "ok"), time.monotonic()
        if now - said >= LINE_EVERY_S or done == total:
            said = now
            text = f"prepared {done} of {total} clips, {failed} failed, {now - started:.0f} s"
            print(text, file=sys.stderr, flush=True)

    yield say
