"""Degradations do what their strength says, to what they say, and the same every time."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage, signal

from avdetect.errors import ConfigError
from avdetect.media import Clip, ClipSettings, FaceTrack
from avdetect.transforms import degrade_pictures, degrade_sound
from avdetect.transforms.degrade import DEGRADATIONS, FACE, degradation, degrade, mouth_density

RATE = 16000
MONOTONE_PICTURES = ("h264", "jpeg", "resize", "blur", "image_noise")


def textures(count: int, side: int, colours: int | None = 3, seed: int = 0) -> np.ndarray:
    """Smooth random pictures that drift, as crops of a moving face do."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal((2 * side, 2 * side, colours or 1)), (2, 2, 0))
    field = np.clip(128 + 180 * field / field.std() / 3, 0, 255).astype(np.uint8)
    frames = np.stack([field[i : i + side, 2 * i : 2 * i + side] for i in range(count)])
    return frames if colours else frames[..., 0]


def speech(seconds: float = 1.5) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    harmonics = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 20))
    return (0.1 * harmonics * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * t))).astype(np.float32)


@pytest.fixture(scope="module")
def clip() -> Clip:
    settings = ClipSettings(crop_size=112)
    track = FaceTrack(
        0,
        np.arange(6) / 4,
        np.tile(np.array([10, 10, 110, 110], np.float32), (6, 1)),
        np.ones(6, np.float32),
        np.arange(6) / 4,
        textures(6, 112),
        0,
        textures(20, 48, colours=None, seed=1),
    )
    return Clip("folder/a.mp4", "video", 1.5, None, settings, [track], speech())


def error(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.mean((one.astype(np.float64) - other) ** 2))


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_changes_its_part_alone_and_the_same_every_time(clip, name):
    strength = DEGRADATIONS[name].strengths[-1]
    track = clip.tracks[0]
    before = [array.copy() for array in (track.crops, track.mouths, clip.audio)]
    one, other = (degrade(clip, name, strength, "set/a.mp4") for _ in range(2))
    got = (one.tracks[0].crops, one.tracks[0].mouths, one.audio)
    again = (other.tracks[0].crops, other.tracks[0].mouths, other.audio)
    changed = [not np.array_equal(a, b) for a, b in zip(before, got, strict=True)]
    assert changed == ([True, True, False] if DEGRADATIONS[name].part == FACE else [False, False, True])
    for was, now, repeated in zip(before, got, again, strict=True):
        assert now.shape == was.shape and now.dtype == was.dtype and np.isfinite(now).all()
        assert np.array_equal(now, repeated)
    # the clip that was given is left as it was
    for was, kept in zip(before, (track.crops, track.mouths, clip.audio), strict=True):
        assert np.array_equal(was, kept)


@pytest.mark.parametrize("name", MONOTONE_PICTURES)
def test_pictures_lose_more_at_every_strength(clip, name):
    track = clip.tracks[0]
    strengths = [s for s in DEGRADATIONS[name].strengths if not (name == "resize" and s >= 112)]
    for part in ("crops", "mouths"):
        clean = getattr(track, part)
        lost = [error(getattr(degrade(clip, name, s, "k").tracks[0], part), clean) for s in strengths]
        assert lost == sorted(lost) and lost[0] > 0 and lost[-1] > 1.5 * lost[0], (part, lost)


@pytest.mark.parametrize("name", ["mp3", "aac", "opus", "sound_noise", "reverb"])
def test_sound_loses_more_at_the_strongest(clip, name):
    strengths = DEGRADATIONS[name].strengths
    mild, strong = (
        error(degrade(clip, name, s, "k").audio, clip.audio) for s in (strengths[0], strengths[-1])
    )
    assert 0 < mild < strong


def test_random_parts_follow_seed_and_clip(clip):
    one = degrade(clip, "sound_noise", 10, "set/a.mp4").audio
    assert not np.array_equal(one, degrade(clip, "sound_noise", 10, "set/b.mp4").audio)
    assert not np.array_equal(one, degrade(clip, "sound_noise", 10, "set/a.mp4", seed=1).audio)
    # the same noise, 10 dB apart
    weaker = degrade(clip, "sound_noise", 20, "set/a.mp4").audio
    np.testing.assert_allclose(one - clip.audio, (weaker - clip.audio) * 10**0.5, atol=1e-6)


def test_noise_has_the_ratio_that_it_says(clip):
    noise = degrade(clip, "sound_noise", 5, "k").audio - clip.audio
    ratio = 10 * np.log10(np.mean(clip.audio.astype(float) ** 2) / np.mean(noise.astype(float) ** 2))
    assert ratio == pytest.approx(5, abs=0.01)
    grey = np.full((3, 64, 64, 3), 128, np.uint8)
    assert degrade_pictures.noise(grey, 10, np.random.default_rng(0)).std() == pytest.approx(10, rel=0.02)
    flat = replace(clip.tracks[0], mouths=np.full((4, 48, 48), 128, np.uint8))
    noisy = degrade(replace(clip, tracks=[flat]), "image_noise", 10, "k").tracks[0].mouths
    assert noisy.std() == pytest.approx(10, rel=0.05)  # grey mouths have as much as the coloured face


@pytest.mark.parametrize("rt60", [0.4, 1.0])
def test_a_room_decays_by_60_db_in_its_time(rt60):
    response = degrade_sound.room_response(rt60, RATE, np.random.default_rng(0))
    tail = response[1:]
    assert np.sum(tail**2) == pytest.approx(1)  # as much as the direct sound
    # Schroeder's backward integration; the slope between -5 and -25 dB, extended to -60
    level = 10 * np.log10(np.cumsum(tail[::-1] ** 2)[::-1])
    first, last = (int(np.argmax(level <= at)) for at in (-5, -25))
    assert 3 * (last - first) / RATE == pytest.approx(rt60, rel=0.12)


def test_reverberation_keeps_loudness_and_time(clip):
    wet = degrade(clip, "reverb", 0.7, "k").audio
    assert np.std(wet) == pytest.approx(np.std(clip.audio), rel=0.01)
    lag = np.argmax(signal.correlate(wet, clip.audio, "full", "fft")) - (clip.audio.size - 1)
    assert lag == 0
    assert not degrade_sound.reverberate(np.zeros(100, np.float32), 0.5, RATE, np.random.default_rng(0)).any()


@pytest.mark.parametrize("codec", ["mp3", "aac", "opus", "mulaw"])
def test_coded_sound_stays_in_time(clip, codec):
    coded = degrade(clip, codec, DEGRADATIONS[codec].strengths[0], "k").audio
    lag = np.argmax(signal.correlate(coded, clip.audio, "full", "fft")) - (clip.audio.size - 1)
    assert abs(lag) <= 8  # half a millisecond


@pytest.mark.parametrize("name", ["mp3", "aac", "opus", "mulaw"])
def test_the_voice_is_still_there_at_every_strength(clip, name):
    for strength in DEGRADATIONS[name].strengths:
        coded = degrade(clip, name, strength, "k").audio
        assert np.corrcoef(coded, clip.audio)[0, 1] > 0.6, strength


def test_offset_is_positive_where_the_sound_is_late(clip):
    late, early = (degrade(clip, "offset", ms, "k").audio for ms in (80, -80))
    assert not late[:1280].any() and np.array_equal(late[1280:], clip.audio[:-1280])
    assert not early[-1280:].any() and np.array_equal(early[:-1280], clip.audio[1280:])
    assert not degrade_sound.offset(clip.audio, 5000, RATE).any()


def test_blur_and_low_resolution_mean_the_same_for_face_and_mouth(clip):
    """A picture seen through both crops of one face: the same detail is left in both."""
    settings = clip.settings
    assert mouth_density(settings) == pytest.approx((48 / 0.55) / (112 / 1.4))
    wide = np.zeros((1, 224, 224, 3), np.uint8)
    wide[:, :, 112:] = 255  # an edge; its slope after blurring tells sigma
    edge = degrade_pictures.blur(wide, 4.0)[0, 112, :, 0].astype(float)
    profile = np.diff(edge) / 255
    place = np.arange(223)
    sigma = np.sqrt(np.sum(profile * (place - np.sum(profile * place)) ** 2))
    assert sigma == pytest.approx(4.0, rel=0.1)
    step = np.zeros((1, 48, 48), np.uint8)
    step[:, :, 24:] = 255
    blurred = degrade(replace(clip, tracks=[replace(clip.tracks[0], mouths=step)]), "blur", 4, "k")
    profile = np.diff(blurred.tracks[0].mouths[0, 24].astype(float)) / 255
    mouth_sigma = np.sqrt(np.sum(profile * (place[:47] - np.sum(profile * place[:47])) ** 2))
    assert mouth_sigma == pytest.approx(4.0 * 0.5 * mouth_density(settings), rel=0.15)


def test_small_faces_are_not_made_larger(clip):
    assert np.array_equal(degrade(clip, "resize", 128, "k").tracks[0].crops, clip.tracks[0].crops)


def test_gamma_at_one_changes_nothing_and_darkens_above(clip):
    crops = clip.tracks[0].crops
    assert np.array_equal(degrade(clip, "gamma", 1, "k").tracks[0].crops, crops)
    assert degrade(clip, "gamma", 2, "k").tracks[0].crops.mean() < crops.mean()


def test_odd_sides_come_back_as_they_were():
    pictures = np.repeat(textures(3, 47, colours=None)[..., None], 3, axis=3)
    coded = degrade_pictures.h264(pictures, 10)
    assert coded.shape == pictures.shape and error(coded, pictures) < 20


def test_what_is_not_there_is_not_degraded(clip):
    silent = replace(clip, audio=None)
    assert degrade(silent, "mp3", 32, "k").audio is None
    assert degrade(replace(clip, audio=np.zeros(0, np.float32)), "reverb", 0.5, "k").audio.size == 0
    assert degrade(replace(clip, tracks=[]), "jpeg", 50, "k").tracks == []
    still = replace(clip.tracks[0], mouths=np.zeros((0, 48, 48), np.uint8))
    assert degrade(replace(clip, tracks=[still]), "h264", 40, "k").tracks[0].mouths.shape == (0, 48, 48)


def test_unknown_names_and_strengths_get_a_sentence():
    with pytest.raises(ConfigError, match="unknown degradation 'fog': choose of h264, jpeg"):
        degradation("fog")
    with pytest.raises(
        ConfigError, match=r"h264 at 60: the strength \(constant rate factor\) must lie in \[0, 51\]"
    ):
        degradation("h264", 60)
    for entry in DEGRADATIONS.values():
        assert all(degradation(entry.name, strength) is entry for strength in entry.strengths)
