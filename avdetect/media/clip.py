"""A file read once into what the encoders need: face tracks, mouths on a 25 Hz grid, sound on the same
clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np

from avdetect.errors import MediaError
from avdetect.media.audio import AudioCollector
from avdetect.media.files import MediaInfo
from avdetect.media.frames import RATE_WARNING, is_sequence, open_sequence, whole_picture_track
from avdetect.media.images import StillImage, read_image
from avdetect.media.settings import ClipSettings
from avdetect.media.tracks import FaceCollector, FaceDetector, FaceTrack, faces_in_image
from avdetect.media.video import MediaReader, VideoFrame, count_frames

NO_AUDIO = "no audio track"
STILL_NO_AUDIO = "a picture has no sound"
FRAMES_NO_AUDIO = "a video kept as pictures has no sound"
AUDIO_NO_VISUAL = "no video track"

Progress = Callable[[str], None]  # called with the name of each stage as it begins


@dataclass
class Clip:
    """What was read from one file. Time 0 is the presentation time of the first video frame (audio: first
    sample)."""

    path: str
    kind: str  # "video" | "audio" | "image"
    duration_s: float  # until the later of both streams ends; 0.0 for images
    info: MediaInfo
    settings: ClipSettings
    tracks: list[FaceTrack]  # most prominent first
    audio: np.ndarray | None  # (T,) float32 mono at settings.sample_rate; sample 0 is at time 0
    reasons: dict[str, str] = field(default_factory=dict)  # "visual", "audio" -> why nothing is there
    warnings: list[str] = field(default_factory=list)
    timing_s: dict[str, float] = field(default_factory=dict)  # "decode", "faces", "audio"


def no_progress(stage: str) -> None:
    """Nobody watches."""


def read_clip(
    path: str | Path,
    settings: ClipSettings | None = None,
    detector: FaceDetector | None = None,
    progress: Progress = no_progress,
) -> Clip:
    """Read a video, image or audio file in one pass. `detector` is MTCNN unless given.

    progress: called with "decode", and with "faces" once there is a picture to search.

    A folder of numbered pictures is read as a video without sound (`avdetect.media.frames`).
    A clip without face or sound says why in `reasons`; what could not be decoded stands in `warnings`.
    Raises MediaError, one sentence, where nothing can be read.
    """
    settings = settings or ClipSettings()
    begin = time.perf_counter()
    progress("decode")
    if is_sequence(path):
        progress("faces")
        return _sequence_clip(path, settings, detector, begin)
    image = read_image(path)
    if image is not None:
        progress("faces")
        return _image_clip(path, image, settings, detector or _default_detector(), begin)
    with MediaReader(path) as reader:
        return _stream_clip(path, reader, settings, detector, progress)


def _default_detector() -> FaceDetector:
    from avdetect.media.faces import default_detector  # imports torch

    return default_detector()


def _image_clip(
    path: str | Path, image: StillImage, settings: ClipSettings, detector: FaceDetector, begin: float
) -> Clip:
    decoded = time.perf_counter()
    tracks = faces_in_image(image.rgb, settings, detector)
    reasons = {"audio": STILL_NO_AUDIO}
    if not tracks:
        reasons["visual"] = "no face found in the picture"
    timing = {"decode": decoded - begin, "faces": time.perf_counter() - decoded, "audio": 0.0}
    return Clip(
        str(path), "image", 0.0, image.info, settings, tracks, None, reasons, list(image.warnings), timing
    )


def _sequence_clip(
    path: str | Path, settings: ClipSettings, detector: FaceDetector | None, begin: float
) -> Clip:
    sequence, reasons = open_sequence(path), {"audio": FRAMES_NO_AUDIO}
    if settings.pictures == "face":
        tracks = [whole_picture_track(sequence, settings)]
    else:
        faces = FaceCollector(settings, detector or _default_detector(), sequence.frame_step_s, len(sequence))
        for frame in sequence.video_frames():
            faces.add(frame)
        tracks = faces.finish()
        if not tracks:
            reasons["visual"] = f"no face could be followed in {faces.sampled} sampled pictures"
    spent = time.perf_counter() - begin
    info = sequence.info()
    warnings = [RATE_WARNING]
    if sequence.damaged:
        warnings.append(f"{sequence.damaged} of {len(sequence)} pictures are damaged and were left out")
    timing = {"decode": time.perf_counter() - begin - spent, "faces": spent, "audio": 0.0}
    return Clip(
        str(path), "video", sequence.duration_s, info, settings, tracks, None, reasons, warnings, timing
    )


def _stream_clip(
    path: str | Path,
    reader: MediaReader,
    settings: ClipSettings,
    detector: FaceDetector | None,
    progress: Progress,
) -> Clip:
    sound = AudioCollector(settings.sample_rate)
    faces = None
    if reader.video is not None:
        count = count_frames(path) if settings.sampling == "uniform" else None
        progress("faces")
        faces = FaceCollector(settings, detector or _default_detector(), reader.frame_step_s, count)
    spent = {"faces": 0.0, "audio": 0.0}
    begin = time.perf_counter()  # imports are done
    for item in reader:
        started = time.perf_counter()
        if isinstance(item, VideoFrame):
            faces.add(item)
            spent["faces"] += time.perf_counter() - started
        elif isinstance(item, av.AudioFrame):
            sound.add(item)
            spent["audio"] += time.perf_counter() - started
    started = time.perf_counter()
    tracks = faces.finish() if faces is not None else []
    spent["faces"] += time.perf_counter() - started
    audio = sound.finish(reader.video_start_s)
    if reader.first_frame is None and audio is None:
        why = f" ({'; '.join(reader.warnings)})" if reader.warnings else ""
        raise MediaError(
            f"{path} opens as {reader.container.format.long_name} but nothing in it could be decoded"
            f"{why}: copy or download it again."
        )
    info = reader.info()
    duration = max(reader.video_end_s, len(audio) / settings.sample_rate if audio is not None else 0.0)
    timing = {"decode": time.perf_counter() - begin - spent["faces"] - spent["audio"], **spent}
    return Clip(
        str(path),
        "video" if reader.video is not None else "audio",
        duration,
        info,
        settings,
        tracks,
        audio,
        _reasons(reader, faces, tracks, audio),
        reader.warnings + sound.warnings,
        timing,
    )


def _reasons(
    reader: MediaReader, faces: FaceCollector | None, tracks: list[FaceTrack], audio: np.ndarray | None
) -> dict[str, str]:
    reasons = {}
    if faces is None:
        reasons["visual"] = AUDIO_NO_VISUAL
    elif reader.first_frame is None:
        reasons["visual"] = "no video frame could be decoded"
    elif not tracks and faces.uncropped:
        reasons["visual"] = (
            f"{faces.uncropped} faces were followed, but none is seen in the frames that the sampling chose"
        )
    elif not tracks and faces.seen:
        reasons["visual"] = (
            f"no face could be followed: what looked like one in {faces.seen} of {faces.sampled} "
            "sampled frames did not last"
        )
    elif not tracks:
        reasons["visual"] = f"no face found in {faces.sampled} sampled frames"
    if audio is None:
        reasons["audio"] = NO_AUDIO if reader.audio is None else "no sound could be decoded"
    elif not len(audio):
        reasons["audio"] = "the sound ends before the first video frame"
    return reasons
