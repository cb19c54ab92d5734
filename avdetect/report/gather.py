"""The pictures of a report, from what a detector looked at."""

from __future__ import annotations

import librosa
import numpy as np
import torch

from avdetect.encoders import Encoder
from avdetect.inference import Analysis, Bundle
from avdetect.inference.scoring import calibrated
from avdetect.report.pictures import FacePicture, ReportPictures
from avdetect.transforms.audio import repeat_to_length

FACES_SHOWN = 4
MEL_SHOWN_S = 60.0


@torch.inference_mode()
def gather_pictures(analysis: Analysis, bundle: Bundle) -> ReportPictures:
    """The most telling crops with the encoder's attention, the mel-spectrogram, and the offset curve."""
    pictures = ReportPictures(faces=_faces(analysis, bundle))
    audio, encoder = analysis.clip.audio, bundle.encoders.get("audio")
    if audio is not None and len(audio) and encoder is not None:
        _add_mel(pictures, np.asarray(audio), encoder)
    sync = analysis.evidence.sync
    if sync is not None:
        reach = len(sync.curve) // 2
        pictures.sync_curve = sync.curve
        pictures.sync_offsets_ms = np.arange(-reach, reach + 1) * 1000.0 / analysis.clip.settings.grid_fps
    return pictures


def _faces(analysis: Analysis, bundle: Bundle) -> list[FacePicture]:
    """Crops of the deciding face: the most suspicious ones, in order of time."""
    face, encoder = analysis.evidence.face, bundle.encoders.get("visual")
    if face is None or encoder is None:
        return []
    track = next(track for track in analysis.clip.tracks if track.id == face.track_id)
    chosen = np.sort(np.argsort(-face.crop_logits)[:FACES_SHOWN])
    crops = np.asarray(track.crops)[chosen]
    attention = None
    if hasattr(encoder, "attention"):
        attention = encoder.attention(encoder.preprocess(crops))[:, 0].numpy()
    return [
        FacePicture(
            track_id=track.id,
            time_s=float(face.crop_times[index]),
            score=calibrated(bundle, "visual", float(face.crop_logits[index])),
            crop=crops[place],
            attention=None if attention is None else attention[place],
        )
        for place, index in enumerate(chosen)
    ]


def _add_mel(pictures: ReportPictures, audio: np.ndarray, encoder: Encoder) -> None:
    """The first minute, as the encoder's own front end sees it."""
    shown = audio[: round(MEL_SHOWN_S * encoder.preprocess.sample_rate)]
    shown = repeat_to_length(shown, encoder.min_samples)
    natural = encoder.spectrogram(torch.from_numpy(np.array(shown, np.float32))[None])[0].numpy()
    settings = encoder.settings
    pictures.mel = natural * (10.0 / np.log(10.0))  # natural logarithm of power -> dB
    pictures.mel_hop_s = settings["hop_length"] / settings["sample_rate"]
    pictures.mel_max_hz = settings["fmax"]
    edges = librosa.mel_frequencies(settings["n_mels"] + 2, fmin=settings["fmin"], fmax=settings["fmax"])
    pictures.mel_centres_hz = edges[1:-1]
