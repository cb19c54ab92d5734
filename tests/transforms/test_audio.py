import numpy as np
import pytest

from avdetect.transforms import AudioAugment, AudioPreprocess
from avdetect.transforms.audio import add_noise

RATE = 16000
OFF = {"gain_p": 0, "band_p": 0, "noise_p": 0, "polarity_p": 0}


def tone(hz, seconds=1.0):
    return (0.1 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def test_windows_cover_everything_and_know_their_time():
    audio = np.arange(RATE * 5 + 123, dtype=np.float32)
    windows, starts = AudioPreprocess(window_s=2.0, hop_s=1.0)(audio)
    assert windows.shape == (5, 2 * RATE)
    np.testing.assert_allclose(starts, [0, 1, 2, 3, 3 + 123 / RATE])
    np.testing.assert_array_equal(windows[:, 0].numpy(), np.round(starts * RATE))
    assert windows[-1, -1] == audio[-1]


def test_audio_of_exactly_one_window_gives_one():
    windows, starts = AudioPreprocess(window_s=1.0)(tone(100, 1.0))
    assert windows.shape == (1, RATE) and starts.tolist() == [0.0]


def test_short_audio_is_repeated():
    audio = np.array([1, 2, 3], dtype=np.float32)
    windows, starts = AudioPreprocess(window_s=8 / RATE)(audio)
    assert windows.tolist() == [[1, 2, 3, 1, 2, 3, 1, 2]] and starts.tolist() == [0.0]


@pytest.mark.parametrize(
    "bad, reason",
    [
        (np.zeros((2, 10), np.float32), "floating point"),
        (np.zeros(10, np.int16), "floating point"),
        (np.zeros(0, np.float32), "no samples"),
    ],
)
def test_wrong_waveforms_are_refused(bad, reason):
    with pytest.raises(ValueError, match=reason):
        AudioPreprocess()(bad)
    with pytest.raises(ValueError, match=reason):
        AudioAugment()(bad, np.random.default_rng(0))


@pytest.mark.parametrize(
    "settings", [AudioPreprocess(hop_s=1.5), AudioAugment(crop_s=None, snr_db=(5.0, 9.0))]
)
def test_settings_survive_their_dictionary(settings):
    assert type(settings).from_dict(settings.to_dict()) == settings


def test_augmentation_repeats_with_the_seed_and_differs_without():
    audio, augment = tone(300, 6.0), AudioAugment()
    first = augment(audio, np.random.default_rng(1))
    assert first.shape == (4 * RATE,) and first.dtype == np.float32
    np.testing.assert_array_equal(first, augment(audio, np.random.default_rng(1)))
    assert not np.array_equal(first, augment(audio, np.random.default_rng(2)))


def test_all_off_cuts_only():
    audio = np.arange(1000, dtype=np.float32)
    out = AudioAugment(crop_s=100 / RATE, **OFF)(audio, np.random.default_rng(0))
    np.testing.assert_array_equal(out, np.arange(out[0], out[0] + 100))
    np.testing.assert_array_equal(AudioAugment(crop_s=None, **OFF)(audio, np.random.default_rng(0)), audio)


@pytest.mark.parametrize("colour", [0.0, 1.0])
def test_noise_has_the_asked_ratio(colour):
    audio = tone(440)
    noise = add_noise(audio, 20.0, colour, np.random.default_rng(0)) - audio
    assert 10 * np.log10(np.mean(audio**2) / np.mean(noise**2)) == pytest.approx(20.0, abs=0.1)
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    falls = np.mean(spectrum[100:200]) / np.mean(spectrum[4000:8000])
    assert falls == pytest.approx(1.0, rel=0.4) if colour == 0 else falls > 20


def test_band_limit_keeps_the_middle_and_cuts_the_ends():
    augment = AudioAugment(crop_s=None, **{**OFF, "band_p": 1.0}, low_hz=(200, 200), high_hz=(4000, 4000))
    level = {hz: np.std(augment(tone(hz), np.random.default_rng(0))[4000:]) for hz in (40, 1000, 7500)}
    assert level[1000] == pytest.approx(np.std(tone(1000)), rel=0.05)
    assert level[40] < 0.01 * level[1000] and level[7500] < 0.01 * level[1000]


def test_gain_stays_in_its_range():
    augment = AudioAugment(crop_s=None, **{**OFF, "gain_p": 1.0}, gain_db=(-6.0, 6.0))
    rng = np.random.default_rng(0)
    ratio = np.array([augment(tone(100), rng)[10] / tone(100)[10] for _ in range(50)])
    assert 0.5 < ratio.min() < 0.7 and 1.4 < ratio.max() < 2.0
