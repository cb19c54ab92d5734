"""Reading media: a file becomes a `Clip`. Face detection (torch) is imported only when it is needed."""

from avdetect.media.audio import read_audio
from avdetect.media.clip import Clip, Progress, no_progress, read_clip
from avdetect.media.clipfile import ClipFile, load_clip, save_clip
from avdetect.media.files import MediaInfo
from avdetect.media.settings import ClipSettings
from avdetect.media.tracks import Detections, FaceDetector, FaceTrack
from avdetect.media.video import frames_at, probe

__all__ = [
    "Clip",
    "ClipFile",
    "ClipSettings",
    "Detections",
    "FaceDetector",
    "FaceTrack",
    "MediaInfo",
    "Progress",
    "frames_at",
    "load_clip",
    "no_progress",
    "probe",
    "read_audio",
    "read_clip",
    "save_clip",
]
