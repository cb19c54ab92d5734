"""Strange faces and sounds are of the right form, differ from what they are made of, and follow from their seed."""

import numpy as np
import pytest

from avdetect.data.novel_faces import FACES
from avdetect.data.novel_sounds import PEAK, SOUNDS, babble

RATE = 16000


def crop() -> np.ndarray:
    y, x = np.mgrid[:96, :96]
    light = 120 + 60 * np.sin(x / 9) * np.cos(y / 14) + np.random.default_rng(0).normal(0, 6, (96, 96))
    return np.clip(light[..., None] * np.array([1.1, 0.9, 0.8]), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", FACES)
def test_faces(name):
    before = crop()
    made, again = (FACES[name](before.copy(), np.random.default_rng(1)) for _ in range(2))
    assert made.shape == before.shape and made.dtype == np.uint8
    assert np.array_equal(made, again)
    assert np.abs(made.astype(int) - before).mean() > 1


@pytest.mark.parametrize("name", SOUNDS)
@pytest.mark.parametrize("samples", [RATE, 3 * RATE + 7])
def test_sounds(name, samples):
    made, again = (SOUNDS[name](samples, RATE, np.random.default_rng(1)) for _ in range(2))
    assert made.shape == (samples,) and made.dtype == np.float32
    assert np.abs(made).max() == pytest.approx(PEAK, abs=1e-4)
    assert np.array_equal(made, again)


def test_babble_holds_every_pitch_of_its_voices():
    t = np.arange(RATE) / RATE
    voices = [np.sin(2 * np.pi * hz * t) for hz in (200, 500)]
    spectrum = np.abs(np.fft.rfft(babble(voices, 2 * RATE, np.random.default_rng(0)))) / RATE
    heard = np.flatnonzero(spectrum > 0.2 * spectrum.max()) / 2
    assert {200.0, 500.0} <= set(heard)
