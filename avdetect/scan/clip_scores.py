"""What a detector says of every clip of a manifest, written down clip by clip, so that a killed run goes on.

`journal.jsonl` in the output folder: one line a clip, with all that figures and plots are made from (raw
logits, no scores: calibration is applied afterwards). A line counts for the same file, detector and options.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from avdetect.data import Manifest
from avdetect.data.prepare import PreparedSet
from avdetect.data.workers import run_in_workers
from avdetect.errors import AvdetectError, DataError
from avdetect.evidence import MODALITIES, Evidence, collect_evidence
from avdetect.inference import Bundle, load_bundle
from avdetect.inference.scoring import fused_logits, screened
from avdetect.media import Clip, ClipSettings, load_clip, read_clip
from avdetect.media.frames import place_on_disk

SCHEMA = "avdetect.clip_scores/1"
EMBEDDED = 1500  # clips of a test set whose embeddings are kept, for the plots
EMBEDDED_KEYS = {"embeddings", "tracks"}  # of the records of those


@dataclass(frozen=True)
class Options:
    """How clips are scored; what is here changes the result, and belongs to what a journal line counts for."""

    trim_silence: bool = False
    pictures: str | None = None  # "search" or "face": instead of what the bundle says (ClipSettings.pictures)


@dataclass(frozen=True)
class Task:
    """One clip to judge. prepared: its file in a prepared folder, to be read instead of the media."""

    key: str
    source: str
    prepared: str | None
    embed: bool
    identity: dict[str, Any]  # written with the result: the line counts for this alone


class _Prepared(NamedTuple):
    path: str
    stamp: tuple[int, int]  # size and time of change of the file that it was made from


def score_manifest(
    manifest: Manifest,
    bundle: Bundle,
    options: Options,
    journal: Path,
    workers: int = 2,
    prepared: PreparedSet | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """One record a clip, in the order of the manifest; those in the journal are taken from there.

    Records: `key`, `status` ok | unreadable | missing, `error` (sentence or None), and where ok `logits` (by
    "fused", modality and "audio_trimmed"; None = not judged), `reasons` (by modality), `frames` (modality ->
    logits), and of `EMBEDDED` clips `embeddings` (modality -> text for `unpacked`) and `tracks` (modality -> id of
    the face that it judged). `workers`: processes, 0 = this one. `report` is told how many of how many clips are
    done. Raises DataError where the prepared folder was made with other settings than the bundle's.
    """
    settings = clip_settings(bundle, options)
    stored = _prepared_files(prepared, settings, manifest)
    detector = detector_hash(bundle)
    chosen = _embedded_keys(manifest)
    known = _read_journal(journal)
    results: dict[str, dict[str, Any]] = {}
    tasks = []
    for key, root, path in zip(manifest.keys, manifest.table["root"], manifest.table["path"], strict=True):
        source = os.path.join(root, path)
        try:
            stat = os.stat(place_on_disk(source))
        except (FileNotFoundError, NotADirectoryError):
            if key not in stored:
                results[key] = {"key": key, "status": "missing", "error": f"{source} is not there"}
                continue
            stat = os.stat(stored[key].path)  # a prepared clip outlives its file
        else:
            if key in stored and stored[key].stamp != (stat.st_size, stat.st_mtime_ns):
                del stored[key]  # the file has changed since it was prepared
        what = {"source": source, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "detector": detector}
        ready = stored[key].path if key in stored else None
        task = Task(key, source, ready, key in chosen, what | vars(options))
        line = known.get(_digest(task.identity))
        if line is not None and (not task.embed or line.keys() >= EMBEDDED_KEYS):
            results[key] = line | {"key": key}
        else:
            tasks.append(task)
    report(len(results), len(manifest))
    make_work = partial(_make_work, str(bundle.folder), settings, options, one_thread=workers > 0)
    with open(journal, "a", encoding="utf-8") as out:
        for task, result, death in run_in_workers(tasks, make_work, workers):
            result = {"status": "unreadable", "error": death} if death else result
            results[task.key] = {"key": task.key} | result
            line = {"id": _digest(task.identity), "schema": SCHEMA, "key": task.key} | result
            out.write(json.dumps(line, allow_nan=False) + "\n")
            out.flush()
            os.fsync(out.fileno())  # a power cut must not cost more than the clip in hand
            report(len(results), len(manifest))
    return [results[key] for key in manifest.keys]


def detector_hash(bundle: Bundle) -> str:
    """SHA-256 (hex) of all networks of a bundle (weights, settings, preprocessing) and of how it reads media.

    That is all that its raw logits follow from; calibration and thresholds are applied afterwards.
    """
    parts = [bundle.card["encoders"], bundle.card["fusion"], bundle.clip.to_dict()]
    what = json.dumps([SCHEMA, *parts], sort_keys=True)
    return hashlib.sha256(what.encode()).hexdigest()


def unpacked(text: str) -> np.ndarray:
    """The embedding (D,) of a record."""
    return np.frombuffer(base64.b64decode(text), np.float16).astype(np.float64)


def _packed(embedding: np.ndarray) -> str:
    limit = float(np.finfo(np.float16).max)
    return base64.b64encode(np.clip(embedding, -limit, limit).astype(np.float16).tobytes()).decode("ascii")


def _digest(identity: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def _embedded_keys(manifest: Manifest) -> set[str]:
    """As good as random, and the same whenever the set is evaluated."""
    ordered = sorted(manifest.keys, key=lambda key: hashlib.sha256(key.encode()).hexdigest())
    return set(ordered[:EMBEDDED])


def _read_journal(journal: Path) -> dict[str, dict[str, Any]]:
    """Lines by id. What a kill tore off at the end is cut away, so that the next line begins cleanly.

    Clips that could not be read are tried again: the cause may be gone.
    """
    journal.parent.mkdir(parents=True, exist_ok=True)
    lines: dict[str, dict[str, Any]] = {}
    if not journal.exists():
        return lines
    with open(journal, "rb+") as stream:
        whole = 0
        for number, raw in enumerate(stream, start=1):
            if not raw.endswith(b"\n"):
                break
            whole += len(raw)
            try:
                line = json.loads(raw)
                good = line["schema"] == SCHEMA and isinstance(line["id"], str)
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{journal} line {number} is damaged ({error}): delete the file to score all clips anew"
                ) from error
            if good and line["status"] == "ok":
                lines[line["id"]] = {k: v for k, v in line.items() if k not in ("id", "schema")}
        stream.truncate(whole)
    return lines


def clip_settings(bundle: Bundle, options: Options) -> ClipSettings:
    """How the clips are read: as the bundle says, but for what the options say."""
    return bundle.clip if options.pictures is None else replace(bundle.clip, pictures=options.pictures)


def _prepared_files(
    prepared: PreparedSet | None, settings: ClipSettings, manifest: Manifest
) -> dict[str, _Prepared]:
    """The clips that the prepared folder has; DataError unless they were read as the bundle wants."""
    if prepared is None:
        return {}
    old, new = prepared.settings.to_dict(), settings.to_dict()
    if manifest.table["kind"].ne("image").all():
        old.pop("pictures"), new.pop("pictures")
    if old != new:
        differ = ", ".join(f"{name} {old[name]}, not {new[name]}" for name in new if old[name] != new[name])
        raise DataError(
            f"{prepared.folder} was prepared with other clip settings than the bundle's ({differ}): leave it "
            "out, and the media are read"
        )
    ready = prepared.table[prepared.table["status"] == "ok"]
    return {
        row["key"]: _Prepared(str(prepared.clip_path(row)), (row["size_bytes"], row["mtime_ns"]))
        for _, row in ready.iterrows()
    }


def _make_work(
    folder: str, settings: ClipSettings, options: Options, one_thread: bool
) -> Callable[[Task], dict[str, Any]]:
    """What a worker does with one task."""
    if one_thread:
        import torch

        torch.set_num_threads(1)
    bundle = load_bundle(folder)

    def work(task: Task) -> dict[str, Any]:
        try:
            clip = load_clip(task.prepared) if task.prepared else read_clip(task.source, settings)
            return _judged(clip, bundle, options, task.embed)
        except AvdetectError as error:
            return {"status": "unreadable", "error": str(error)}
        except Exception as error:  # a defect of ours must not cost the other clips their score
            return {"status": "unreadable", "error": f"unexpected {type(error).__name__}: {error}"}

    return work


def _judged(clip: Clip, bundle: Bundle, options: Options, embed: bool) -> dict[str, Any]:
    evidence = screened(bundle, collect_evidence(clip, bundle.encoders)).evidence
    logits = {name: _plain(values[0]) for name, values in fused_logits(bundle.fusion, [evidence]).items()}
    reasons = dict(evidence.reasons)
    if options.trim_silence:
        logits["audio_trimmed"], reason = _without_silence(clip, bundle)
        if reason is not None:
            reasons["audio_trimmed"] = reason
    frames: dict[str, list[float]] = {}
    for name, logit in evidence.frame_logits():
        frames.setdefault(name, []).append(logit)
    record = {"status": "ok", "error": None, "logits": logits, "reasons": reasons, "frames": frames}
    if embed:
        record["embeddings"] = {name: _packed(vector) for name, vector in _embeddings(evidence)}
        judged = (("visual", evidence.face), ("lipsync", evidence.sync))
        record["tracks"] = {name: int(part.track_id) for name, part in judged if part is not None}
    return record


def _without_silence(clip: Clip, bundle: Bundle) -> tuple[float | None, str | None]:
    """The voice's logit without the silence before and after it, or why there is none."""
    from avdetect.transforms.silence import trim_silence

    if clip.audio is None or not len(clip.audio):
        return None, clip.reasons.get("audio", "no audio track")
    trimmed = trim_silence(np.asarray(clip.audio), clip.settings.sample_rate)
    voice = {name: encoder for name, encoder in bundle.encoders.items() if name == "audio"}
    evidence = collect_evidence(replace(clip, audio=trimmed, tracks=[]), voice)
    return (None, evidence.reasons["audio"]) if evidence.voice is None else (evidence.voice.logit, None)


def _embeddings(evidence: Evidence) -> Iterator[tuple[str, np.ndarray]]:
    for name, part in zip(MODALITIES, (evidence.face, evidence.voice, evidence.sync), strict=True):
        if part is not None:
            yield name, part.embedding


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
