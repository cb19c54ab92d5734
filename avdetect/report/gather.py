"""The pictures and the sound of a report, from what a detector looked at."""

from __future__ import annotations

from dataclasses import replace

import librosa
import numpy as np
import torch

from avdetect.encoders.audio.logmel import LogMel
from avdetect.errors import ConfigError
from avdetect.evidence import TrackEvidence
from avdetect.explain import Explanation, explain
from avdetect.inference import Analysis, Bundle
from avdetect.inference.scoring import calibrated
from avdetect.media import FaceTrack
from avdetect.report.pictures import FacePicture, ReportPictures, Sound
from avdetect.report.sound import sound_uri

CROPS_SHOWN = 4  # of each face
SOUND_SHOWN_S = 60.0
_BANDS, _HOP, _SHORTEST = 80, 160, 1024  # of the mel-spectrogram; samples


def gather_pictures(analysis: Analysis, bundle: Bundle) -> ReportPictures:
    """Every face with its most telling crops, the most suspicious minute of sound, the offset curve; maps over all."""
    pictures = ReportPictures(card=dict(bundle.card))
    _add_faces(pictures, analysis, bundle)
    audio = analysis.clip.audio
    if audio is not None and len(audio):
        _add_sound(pictures, analysis, bundle, audio)
    sync = analysis.evidence.sync
    if sync is not None:
        reach = len(sync.curve) // 2
        pictures.sync_curve = sync.curve
        pictures.sync_offsets_ms = np.arange(-reach, reach + 1) * 1000.0 / analysis.clip.settings.grid_fps
        found = _explained(pictures, analysis, bundle, "lipsync")
        if found is not None:
            pictures.lips_map, pictures.lips_times_s = found.values, found.times_s
    return pictures


def _explained(
    pictures: ReportPictures, analysis: Analysis, bundle: Bundle, modality: str, crops: int = CROPS_SHOWN
) -> Explanation | None:
    """The map of a modality that was judged; what it means, or why there is none, goes to the pictures' notes."""
    try:
        found = explain(analysis, bundle, modality, crops=crops)
    except ConfigError as error:
        pictures.map_notes[modality] = f"No map was drawn: {error}"
        return None
    pictures.map_notes[modality] = f"Method {found.method}: {found.meaning}."
    return found


def _add_faces(pictures: ReportPictures, analysis: Analysis, bundle: Bundle) -> None:
    """The judged faces, the deciding one first, then one crop of each of the others."""
    judged = sorted(analysis.evidence.tracks, key=lambda face: -face.logit)
    tracks = {track.id: track for track in analysis.clip.tracks}
    for face in judged:
        pictures.faces += _pictures_of(pictures, analysis, bundle, face, tracks[face.track_id])
    for track in tracks.values():
        if len(track.crops) and all(face.track_id != track.id for face in judged):
            middle = len(track.crops) // 2
            time_s = float(track.crop_times[middle])
            pictures.faces.append(FacePicture(track.id, time_s, None, np.asarray(track.crops[middle])))


def _pictures_of(
    pictures: ReportPictures, analysis: Analysis, bundle: Bundle, face: TrackEvidence, track: FaceTrack
) -> list[FacePicture]:
    alone = replace(analysis, evidence=replace(analysis.evidence, tracks=[face]))
    found = _explained(pictures, alone, bundle, "visual")
    chosen = np.sort(np.argsort(-face.crop_logits)[:CROPS_SHOWN]) if found is None else found.crop_indices
    return [
        FacePicture(
            track_id=track.id,
            time_s=float(face.crop_times[index]),
            score=calibrated(bundle, "visual", float(face.crop_logits[index])),
            crop=np.asarray(track.crops[index]),
            attention=None if found is None else found.values[place].clip(0),
        )
        for place, index in enumerate(chosen)
    ]


def _add_sound(pictures: ReportPictures, analysis: Analysis, bundle: Bundle, audio: np.ndarray) -> None:
    """A minute to hear and to see: that which was explained, else the first."""
    rate = analysis.clip.settings.sample_rate
    found = None if analysis.evidence.voice is None else _explained(pictures, analysis, bundle, "audio")
    start_s = 0.0 if found is None else found.start_s
    first = round(start_s * rate)
    shown = np.array(audio[first : first + round(SOUND_SHOWN_S * rate)], np.float32)
    pictures.sound = Sound(sound_uri(shown, rate), start_s, len(shown) / rate)
    frames = max(1, len(shown) // _HOP)
    if len(shown) < _SHORTEST:
        shown = np.pad(shown, (0, _SHORTEST - len(shown)))
    front = LogMel(rate, hop_length=_HOP, n_mels=_BANDS, fmax=rate / 2)
    with torch.inference_mode():
        natural = front(torch.from_numpy(shown)[None])[0, :, :frames].numpy()
    pictures.mel = natural * (10.0 / np.log(10.0))  # natural logarithm of power -> dB
    pictures.mel_start_s, pictures.mel_hop_s, pictures.mel_max_hz = start_s, _HOP / rate, rate / 2
    pictures.mel_centres_hz = librosa.mel_frequencies(_BANDS + 2, fmin=0.0, fmax=rate / 2)[1:-1]
    if found is not None:
        times = start_s + pictures.mel_hop_s * np.arange(frames)
        pictures.voice_map = _onto(found, pictures.mel_centres_hz, times)


def _onto(found: Explanation, centres_hz: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """The map of a sound, 0 and above, at these frequencies and times (bands, frames)."""
    values = found.values.clip(0)
    bands = np.stack([np.interp(centres_hz, found.bands_hz, column) for column in values.T], axis=1)
    return np.stack([np.interp(times_s, found.times_s, band) for band in bands])
