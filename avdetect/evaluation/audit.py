"""How well fakes are told by what has nothing to do with fakery: file size, duration, silence and the like.

A dataset whose fakes are all shorter lets any detector shine that looks at the length. The AUC of every such
shortcut by itself, and of all of them joined, bounds what such a detector can reach; a published result below
it proves nothing. Shortcuts of 0.7 and more are flagged.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table
from scipy.stats import rankdata

from avdetect.data.commands import file_progress, open_manifest
from avdetect.data.manifest import Manifest
from avdetect.data.workers import run_in_workers
from avdetect.errors import ConfigError, DataError
from avdetect.evaluation.bootstrap import draw_groups
from avdetect.evaluation.protocols import write_json
from avdetect.media.facts import make_fact_reader
from avdetect.media.frames import place_on_disk

SCHEMA = "avdetect.audit/1"
FLAG = 0.7
FOLDS = 5
SMOOTHING = 5.0  # clips of the overall share that are added to every category
NUMBERS = {
    "duration": "duration_s",
    "file size": "size_bytes",
    "bitrate": "bitrate",
    "picture area": "pixels",
    "frame rate": "fps",
    "loudness": "loudness_db",
    "leading silence": "leading_silence_s",
    "file order": "order",
}
CATEGORIES = {
    "resolution": "resolution",
    "video codec": "video_codec",
    "audio codec": "audio_codec",
    "container": "container",
    "sample rate": "sample_rate",
    "audio channels": "channels",
}
_CHUNK_VALUES = 2_000_000  # weights held at a time

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Shortcut:
    """Scores (N,) where higher means fake, NaN where a file lacks the property."""

    scores: np.ndarray
    direction: str


def audit_manifest(
    manifest: Manifest,
    cache: str | Path | None = None,
    workers: int = 2,
    seed: int = 0,
    resamples: int = 500,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """AUC of shortcuts over the labelled clips of a manifest, with 95 % intervals; ready for JSON.

    Keys: `shortcuts` (name -> `auc` {value, low, high}, `direction`, `n`, `flagged`, `reason` where there is
    no AUC), `joined` (the same for a boosted forest on all but the file order), counts, `unread`, `flag_at`, `warnings`
    (`audit_warnings`). Numbers are ranked, the direction is the one found; categories score by the share of
    fakes in other folds, the forest likewise. Folds and resamples keep a `source` together.

    cache: file of facts per clip, continued by the next run. workers: processes, 0 = this one. Raises
    DataError where a class is missing.
    """
    labelled = manifest.table[manifest.table["label"].notna()].reset_index(drop=True)
    facts, unread = read_facts(labelled, None if cache is None else Path(cache), workers, progress)
    table = labelled.join(facts, how="inner").reset_index(drop=True)
    y = table["label"].astype(int).to_numpy()
    if len(table) == 0 or y.min() == y.max():
        raise DataError(
            f"{manifest.name}: shortcuts are measured between genuine and fake clips, and of {len(labelled)} "
            f"labelled clips {len(table)} could be read, {int(y.sum())} of them fake."
        )
    groups = _groups(table)
    features = _features(table)
    folds = _folds(y, groups, seed)
    results: dict[str, Any] = {}
    for name, column in (NUMBERS | CATEGORIES).items():
        values = features[column]
        shortcut = _by_number(y, values) if name in NUMBERS else _by_category(y, values, folds)
        results[name] = _measured(y, shortcut, groups, resamples, seed)
    joined = _measured(y, _joined(y, features, folds), groups, resamples, seed)
    audit = {
        "schema": SCHEMA, "manifest": manifest.name, "n_clips": len(manifest), "n_audited": len(table),
        "n_fake": int(y.sum()), "n_real": int((1 - y).sum()), "n_sources": int(groups.max()) + 1,
        "n_unlabelled": len(manifest) - len(labelled), "n_unread": len(unread), "unread": unread[:20],
        "flag_at": FLAG, "resamples": resamples, "seed": seed, "shortcuts": results, "joined": joined,
    }  # fmt: skip
    return audit | {"warnings": audit_warnings(audit)}


def audit_warnings(audit: dict[str, Any] | str | Path) -> list[str]:
    """A sentence on every shortcut that reaches `flag_at`, the strongest first; for any report on the data.

    `audit`: of `audit_manifest`, or the file where one is stored. Raises DataError where that is none.
    """
    if not isinstance(audit, dict):
        audit = read_audit(audit)
    flagged = {name: entry for name, entry in audit["shortcuts"].items() if entry["flagged"]}
    told = []
    for name, entry in sorted(flagged.items(), key=lambda item: -item[1]["auc"]["value"]):
        told.append(f"{name} alone separates the classes ({_auc_text(entry)}; {entry['direction']})")
    if audit["joined"]["flagged"]:
        told.append(f"all shortcuts together separate the classes ({_auc_text(audit['joined'])})")
    return told


def _auc_text(entry: dict[str, Any]) -> str:
    auc = entry["auc"]
    interval = "" if auc["low"] is None else f", {auc['low']:.2f}-{auc['high']:.2f}"
    return f"AUC {auc['value']:.2f}{interval}"


def read_facts(
    table: pd.DataFrame, cache: Path | None = None, workers: int = 2, progress: Progress | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """`media.facts.FileFacts` of every row's file, by its index label, and a sentence on each unread one.

    `cache`: one line of JSON per file, appended as files are read; a file that changed is read again.
    """
    files = table["root"] + "/" + table["path"]
    stamps = {file: _stamp(file) for file in files.unique()}
    known = _cached(cache, stamps) if cache is not None else {}
    tasks = [(file, file) for file in stamps if file not in known]
    if cache is not None and tasks:
        cache.parent.mkdir(parents=True, exist_ok=True)
    done = len(known)
    with contextlib.nullcontext() if cache is None else open(cache, "a", encoding="utf-8") as journal:
        for task, result, death in run_in_workers(tasks, make_fact_reader, workers):
            known[task[0]] = {"reason": death} if death else result
            if journal is not None:
                line = {"file": task[0], "stamp": stamps[task[0]], "facts": known[task[0]]}
                journal.write(json.dumps(line) + "\n")
                journal.flush()
            done += 1
            if progress is not None:
                progress(done, len(stamps))
    unread = [known[file]["reason"] for file in stamps if "reason" in known[file]]
    rows = {row: known[file] for row, file in files.items() if "reason" not in known[file]}
    return pd.DataFrame.from_dict(rows, orient="index"), unread


def _stamp(file: str) -> list[int] | None:
    try:
        stat = os.stat(place_on_disk(file))
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


def _cached(cache: Path, stamps: dict[str, list[int] | None]) -> dict[str, dict[str, Any]]:
    """Facts of files that are as they were; those that could not be read are tried again."""
    if not cache.exists():
        return {}
    found = {}
    content = cache.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:  # a killed run left half a line
        cache.write_bytes(whole)
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            entry = json.loads(line)
            file, stamp, facts = entry["file"], entry["stamp"], entry["facts"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{cache} line {number} is no fact about a file: delete the file") from error
        if stamp is not None and stamps.get(file) == stamp and "reason" not in facts:
            found[file] = facts
    return found


def _groups(table: pd.DataFrame) -> np.ndarray:
    """(N,) number of each clip's source; a clip without one is a source of its own."""
    own = table["dataset"] + "/" + table["path"]
    source = table["dataset"] + "|" + table["source"]
    return pd.factorize(source.fillna("clip:" + own))[0]


def _features(table: pd.DataFrame) -> pd.DataFrame:
    """The properties of `NUMBERS` as floats and of `CATEGORIES` as text, "none" where a file has none."""
    sides = [table[side].astype("Int64").astype("string") for side in ("width", "height")]
    # Folders are left out: a class has its own in most datasets.
    names = table["path"].str.rpartition("/")[2].map(_natural)
    keys = list(zip(table["dataset"], names, strict=True))
    place = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    table = table.assign(
        pixels=table["width"].astype(float) * table["height"].astype(float),
        resolution=sides[0] + "x" + sides[1],
        order=[place[key] for key in keys],
    )
    numbers = {column: table[column].astype(float) for column in NUMBERS.values()}
    texts = {column: table[column].astype("string").fillna("none") for column in CATEGORIES.values()}
    return pd.DataFrame(numbers | texts)


def _natural(name: str) -> tuple:
    """Key by which 2.mp4 comes before 10.mp4."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)


def _folds(y: np.ndarray, groups: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(train, test) rows of folds that keep a source together; none where a class has a single source."""
    from sklearn.model_selection import StratifiedGroupKFold

    count = min(FOLDS, *(len(np.unique(groups[y == label])) for label in (0, 1)))
    if count < 2:
        return []
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    folds = splitter.split(np.zeros((len(y), 1)), y, groups)
    return [(train, test) for train, test in folds if 0 < y[train].mean() < 1]


def _by_number(y: np.ndarray, values: pd.Series) -> _Shortcut | str:
    x = values.to_numpy(dtype=float)
    known = np.isfinite(x)
    if not known.any() or y[known].min() == y[known].max():
        return "no file has it" if not known.any() else "files of one class alone have it"
    if _auc(y[known], x[known]) < 0.5:
        return _Shortcut(-x, "lower in fakes")
    return _Shortcut(x, "higher in fakes")


def _by_category(
    y: np.ndarray, values: pd.Series, folds: list[tuple[np.ndarray, np.ndarray]]
) -> _Shortcut | str:
    """Share of fakes with the same value in the other folds, relative to the share of fakes in them."""
    if not folds:
        return "the clips of a class come from one source"
    scores = np.full(len(y), np.nan)
    for train, test in folds:
        overall = y[train].mean()
        seen = pd.Series(y[train]).groupby(values.to_numpy()[train]).agg(["sum", "count"])
        share = (seen["sum"] + SMOOTHING * overall) / (seen["count"] + SMOOTHING) - overall
        scores[test] = values.iloc[test].map(share).fillna(0.0).to_numpy(dtype=float)
    return _Shortcut(scores, "by its value")


def _joined(
    y: np.ndarray, features: pd.DataFrame, folds: list[tuple[np.ndarray, np.ndarray]]
) -> _Shortcut | str:
    """Log odds by boosted trees of the other folds, relative to the odds in them.

    The order of files is left out: a detector does not see it, and trees would learn single names by heart.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    if not folds:
        return "the clips of a class come from one source"
    x = features.drop(columns=NUMBERS["file order"])
    for column in CATEGORIES.values():
        common = x[column].value_counts().index[:200]  # the trees take 255 values at most
        x[column] = pd.Categorical(x[column], categories=common)
    scores = np.full(len(y), np.nan)
    for train, test in folds:
        telling = [column for column in x if x[column].iloc[train].nunique() > 1]
        if not telling:
            scores[test] = 0.0
            continue
        leaf = int(np.clip(len(train) // 20, 2, 20))
        forest = HistGradientBoostingClassifier(
            max_depth=3, min_samples_leaf=leaf, categorical_features="from_dtype", random_state=0
        )
        forest.fit(x[telling].iloc[train], y[train])
        odds = np.log(y[train].mean() / (1 - y[train].mean()))
        scores[test] = forest.decision_function(x[telling].iloc[test]) - odds
    return _Shortcut(scores, "together")


def _measured(
    y: np.ndarray, shortcut: _Shortcut | str, groups: np.ndarray, resamples: int, seed: int
) -> dict[str, Any]:
    empty = {"value": None, "low": None, "high": None}
    if isinstance(shortcut, str):
        return {"auc": empty, "direction": None, "n": 0, "flagged": False, "reason": shortcut}
    known = np.isfinite(shortcut.scores)
    scores, labels, codes = shortcut.scores[known], y[known], pd.factorize(groups[known])[0]
    value = _auc(labels, scores)
    low, high = _interval(labels, scores, codes, resamples, seed)
    direction = shortcut.direction if np.ptp(scores) else "tells nothing"
    return {
        "auc": {"value": value, "low": low, "high": high},
        "direction": direction, "n": int(known.sum()), "flagged": value >= FLAG, "reason": None,
    }  # fmt: skip


def _auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Chance that a fake scores above a genuine clip (Mann-Whitney), ties counting one half."""
    ranks = rankdata(scores)
    fakes, genuine = int(labels.sum()), int((1 - labels).sum())
    return float((ranks[labels == 1].sum() - fakes * (fakes + 1) / 2) / (fakes * genuine))


def _interval(
    labels: np.ndarray, scores: np.ndarray, codes: np.ndarray, resamples: int, seed: int
) -> tuple[float | None, float | None]:
    """95 % percentile interval of the AUC over resamples of whole groups; None where there is one group."""
    if codes.max() == 0:
        return None, None
    order = np.argsort(scores, kind="stable")
    y, sorted_codes, ranked = labels[order], codes[order], scores[order]
    last_of_tie = np.flatnonzero(np.append(np.diff(ranked) != 0, True))
    chunk, rng, drawn = max(1, _CHUNK_VALUES // len(y)), np.random.default_rng(seed), []
    for counts, _ in draw_groups(labels, codes, resamples, chunk, rng):
        weights = counts[:, sorted_codes]
        fakes, genuine = (np.cumsum(weights * c, axis=1)[:, last_of_tie] for c in (y, 1 - y))
        steps = [np.diff(curve, axis=1, prepend=0.0) for curve in (fakes, genuine)]
        won = (steps[0] * (genuine - steps[1] / 2)).sum(axis=1)
        drawn.append(won / (fakes[:, -1] * genuine[:, -1]))
    low, high = np.percentile(np.concatenate(drawn), [2.5, 97.5])
    return float(low), float(high)


def read_audit(path: str | Path) -> dict[str, Any]:
    """A stored audit. Raises DataError for a file that is missing, damaged or something else."""
    try:
        audit = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): run `avdetect data audit` again") from error
    if not isinstance(audit, dict) or audit.get("schema") != SCHEMA:
        raise DataError(f"{path} is no audit of the kind {SCHEMA}: run `avdetect data audit` again")
    return audit


def audit_file(
    manifest: str | Path, root: str | Path | None, where: str | None, out: str | Path | None,
    workers: int, as_json: bool,
) -> Path:  # fmt: skip
    """Audit a manifest file, store it at `out` (else `audit.json` beside it), print it.

    What was read of the files is kept beside the audit. Raises ConfigError where the place is taken by the
    audit of another manifest.
    """
    from rich.console import Console

    table = open_manifest(manifest, root)
    table = table.where(where) if where else table
    path = Path(manifest).with_name("audit.json") if out is None else Path(out)
    if path.exists() and (other := read_audit(path)["manifest"]) != table.name:
        raise ConfigError(f"{path} is the audit of the manifest {other}: give another place with --out")
    with file_progress("files") as progress:
        audit = audit_manifest(table, path.with_suffix(".facts.jsonl"), workers, progress=progress)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(audit, path)
    if as_json:
        print(json.dumps(audit))
    else:
        Console().print(_table(audit))
    told = Console(stderr=True)
    for warning in audit["warnings"]:
        told.print(warning, style="yellow", highlight=False, markup=False)
    if audit["n_unread"]:
        told.print(f"{audit['n_unread']} clips could not be read and are left out", style="yellow")
    told.print(f"audit of {audit['n_audited']} clips written to {path}", highlight=False, markup=False)
    return path


def _table(audit: dict[str, Any]) -> Table:
    shown = Table("shortcut", "AUC", "95 %", "direction", "clips")
    for name, entry in [*audit["shortcuts"].items(), ("all joined", audit["joined"])]:
        auc = entry["auc"]
        style = "bold yellow" if entry["flagged"] else None
        if auc["value"] is None:
            shown.add_row(name, "-", "", entry["reason"], "0")
            continue
        interval = "" if auc["low"] is None else f"{auc['low']:.3f}-{auc['high']:.3f}"
        shown.add_row(name, f"{auc['value']:.3f}", interval, entry["direction"], str(entry["n"]), style=style)
    return shown
