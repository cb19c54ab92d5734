"""Leading and trailing silence, and how loud sound is."""

import numpy as np
import pytest

from avdetect.errors import ConfigError
from avdetect.media.loudness import loudness_db, sounding_span
from avdetect.transforms.silence import trim_silence

RATE = 16000


def tone(seconds, amplitude=0.5):
    return (amplitude * np.sin(2 * np.pi * 220 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def padded(before, after, level=0.0):
    rng = np.random.default_rng(0)
    sound = np.concatenate([np.zeros(round(before * RATE)), tone(1), np.zeros(round(after * RATE))])
    return (sound + level * rng.standard_normal(len(sound))).astype(np.float32)


@pytest.mark.parametrize("level", [0.0, 0.001])
@pytest.mark.parametrize("before, after", [(0, 0), (0.025, 0), (0.5, 0.3)])
def test_silence_at_both_ends_is_cut_to_5_ms(before, after, level):
    waveform = padded(before, after, level)
    trimmed = trim_silence(waveform, RATE)
    first, last = sounding_span(waveform, RATE)
    assert abs(first / RATE - before) <= 0.005 and abs(last / RATE - before - 1) <= 0.005
    assert trimmed.dtype == np.float32 and np.array_equal(trimmed, waveform[first:last])


def test_pauses_inside_stay():
    waveform = np.concatenate([tone(0.2), np.zeros(RATE, np.float32), tone(0.2)])
    assert np.array_equal(trim_silence(waveform, RATE), waveform)


def test_how_quiet_is_silent_can_be_chosen():
    waveform = np.concatenate([tone(0.5, 0.01), tone(0.5)])  # the first half 34 dB below
    assert len(trim_silence(waveform, RATE)) == RATE
    assert len(trim_silence(waveform, RATE, below_db=30)) == pytest.approx(RATE / 2, abs=80)
    with pytest.raises(ConfigError, match="-3 dB"):
        trim_silence(waveform, RATE, below_db=-3)


@pytest.mark.parametrize("size", [0, 1, 79, 16000])
def test_digital_silence_comes_back_whole(size):
    silence = np.zeros(size, np.float32)
    assert sounding_span(silence, RATE) is None and loudness_db(silence) is None
    assert len(trim_silence(silence, RATE)) == size


def test_loudness_is_the_rms_level():
    assert loudness_db(tone(1, 1.0)) == pytest.approx(-3.01, abs=0.01)
    assert loudness_db(tone(1, 0.1)) == pytest.approx(-23.01, abs=0.01)
