"""Augmentation of talking faces: repeatable, in time, and each part does what it is named for."""

from dataclasses import fields

import numpy as np
import pytest

from avdetect.errors import ConfigError
from avdetect.transforms.talking import TalkingAugment, music

RATE = 16000
OFF = {field.name: 0.0 for field in fields(TalkingAugment) if field.name.endswith("_p")} | {
    "gain_db": (0.0, 0.0)
}


def given(frames=12, side=48):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    mouths = np.stack([128 + 60 * np.sin(x / 5 + i / 3) + 40 * np.cos(y / 7) for i in range(frames)])
    return mouths.astype(np.uint8), (0.1 * rng.standard_normal(frames * 640)).astype(np.float32)


@pytest.mark.parametrize("shape", [(12, 48, 48), (12, 32, 32, 3)])
def test_everything_at_once_keeps_shapes_and_repeats(shape):
    settings = TalkingAugment(**{name: 1.0 for name in OFF if name.endswith("_p")})
    mouths = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    sound = given()[1]
    before = mouths.copy(), sound.copy()
    results = [settings(mouths, sound, np.random.default_rng(s)) for s in (5, 5, 6)]
    for picture, heard in results:
        assert picture.shape == shape and picture.dtype == np.uint8
        assert heard.shape == sound.shape and heard.dtype == np.float32 and np.isfinite(heard).all()
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    assert (results[0][0] != results[2][0]).mean() > 0.5 and (results[0][1] != results[2][1]).any()
    np.testing.assert_array_equal(mouths, before[0])
    np.testing.assert_array_equal(sound, before[1])


def test_nothing_is_changed_where_all_is_off():
    mouths, sound = given()
    picture, heard = TalkingAugment(**OFF)(mouths, sound, np.random.default_rng(0))
    np.testing.assert_array_equal(picture, mouths)
    np.testing.assert_array_equal(heard, sound)


@pytest.mark.parametrize(
    "part", ["flip_p", "pose_p", "light_p", "downscale_p", "blur_p", "jpeg_p", "erase_p"]
)
def test_pictures_are_changed_alike_in_all_frames(part):
    """A clip that stands still stays still: what moves must be the mouth alone."""
    mouths = np.repeat(given(1)[0], 8, axis=0)
    picture, heard = TalkingAugment(**OFF | {part: 1.0})(mouths, given()[1], np.random.default_rng(3))
    assert (picture != mouths).any() and (picture == picture[:1]).all()
    np.testing.assert_array_equal(heard, given()[1])


@pytest.mark.parametrize("part", ["grain_p", "jitter_p"])
def test_grain_and_jitter_differ_from_frame_to_frame(part):
    mouths = np.repeat(given(1)[0], 8, axis=0)
    settings = TalkingAugment(**OFF | {part: 1.0, "pose_p": 1.0})
    picture = settings.picture(mouths, np.random.default_rng(3))
    assert all((picture[i] != picture[i + 1]).any() for i in range(7))


@pytest.mark.parametrize("part", ["reverb_p", "eq_p", "band_p", "music_p", "noise_p", "codec_p"])
def test_sound_is_changed_and_stays_in_time(part):
    """The middle of a burst stays where it was, to 5 ms; a room may only make it longer."""
    sound = np.zeros(RATE, np.float32)
    burst = np.hanning(1600) * np.random.default_rng(2).standard_normal(1600)
    sound[6000:7600] = 0.5 * burst / np.abs(burst).max()
    for seed in range(4):
        heard = TalkingAugment(**OFF | {part: 1.0}).sound(sound, np.random.default_rng(seed))
        assert (heard != sound).any()
        lags = np.correlate(heard[5000:9000], sound[5500:8500], "valid")
        assert abs(int(np.abs(lags).argmax()) - 500) <= 0.005 * RATE, seed


def test_band_limits_take_away_what_lies_outside():
    sound = (0.1 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)
    settings = TalkingAugment(**OFF | {"band_p": 1.0, "low_hz": (400.0, 400.0), "high_hz": (3000.0, 3000.0)})
    spectrum = np.abs(np.fft.rfft(settings.sound(sound, np.random.default_rng(0)))) ** 2
    low, inside, high = (spectrum[a:b].mean() for a, b in ((20, 100), (800, 2000), (6500, 8000)))
    assert low < 1e-3 * inside and high < 1e-2 * inside


def test_silence_stays_silent():
    heard = TalkingAugment().sound(np.zeros(4000, np.float32), np.random.default_rng(0))
    assert heard.shape == (4000,) and not heard.any()


def test_music_has_notes():
    sound = music(2 * RATE, RATE, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(sound)) ** 2
    strongest = np.sort(spectrum)[-len(spectrum) // 100 :]
    assert sound.shape == (2 * RATE,) and strongest.sum() > 0.8 * spectrum.sum()


def test_unknown_settings_are_refused():
    with pytest.raises(ConfigError, match="no setting flips"):
        TalkingAugment.from_dict({"flips": 1.0})
    assert TalkingAugment.from_dict(TalkingAugment().to_dict()) == TalkingAugment()
