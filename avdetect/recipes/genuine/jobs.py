"""What is done with one clip; every job returns plain values, None where nothing could be judged."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from avdetect.data.pseudo.clips import manipulate
from avdetect.encoders import Encoder
from avdetect.evidence import MIN_SYNC_FRAMES, MODALITIES, collect_evidence
from avdetect.inference.scoring import fused_logits
from avdetect.media import Clip, FaceTrack
from avdetect.recipes.genuine.engine import FACE_RIVALS, Record, Task, Tools

JPEG = (60, 95)  # quality that both sides of a pair of face crops are stored with, drawn for the clip


def judge(task: Task, clips: list[Clip], tools: Tools) -> Record:
    """The verdict of the whole detector, and what rivals say. Option `rivals`: names of `engine.RIVALS`."""
    options = dict(task.options)
    return _verdict(clips[0], tools) | {"rivals": _rivals(clips[0], tools, options.get("rivals", ()))}


def _verdict(clip: Clip, tools: Tools) -> Record:
    analysis = tools.detector.judge(clip)
    verdict, sync = analysis.verdict, analysis.evidence.sync
    logits = fused_logits(tools.bundle.fusion, [analysis.evidence])
    return {
        "label": verdict.label,
        "score": verdict.score,
        "scores": {name: verdict.modalities[name].score for name in MODALITIES},
        "logits": {name: _plain(values[0]) for name, values in logits.items()},
        "offset_frames": sync and sync.offset_frames,
        "confidence": sync and float(sync.confidence),
    }


def _rivals(clip: Clip, tools: Tools, names: Iterable[str]) -> dict[str, float | None]:
    """Logits by name of those of the rivals that are at hand."""
    return {name: _logit(clip, tools.rivals[name]) for name in names if name in tools.rivals}


def _logit(clip: Clip, encoder: Encoder) -> float | None:
    """What an encoder of faces or voices says of a clip, gathered as the detector gathers its own."""
    if encoder.kind == "visual":
        face = collect_evidence(replace(clip, audio=None), {"visual": encoder}).face
        return None if face is None else face.logit
    voice = collect_evidence(replace(clip, tracks=[]), {"audio": encoder}).voice
    return None if voice is None else voice.logit


def fake_face(task: Task, clips: list[Clip], tools: Tools) -> Record:
    """Face logits of a clip's crops as they are (option `kind` None) or manipulated; both stored as JPEG alike.

    Options: `kind`, `crops` = how many of the track's, `rivals`. The second clip is of somebody else.
    """
    options = dict(task.options)
    track = clips[0].tracks[0]
    chosen = np.unique(np.linspace(0, len(track.crops) - 1, options["crops"]).round().astype(int))
    times = np.asarray(track.crop_times)[chosen]
    clip = replace(clips[0], tracks=[replace(track, crops=track.crops[chosen], crop_times=times)])
    if options["kind"] is not None:
        rng = task.rng("face", options["kind"])
        clip = manipulate(clip, f"face {options['kind']}", rng, **tools.generators, other=clips[1])
    quality = int(task.rng("jpeg").integers(*JPEG, endpoint=True))
    (track,) = clip.tracks
    clip = replace(
        clip, tracks=[replace(track, crops=np.stack([_jpeg(crop, quality) for crop in track.crops]))]
    )
    return {
        "logit": _logit(clip, tools.bundle.encoders["visual"]),
        "rivals": _rivals(clip, tools, FACE_RIVALS if options["rivals"] else ()),
    }


def _jpeg(crop: np.ndarray, quality: int) -> np.ndarray:
    stored = io.BytesIO()
    Image.fromarray(crop).save(stored, "JPEG", quality=quality)
    return np.asarray(Image.open(stored).convert("RGB"))


def offsets(task: Task, clips: list[Clip], tools: Tools) -> Record:
    """Lip-sync of clips of one speaker joined end to end, the sound shifted by known steps of the grid.

    Options: `shifts`, grid frames, positive = sound late; `frames`, where the joined clip is cut (None = whole).
    `found` holds offset, confidence and logit for each shift, None where nothing is heard.
    """
    encoder, options = tools.bundle.encoders["lipsync"], dict(task.options)
    per_frame = encoder.preprocess.samples_per_frame
    mouths, sound = join([clip for clip in clips if talking_track(clip) is not None], per_frame)
    mouths, sound = mouths[: options["frames"]], sound[: len(mouths[: options["frames"]]) * per_frame]
    track = replace(talking_track(clips[0]), mouths=mouths, mouth_start=0)
    found = []
    for shift in options["shifts"]:
        clip = replace(clips[0], tracks=[track], audio=shifted(sound, shift * per_frame))
        sync = collect_evidence(clip, {"lipsync": encoder}).sync
        found.append({
            "shift": shift,
            "offset": sync and sync.offset_frames,
            "confidence": sync and float(sync.confidence),
            "logit": sync and float(sync.logit),
        })  # fmt: skip
    return {"frames": len(mouths), "found": found}


def talking_track(clip: Clip) -> FaceTrack | None:
    """The face that is seen longest without a break, if that is long enough for lip-sync and there is sound."""
    longest = max(clip.tracks, key=lambda track: len(track.mouths), default=None)
    heard = clip.audio is not None and len(clip.audio) > 0
    return longest if heard and longest is not None and len(longest.mouths) >= MIN_SYNC_FRAMES else None


def join(clips: list[Clip], per_frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Mouths (T, ...) of the clips one after the other, and the sound (T * per_frame,) beside them.

    Where a clip's sound ends before its picture the rest is silence, which lip-sync takes for no evidence.
    """
    mouths, sounds = [], []
    for clip in clips:
        track = talking_track(clip)
        length = len(track.mouths) * per_frame
        part = np.asarray(clip.audio[track.mouth_start * per_frame :][:length], np.float32)
        mouths.append(np.asarray(track.mouths))
        sounds.append(np.pad(part, (0, length - len(part))))
    return np.concatenate(mouths), np.concatenate(sounds)


def shifted(sound: np.ndarray, samples: int) -> np.ndarray:
    """The sound (N,) later by `samples` (earlier where negative), silence where nothing is known; as long."""
    out = np.zeros_like(sound)
    if abs(samples) < len(sound):
        out[max(samples, 0) : len(sound) + min(samples, 0)] = sound[
            max(-samples, 0) : len(sound) - max(samples, 0)
        ]
    return out


def altered(task: Task, clips: list[Clip], tools: Tools) -> Record:
    """The verdict on a manipulated copy. Option `made_by` as `pseudo.clips.manipulate` takes it, of the second clip
    what the kind needs another one for."""
    made_by, other = dict(task.options)["made_by"], clips[1] if len(clips) > 1 else None
    return _verdict(manipulate(clips[0], made_by, task.rng(made_by), **tools.generators, other=other), tools)


def _plain(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


JOBS: dict[str, Callable[[Task, list[Clip], Tools], Record]] = {
    "judge": judge,
    "fake_face": fake_face,
    "offsets": offsets,
    "altered": altered,
}
