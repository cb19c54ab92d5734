"""Fake voices and the source-filter model, on synthetic vowels."""

import numpy as np
import pytest

from avdetect.data.pseudo import source_filter, voices
from avdetect.data.pseudo.vocoders import Vocoder, VoiceGenerators
from avdetect.errors import ConfigError

RATE = 16000


def vowel(seconds=0.6, hertz=125.0):
    """Pulses through two resonances, and a little noise: float32."""
    from scipy import signal

    samples = round(seconds * RATE)
    source = np.zeros(samples)
    source[:: round(RATE / hertz)] = 1.0
    for centre in (700, 1900):
        radius = 0.97
        source = signal.lfilter(
            [1.0], [1, -2 * radius * np.cos(2 * np.pi * centre / RATE), radius**2], source
        )
    source += 0.003 * np.random.default_rng(0).standard_normal(samples)
    return (0.1 * source / np.sqrt(np.mean(source**2))).astype(np.float32)


@pytest.fixture(scope="module")
def generators():
    return VoiceGenerators(
        (Vocoder("mel", 16).eval(), Vocoder("codec", 16).eval()), ("voice-mel", "voice-codec")
    )


def power_at(waveform, hertz, size=2048):
    spectrum = np.abs(np.fft.rfft(waveform[:size] * np.hanning(size))) ** 2
    place = round(hertz * size / RATE)
    return spectrum[place - 2 : place + 3].max()


@pytest.mark.parametrize("hop", [64, 128, 100])
def test_a_spectrogram_is_turned_back_to_its_waveform(hop):
    sound = vowel()
    again = source_filter.from_spectrogram(source_filter.spectrogram(sound, 512, hop), hop, sound.size)
    np.testing.assert_allclose(again[256:-256], sound[256:-256], atol=1e-4)


def test_pitch_is_found_and_silence_has_none():
    track = source_filter.pitch_track(np.concatenate([vowel(), np.zeros(8000, np.float32)]), RATE, 128)
    np.testing.assert_allclose(track[5:65], 125, rtol=0.03)
    assert (track[90:] == 0).all()


def test_the_all_pole_envelope_follows_the_resonances():
    power = np.abs(source_filter.spectrogram(vowel(), 512, 128)) ** 2
    envelope = source_filter.lpc_envelope(power, 16)[20]
    hertz = np.arange(257) * RATE / 512
    peaks = hertz[1:-1][(envelope[1:-1] > envelope[:-2]) & (envelope[1:-1] > envelope[2:])]
    assert np.abs(peaks - 700).min() < 80 and np.abs(peaks - 1900).min() < 80
    smooth = source_filter.cepstral_envelope(power, 30)[20]
    assert smooth.shape == envelope.shape and smooth[22] > 2 * smooth[40]


def test_warping_moves_a_peak():
    spectrum = np.zeros((1, 257))
    spectrum[0, 100] = 1.0
    assert source_filter.warp(spectrum, 1.2)[0].argmax() == 120
    np.testing.assert_array_equal(source_filter.warp(spectrum, 1.0), spectrum)


def test_a_higher_pitch_is_heard():
    how = source_filter.Resynthesis(pitch=1.2, noise=0.0)
    made = source_filter.resynthesise(vowel(), RATE, how, np.random.default_rng(0))
    track = source_filter.pitch_track(made, RATE, 128)
    np.testing.assert_allclose(np.median(track[10:60]), 150, rtol=0.03)


def test_speech_without_any_pitch_becomes_noise():
    hiss = np.random.default_rng(1).standard_normal(8000).astype(np.float32)
    how = source_filter.Resynthesis(source="sines")
    made = source_filter.resynthesise(hiss, RATE, how, np.random.default_rng(0))
    assert made.shape == hiss.shape and np.isfinite(made).all() and made.std() > 0


@pytest.mark.parametrize("kind", voices.KINDS)
def test_every_kind_keeps_length_and_level_and_changes_the_rest(kind, generators):
    sound = vowel()
    for seed in range(6):
        made, name = voices.fake_voice(sound, RATE, np.random.default_rng(seed), kind, generators)
        assert name == kind and made.shape == sound.shape and made.dtype == np.float32
        np.testing.assert_allclose(np.std(made), np.std(sound), rtol=0.05)
        assert np.abs(made - sound).max() > 1e-3
        again, _ = voices.fake_voice(sound, RATE, np.random.default_rng(seed), kind, generators)
        np.testing.assert_array_equal(made, again)


@pytest.mark.parametrize("samples", [400, 1700])
@pytest.mark.parametrize("kind", voices.KINDS)
def test_short_sound_and_silence(kind, samples, generators):
    rng = np.random.default_rng(0)
    made, _ = voices.fake_voice(vowel()[:samples], RATE, rng, kind, generators)
    assert made.shape == (samples,) and np.isfinite(made).all()
    silent, _ = voices.fake_voice(np.zeros(samples, np.float32), RATE, rng, kind, generators)
    assert not silent.any()


def test_kinds_are_drawn_and_neural_ones_only_with_networks(generators):
    sound = vowel(0.1)
    drawn = {voices.fake_voice(sound, RATE, np.random.default_rng(s))[1] for s in range(40)}
    assert drawn == set(voices.KINDS) - {"neural"}
    drawn = {
        voices.fake_voice(sound, RATE, np.random.default_rng(s), generators=generators)[1] for s in range(40)
    }
    assert drawn == set(voices.KINDS)


def test_unknown_and_impossible_kinds():
    with pytest.raises(ConfigError, match="unknown kind of fake voice 'clone': one of griffin_lim"):
        voices.fake_voice(vowel(0.1), RATE, np.random.default_rng(0), "clone")
    with pytest.raises(ConfigError, match="need trained networks: run the stage generators"):
        voices.fake_voice(vowel(0.1), RATE, np.random.default_rng(0), "neural")


def test_equalising_takes_the_long_term_spectrum_over():
    hiss = np.random.default_rng(2).standard_normal(16000).astype(np.float32)
    low = source_filter.from_spectrogram(
        source_filter.spectrogram(hiss, 512, 128) * (np.arange(257) < 80), 128, hiss.size
    )
    assert power_at(voices._equalise(hiss, low), 6000) < 1e-3 * power_at(hiss, 6000)
