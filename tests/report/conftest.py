"""A detector of small encoders with random weights, and what it shows of a clip of noise with two faces."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from avdetect.encoders import create_encoder
from avdetect.evaluation import Calibration
from avdetect.evidence import feature_dims
from avdetect.fusion import FusionHead
from avdetect.inference import Analysis, Bundle, Detector
from avdetect.media import Clip, ClipSettings, FaceTrack, MediaInfo
from avdetect.report import ReportPictures, gather_pictures

SETTINGS = ClipSettings(crop_size=112)
NAMES = {"visual": "efficientnet_autoatt_tiny", "audio": "mel_cnn_tiny", "lipsync": "lipsync_tiny"}
RATE = 16000


@pytest.fixture(scope="session")
def detector() -> Detector:
    torch.manual_seed(0)
    encoders = {kind: create_encoder(name).eval() for kind, name in NAMES.items()}
    limits = {name: {"real_below": 0.4, "fake_above": 0.6} for name in ("fused", *encoders)}
    scales = {name: Calibration("platt", 1.0, 0.0) for name in limits}
    head = FusionHead(feature_dims(encoders)).eval()
    return Detector(Bundle(encoders, head, SETTINGS, scales, limits, {"name": "untrained"}))


def track(number: int, detections: int = 9) -> FaceTrack:
    rng = np.random.default_rng(number)
    times = np.arange(detections) * SETTINGS.detect_interval_s
    return FaceTrack(
        id=number, times=times, boxes=np.tile(np.float32([10, 10, 90, 90]), (detections, 1)),
        probs=np.ones(detections, np.float32), crop_times=times,
        crops=rng.integers(0, 255, (detections, 112, 112, 3), dtype=np.uint8),
        mouth_start=0, mouths=rng.integers(0, 255, (60, 48, 48), dtype=np.uint8),
    )  # fmt: skip


def clip_of(tracks: list[FaceTrack], seconds: float, kind: str = "video") -> Clip:
    sound = np.random.default_rng(5).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)
    reasons = {} if tracks else {"visual": "no video track"}
    return Clip("x.mp4", kind, seconds, MediaInfo("mp4", 1, "0" * 64), SETTINGS, tracks, sound, reasons)


@pytest.fixture(scope="session")
def two_faces(detector) -> tuple[Analysis, ReportPictures]:
    analysis = detector.judge(clip_of([track(0), track(1)], 2.4))
    return analysis, gather_pictures(analysis, detector.bundle)


@pytest.fixture(scope="session")
def clip() -> Callable[[list[FaceTrack], float], Clip]:
    return clip_of
