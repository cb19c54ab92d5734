"""Explanations of files: shapes, axes, what is refused, and what the command line writes."""

import json

import numpy as np
import pytest
import soundfile
from PIL import Image

from avdetect import Detector
from avdetect.data.demo.miniature import Miniature
from avdetect.encoders import create_encoder
from avdetect.errors import ConfigError, MediaError
from avdetect.evaluation import Calibration
from avdetect.evidence import feature_dims
from avdetect.explain import METHODS, Explanation, explain
from avdetect.explain.explanation import joined, suspicious_stretch
from avdetect.explain.sounds import speaking_for_fake
from avdetect.fusion import FusionHead
from avdetect.inference import Bundle, save_bundle
from avdetect.media import ClipSettings


@pytest.fixture(scope="module")
def bundle(untrained):
    encoders = {
        "visual": untrained("face"),
        "audio": untrained("spectrum"),
        "lipsync": create_encoder("lipsync_tiny").eval(),
    }
    names = ("fused", *encoders)
    limits = {"real_below": 0.4, "fake_above": 0.6}
    return Bundle(
        encoders, FusionHead(feature_dims(encoders)).eval(), ClipSettings(),
        {name: Calibration("platt", 1.0, 0.0) for name in names}, dict.fromkeys(names, limits), {"name": "untrained"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def talking(tmp_path_factory):
    return Miniature().video(tmp_path_factory.mktemp("media") / "talking.mp4", 0, seconds=2.0)


@pytest.fixture(scope="module")
def analysis(bundle, talking):
    return Detector(bundle).analyse(talking)


def test_faces_are_explained_in_their_own_pixels(analysis, bundle):
    found = explain(analysis, bundle, "visual")
    assert isinstance(found, Explanation) and found.method == "layercam" and not found.signed
    assert found.values.shape == found.crops.shape[:3] == (4, 224, 224) and found.values.dtype == np.float32
    face = analysis.evidence.face
    assert found.track_id == face.track_id and (np.diff(found.crop_indices) > 0).all()
    assert np.array_equal(found.times_s, face.crop_times[found.crop_indices])
    assert found.logits.min() >= np.delete(face.crop_logits, found.crop_indices).max(initial=-np.inf)
    assert len(explain(analysis, bundle, "visual", crops=2).values) == 2
    assert 0 <= found.scaled().min() and found.scaled().max() <= 1.0


def test_sounds_are_explained_over_bands_and_time(analysis, bundle):
    found = explain(analysis, bundle, "audio", "lrp")
    assert found.signed and found.values.shape == found.level_db.shape == (
        len(found.bands_hz),
        len(found.times_s),
    )
    assert (
        (np.diff(found.bands_hz) > 0).all() and found.start_s == 0.0 and found.hop_s == pytest.approx(0.008)
    )
    assert found.times_s[-1] == pytest.approx(2.0, abs=0.1)
    assert [start for start, _ in found.by_second()][:2] == [0.0, 1.0]


def test_lips_are_explained_frame_by_frame(analysis, bundle):
    found = explain(analysis, bundle, "lipsync")
    track = next(track for track in analysis.clip.tracks if track.id == found.track_id)
    assert found.method == "occlusion" and found.values.shape == (len(track.mouths),) == found.times_s.shape
    assert found.start_s == pytest.approx(track.mouth_start / 25.0)


def test_what_cannot_be_explained_is_said(analysis, bundle, tmp_path):
    with pytest.raises(ConfigError, match="no modality 'face': take one of visual, audio, lipsync"):
        explain(analysis, bundle, "face")
    with pytest.raises(ConfigError, match="spectrum_cnn has no attention map: use layercam"):
        explain(analysis, bundle, "audio", "attention")
    silent = Detector(bundle).analyse(Miniature().image(tmp_path / "a.png", 0, False))
    with pytest.raises(MediaError, match="nothing to explain of audio: a picture has no sound"):
        explain(silent, bundle, "audio")


def test_windows_are_joined_by_their_mean_where_they_overlap():
    maps = np.stack([np.full((2, 4), 1.0), np.full((2, 4), 3.0)])
    assert joined(maps, np.array([0, 2]))[0].tolist() == [1, 1, 2, 2, 3, 3]
    assert suspicious_stretch(np.array([0.0, 1.0, 5.0, 4.0, 0.0]), 2) == (2, 3)
    assert suspicious_stretch(np.array([1.0, 2.0]), 5) == (0, 1)


def test_what_speaks_for_fake_is_heard_and_the_rest_is_not():
    rate = 16000
    time = np.arange(2 * rate) / rate
    low, high = (np.sin(2 * np.pi * pitch * time) for pitch in (500, 4000))
    values = np.zeros((80, 201), np.float32)
    bands = np.linspace(50, 7950, 80)
    values[np.abs(bands - 4000) < 500, 50:150] = 1.0
    times = np.arange(201) * 0.01
    axes = {"bands_hz": bands, "hop_s": 0.01, "start_s": 0.0}
    found = Explanation("audio", "m", "n", values, times, np.zeros(1), True, "x", **axes)
    heard = speaking_for_fake((low + high).astype(np.float32), rate, found)
    middle = slice(int(0.7 * rate), int(1.3 * rate))
    assert abs(np.dot(heard[middle], high[middle])) > 20 * abs(np.dot(heard[middle], low[middle]))
    assert np.abs(heard[: rate // 3]).max() < 0.1 < 0.8 < np.abs(heard[middle]).max()


def test_the_command_writes_pictures_sounds_and_numbers(bundle, talking, tmp_path, run_python):
    save_bundle(bundle, tmp_path / "bundle")
    command = ["-m", "avdetect", "explain", str(talking), "--bundle", str(tmp_path / "bundle"), "--json"]
    done = run_python(*command, "missing.mp4", "--method", "gradcam", "--out", "out", cwd=tmp_path)
    assert done.returncode == 1 and "missing.mp4" in done.stderr  # one failed; lip-sync refuses gradcam
    assert "gradcam does not hold here: lipsync_tiny compares lips and sound" in done.stderr
    told = {line["modality"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert set(told) == {"visual", "audio"}
    for modality, line in told.items():
        picture, numbers, *sound = (tmp_path / file for file in line["files"])
        assert min(Image.open(picture).size) > 300
        assert list(np.load(numbers)["values"].shape) == line["shape"]
        assert len(sound) == (modality == "audio")
        for file in sound:
            assert soundfile.info(file).duration == pytest.approx(2.0, abs=0.1)
    assert len(told["visual"]["peaks"]) == 4


def test_the_command_checks_a_detector(bundle, talking, tmp_path, run_python):
    save_bundle(bundle, tmp_path / "bundle")
    command = ["-m", "avdetect", "explain", "--check", "--bundle", "bundle", "--modality", "visual"]
    done = run_python(*command, str(talking), "--method", "lrp", "--json", cwd=tmp_path)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["method"] for row in rows} <= {"lrp", "all"} and rows
    failed = any(row["passed"] is False for row in rows) or not any(row["passed"] for row in rows)
    assert done.returncode == (1 if failed else 0), done.stderr
    text = run_python(*command, str(talking), "--method", "lrp", cwd=tmp_path)
    assert text.stdout.startswith("visual: resnet_autoatt_small") and text.returncode == done.returncode


def test_the_command_lists_methods_and_says_how_it_is_used(tmp_path, run_python):
    done = run_python("-m", "avdetect", "explain", "--method", "list", "--modality", "lipsync", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == len(METHODS) and "occlusion             yes" in done.stdout
    assert run_python("-m", "avdetect", "explain", cwd=tmp_path).returncode == 2
    wrong = run_python("-m", "avdetect", "explain", "--check", "--modality", "nose", cwd=tmp_path)
    assert wrong.returncode == 2 and "no modality 'nose'" in wrong.stderr
