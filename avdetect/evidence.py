"""What each encoder says about one clip, before anything is joined.

Training of the fusion head and prediction both come through `collect_evidence`, so that the head is
fed at prediction exactly what it was fed in training.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch

from avdetect.encoders import Encoder
from avdetect.media import Clip, FaceTrack, Progress, no_progress
from avdetect.media.traits import face_traits, sound_traits

MODALITIES = ("visual", "audio", "lipsync")
SCALARS = {"visual": 2, "audio": 2, "lipsync": 5}  # numbers beside the embedding in `Evidence.features`

# Lip-sync compares windows of 0.2 s over offsets of up to 0.6 s: shorter tracks say nothing.
MIN_SYNC_FRAMES = 15
SYNC_STRETCH_S = 60.0  # lip-sync is worked out in stretches, so that memory does not grow with duration
AT_ONCE, AT_ONCE_ON_CPU = 64, 8  # crops or windows: a processor is fastest while they fit its caches


@dataclass
class TrackEvidence:
    """One face: logits per crop, and what the lips say if they were judged."""

    track_id: int
    crop_times: np.ndarray  # (K,) seconds
    crop_logits: np.ndarray  # (K,)
    embedding: np.ndarray  # (D,) mean over crops
    side_px: float | None = None  # median longer side of the face box, pixels of the file
    traits: np.ndarray | None = None  # of `media.traits.face_traits`, for `inference.novelty`

    @property
    def logit(self) -> float:
        """Mean of the crop logits: the track's face score before calibration."""
        return float(self.crop_logits.mean())

    @property
    def top_logit(self) -> float:
        """Mean of the highest quarter of the crop logits: a fake may last a part of the clip only."""
        count = max(1, len(self.crop_logits) // 4)
        return float(np.sort(self.crop_logits)[-count:].mean())


@dataclass
class VoiceEvidence:
    window_times: np.ndarray  # (W,) start of each window, seconds
    window_s: float
    window_logits: np.ndarray  # (W,)
    embedding: np.ndarray  # (D,) mean over windows
    window_embeddings: np.ndarray | None = None  # (W, D)

    @property
    def logit(self) -> float:
        return float(self.window_logits.mean())


@dataclass
class SyncEvidence:
    track_id: int
    logit: float  # of "out of sync"
    offset_frames: int  # of the 25 Hz grid, positive = audio late
    offset_ms: float
    confidence: float
    curve: np.ndarray  # (O,) mean distance per offset, NaN where too little overlaps
    second_times: np.ndarray  # (S,) start of each judged second
    second_logits: np.ndarray  # (S,) NaN where the second is silent
    embedding: np.ndarray  # (D,)


@dataclass
class Evidence:
    """Everything that the encoders said of a clip; a modality that said nothing has a reason instead."""

    tracks: list[TrackEvidence]
    voice: VoiceEvidence | None
    sync: SyncEvidence | None
    reasons: dict[str, str] = field(default_factory=dict)
    sound: np.ndarray | None = None  # (W, F) of `media.traits.sound_traits`, for `inference.novelty`

    @property
    def face(self) -> TrackEvidence | None:
        """The most suspicious track: it decides the clip's face score. Chance finds are no tracks (media)."""
        return max(self.tracks, key=lambda track: track.logit, default=None)

    def frame_logits(self) -> list[tuple[str, float]]:
        """(modality, logit) of every crop of the deciding face, voice window and second of lip-sync."""
        parts = (
            ("visual", self.face and self.face.crop_logits),
            ("audio", self.voice and self.voice.window_logits),
            ("lipsync", self.sync and self.sync.second_logits),
        )
        return [
            (name, float(logit))
            for name, logits in parts
            if logits is not None
            for logit in logits
            if np.isfinite(logit)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values and tensors, for `torch.save` and a load with `weights_only=True`."""
        return {
            "tracks": [_plain(track) for track in self.tracks],
            "voice": self.voice and _plain(self.voice),
            "sync": self.sync and _plain(self.sync),
            "reasons": dict(self.reasons),
            "sound": None if self.sound is None else torch.from_numpy(self.sound.copy()),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Evidence:
        return cls(
            tracks=[TrackEvidence(**_arrays(track)) for track in values["tracks"]],
            voice=values["voice"] and VoiceEvidence(**_arrays(values["voice"])),
            sync=values["sync"] and SyncEvidence(**_arrays(values["sync"])),
            reasons=values["reasons"],
            sound=None if values["sound"] is None else values["sound"].numpy(),
        )

    def features(self) -> dict[str, tuple[np.ndarray, np.ndarray] | None]:
        """Per modality (scalars (S,), embedding (D,)), float32, or None. The first scalar is the logit."""
        face, voice, sync = self.face, self.voice, self.sync
        return {
            "visual": face and _pack([face.logit, face.top_logit], face.embedding),
            "audio": voice and _pack([voice.logit, float(voice.window_logits.max())], voice.embedding),
            "lipsync": sync
            and _pack(
                [
                    sync.logit,
                    abs(sync.offset_frames) / 15.0,
                    sync.confidence,
                    float(np.nanmin(sync.curve)),
                    float(sync.curve[len(sync.curve) // 2]),
                ],
                sync.embedding,
            ),
        }


def _plain(part: Any) -> dict[str, Any]:
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    return {k: torch.from_numpy(v.copy()) if isinstance(v, np.ndarray) else v for k, v in values.items()}


def _arrays(values: dict[str, Any]) -> dict[str, Any]:
    return {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in values.items()}


def _pack(scalars: list[float], embedding: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(scalars, np.float32), embedding.astype(np.float32)


def feature_dims(encoders: dict[str, Encoder]) -> dict[str, tuple[int, int]]:
    """Per modality the number of scalars and the size of the embedding in `Evidence.features`."""
    return {name: (SCALARS[name], encoders[name].embedding_dim) for name in MODALITIES if name in encoders}


@torch.inference_mode()
def collect_evidence(clip: Clip, encoders: dict[str, Encoder], progress: Progress = no_progress) -> Evidence:
    """Run the encoders over a clip.

    encoders: by modality (`MODALITIES`), in `eval` mode, all on one device; a modality without an
    encoder is answered by a reason. progress: called with "faces", "voice", "lipsync" as each begins.
    Never raises for a clip that lacks a face or a sound.
    """
    reasons: dict[str, str] = {}
    progress("faces")
    tracks = _judge_faces(clip, encoders.get("visual"), reasons)
    progress("voice")
    voice = _judge_voice(clip, encoders.get("audio"), reasons)
    progress("lipsync")
    sync = _judge_sync(clip, encoders.get("lipsync"), reasons)
    heard = voice is not None or sync is not None
    sound = sound_traits(clip.audio, clip.settings.sample_rate) if heard else None
    return Evidence(tracks, voice, sync, reasons, sound)


def _device(encoder: Encoder) -> torch.device:
    return next(encoder.parameters()).device


def _at_once(encoder: Encoder) -> int:
    return AT_ONCE_ON_CPU if _device(encoder).type == "cpu" else AT_ONCE


def _judge_faces(clip: Clip, encoder: Encoder | None, reasons: dict[str, str]) -> list[TrackEvidence]:
    if encoder is None:
        reasons["visual"] = "this detector has no visual encoder"
        return []
    if not clip.tracks:
        reasons["visual"] = clip.reasons.get("visual", "no face found")
        return []
    # A network that compares a frame with the one before it would compare a lone picture with itself.
    judged = [_judge_track(t, encoder) for t in clip.tracks if len(t.crops) >= encoder.preprocess.frames]
    if not judged:
        reasons["visual"] = f"{encoder.name} compares consecutive frames, and no face is seen in two"
    return judged


def _judge_track(track: FaceTrack, encoder: Encoder) -> TrackEvidence:
    crops, device = encoder.preprocess(track.crops), _device(encoder)
    embeddings = torch.cat([encoder.embed(part.to(device)) for part in crops.split(_at_once(encoder))])
    logits = encoder.classify(embeddings)
    return TrackEvidence(
        track_id=track.id,
        crop_times=track.crop_times,
        crop_logits=logits.float().cpu().numpy(),
        embedding=embeddings.mean(0).float().cpu().numpy(),
        side_px=float(np.median((track.boxes[:, 2:] - track.boxes[:, :2]).max(axis=1))),
        traits=face_traits(track.crops),
    )


def _judge_voice(clip: Clip, encoder: Encoder | None, reasons: dict[str, str]) -> VoiceEvidence | None:
    if encoder is None:
        reasons["audio"] = "this detector has no voice encoder"
        return None
    if clip.audio is None:
        reasons["audio"] = clip.reasons.get("audio", "no audio track")
        return None
    if not len(clip.audio) or float(np.abs(clip.audio).max()) == 0.0:
        reasons["audio"] = "the audio track is silent"
        return None
    times, logits, embeddings = _voice_windows(clip.audio, encoder)
    return VoiceEvidence(times, encoder.preprocess.window_s, logits, embeddings.mean(0), embeddings)


def _voice_windows(audio: np.ndarray, encoder: Encoder) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times (W,), logits (W,) and embeddings (W, D), a stretch at a time: sound is not held twice."""
    pre, device, count = encoder.preprocess, _device(encoder), _at_once(encoder)
    hop, size = round(pre.hop_s * pre.sample_rate), pre.window_samples
    times, logits, vectors = [], [], []
    start = 0
    while start == 0 or start + size - hop < len(audio):
        start = max(0, min(start, len(audio) - size))  # the last window ends with the sound
        windows, offsets = pre(np.asarray(audio[start : start + (count - 1) * hop + size]))
        embeddings = encoder.embed(windows.to(device))
        logits.append(encoder.classify(embeddings).float().cpu().numpy())
        times.append(start / pre.sample_rate + np.asarray(offsets, float))
        vectors.append(embeddings.float().cpu().numpy())
        start += count * hop
    return np.concatenate(times), np.concatenate(logits), np.concatenate(vectors)


def _judge_sync(clip: Clip, encoder: Encoder | None, reasons: dict[str, str]) -> SyncEvidence | None:
    if encoder is None:
        reasons["lipsync"] = "this detector has no lip-sync encoder"
        return None
    if clip.audio is None or not clip.tracks:
        reasons["lipsync"] = "lip-sync needs a face and a voice: " + "; ".join(
            clip.reasons.get(part, "missing")
            for part, there in (("visual", bool(clip.tracks)), ("audio", clip.audio is not None))
            if not there
        )
        return None
    if float(np.abs(clip.audio).max(initial=0.0)) == 0.0:
        reasons["lipsync"] = "the audio track is silent"
        return None
    long_enough = [track for track in clip.tracks if len(track.mouths) >= MIN_SYNC_FRAMES]
    if not long_enough:
        needed = MIN_SYNC_FRAMES / clip.settings.grid_fps
        reasons["lipsync"] = f"no face is seen without a break for the {needed:.1f} s that lip-sync needs"
        return None
    judged = [_sync_of_track(clip, track, encoder) for track in long_enough]
    heard = [sync for sync in judged if sync is not None]
    if not heard:
        reasons["lipsync"] = "nothing is heard while a face is seen"
        return None
    # The talking face is the one whose lips say most about the sound, at whatever offset.
    return max(heard, key=lambda sync: float(np.nanmedian(sync.curve) - np.nanmin(sync.curve)))


def _sync_of_track(clip: Clip, track: FaceTrack, encoder: Encoder) -> SyncEvidence | None:
    """Judge a track minute by minute and join the minutes, each weighted by how many of its windows have sound."""
    device, size = _device(encoder), round(SYNC_STRETCH_S * clip.settings.grid_fps)
    results, embeddings, weights = [], [], []
    for start in range(0, len(track.mouths), size):
        part = np.asarray(track.mouths[start : start + size])
        if len(part) < MIN_SYNC_FRAMES:
            continue
        first = track.mouth_start + start
        mouths, waveform = encoder.preprocess(part, first, clip.audio)
        result = encoder.compare(mouths.to(device), waveform.to(device), first / clip.settings.grid_fps)
        if result.reason is None:
            results.append(result)
            embeddings.append(result.embedding)
            weights.append(float(result.speech.sum()))
    if not results:
        return None
    share = np.asarray(weights) / sum(weights)
    curve = _weighted([result.curve for result in results], share)
    best, confidence = _best_offset(encoder, curve, [result.distances for result in results])
    return SyncEvidence(
        track_id=track.id,
        logit=float(np.dot(share, [result.logit for result in results])),
        offset_frames=best,
        offset_ms=best * 1000.0 / clip.settings.grid_fps,
        confidence=confidence,
        curve=curve.astype(np.float32),
        second_times=np.concatenate([result.second_times for result in results]),
        second_logits=np.concatenate([result.second_logits for result in results]),
        embedding=share.astype(np.float32) @ np.stack(embeddings),
    )


def _best_offset(encoder: Encoder, curve: np.ndarray, distances: list[np.ndarray]) -> tuple[int, float]:
    """Offset in grid frames and confidence of a joined curve (O,), from the distances (W, O) of its stretches."""
    pairs = np.sum([np.isfinite(part).sum(0) for part in distances], 0, dtype=np.float32)
    usable = np.isfinite(curve)
    parts = (np.where(usable, curve, 0.0).astype(np.float32), usable, pairs)
    given = [torch.from_numpy(part)[None].to(_device(encoder)) for part in parts]
    return int(encoder.best_offset(*given)), float(encoder.curve_confidence(*given))


def _weighted(curves: list[np.ndarray], share: np.ndarray) -> np.ndarray:
    """Weighted mean over curves (O,), each offset over the curves that know it; NaN where none does."""
    stack = np.stack(curves)
    weight = np.isfinite(stack) * share[:, None]
    total = weight.sum(0)
    mean = np.where(np.isfinite(stack), stack, 0.0).T @ share
    return np.divide(mean, total, out=np.full(len(total), np.nan), where=total > 0)
