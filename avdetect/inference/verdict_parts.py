"""The parts of a verdict, each from the evidence that it rests on."""

from __future__ import annotations

import math

import numpy as np

from avdetect.evidence import Evidence
from avdetect.inference.bundle import Bundle
from avdetect.inference.novelty import Screened
from avdetect.inference.scoring import calibrated
from avdetect.inference.verdict import Face, FaceBox, LipSync, Modality, Segment, WeightsUsed
from avdetect.media import Clip

SEGMENT_S = 1.0


# of a face beside another one that was judged
TOO_FEW_CROPS = "seen in too few frames for this encoder, which compares consecutive ones"


def modalities_of(scores: dict[str, float | None], evidence: Evidence) -> dict[str, Modality]:
    """Score or reason per modality; scores as of `fused_logits`, calibrated."""
    sync = evidence.sync
    return {
        "visual": Modality(scores["visual"], evidence.reasons.get("visual")),
        "audio": Modality(scores["audio"], evidence.reasons.get("audio")),
        "lipsync": LipSync(
            scores["lipsync"],
            evidence.reasons.get("lipsync"),
            offset_ms=sync.offset_ms if sync else None,
            confidence=sync.confidence if sync else None,
        ),
    }


def faces_of(bundle: Bundle, clip: Clip, screened: Screened) -> list[Face]:
    """Every face track, with a box at each detection and a score where a crop was judged."""
    evidence = screened.evidence
    judged = {track.track_id: track for track in evidence.tracks}
    faces = []
    for track in clip.tracks:
        found = judged.get(track.id)
        reason = screened.faces.get(track.id) or evidence.reasons.get("visual", TOO_FEW_CROPS)
        score, at_time = None, {}
        if found is not None:
            score, reason = calibrated(bundle, "visual", found.logit), None
            at_time = dict(zip(found.crop_times.tolist(), found.crop_logits.tolist(), strict=True))
        boxes = []
        for time, box in zip(track.times.tolist(), track.boxes.tolist(), strict=True):
            logit = at_time.get(time)
            crop_score = None if logit is None else calibrated(bundle, "visual", logit)
            boxes.append(FaceBox(time, [round(edge, 1) for edge in box], crop_score))
        faces.append(Face(track.id, score, reason, float(track.times[0]), float(track.times[-1]), boxes))
    return faces


def segments_of(bundle: Bundle, clip: Clip, evidence: Evidence) -> list[Segment]:
    """Scores second by second; None where a modality says nothing about that second."""
    count = math.ceil(clip.duration_s / SEGMENT_S - 1e-6)
    segments = []
    for index in range(count):
        start = index * SEGMENT_S
        end = min(start + SEGMENT_S, clip.duration_s)
        means = {
            "visual": _visual_logit(evidence, start, end),
            "audio": _voice_logit(evidence, start, end),
            "lipsync": _sync_logit(evidence, start, end),
        }
        scores = {name: None if m is None else calibrated(bundle, name, m) for name, m in means.items()}
        segments.append(Segment(start, end, **scores))
    return segments


def _visual_logit(evidence: Evidence, start: float, end: float) -> float | None:
    """The most suspicious face of that second: mean of its crops there."""
    means = []
    for track in evidence.tracks:
        inside = track.crop_logits[(track.crop_times >= start) & (track.crop_times < end)]
        if len(inside):
            means.append(float(inside.mean()))
    return max(means, default=None)


def _voice_logit(evidence: Evidence, start: float, end: float) -> float | None:
    """Mean of the windows that overlap the second, weighted by how much they do."""
    voice = evidence.voice
    if voice is None:
        return None
    overlap = np.minimum(voice.window_times + voice.window_s, end) - np.maximum(voice.window_times, start)
    weight = np.clip(overlap, 0, None)
    return float(np.average(voice.window_logits, weights=weight)) if weight.sum() > 0 else None


def _sync_logit(evidence: Evidence, start: float, end: float) -> float | None:
    sync = evidence.sync
    if sync is None:
        return None
    inside = (
        (sync.second_times < end) & (sync.second_times + SEGMENT_S > start) & np.isfinite(sync.second_logits)
    )
    return float(sync.second_logits[inside].mean()) if inside.any() else None


def media_of(clip: Clip) -> dict:
    """Facts about the file, units in the names."""
    info = clip.info
    return {
        "container": info.container,
        "duration_s": round(clip.duration_s, 3),
        "size_bytes": info.size_bytes,
        "sha256": info.sha256,
        "video_codec": info.video_codec,
        "width_px": info.width,
        "height_px": info.height,
        "fps": info.fps,
        "rotation_deg": info.rotation,
        "pixel_format": info.pix_fmt,
        "video_start_s": info.video_start_s,
        "audio_codec": info.audio_codec,
        "sample_rate_hz": info.sample_rate,
        "channels": info.channels,
        "audio_start_s": info.audio_start_s,
        "tags": dict(info.tags),
    }


def weights_of(bundle: Bundle) -> list[WeightsUsed]:
    """What spoke, with the hashes on the bundle's card."""
    card, licence = bundle.card, bundle.card.get("licence")
    used = [
        WeightsUsed(entry["name"], modality, entry["sha256"], licence)
        for modality, entry in card.get("encoders", {}).items()
    ]
    if "fusion" in card:
        used.append(WeightsUsed("late fusion", "fusion", card["fusion"]["sha256"], licence))
    used.append(WeightsUsed("MTCNN (facenet-pytorch 2.5.3)", "faces", None, "MIT"))
    return used
