from dataclasses import replace

import numpy as np
import pytest

from avdetect.errors import ConfigError
from avdetect.transforms import AudioAugment, AudioPreprocess
from avdetect.transforms.audio import add_noise
from avdetect.transforms.masks import mask_frequency, mask_time
from avdetect.transforms.rawboost import (
    ALGORITHMS,
    convolutive_noise,
    impulsive_noise,
    rawboost,
    stationary_noise,
    stop_band_filter,
)
from avdetect.transforms.speech_codecs import CODECS, code

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


BOOST = [{"rawboost_p": 1.0, "rawboost_algorithm": number} for number in ALGORITHMS]
CODED = [{"codec_p": 1.0, "codecs": (name,)} for name in CODECS]


def speech(seconds=2.0):
    """Harmonics of a voice that rises and falls, with a little noise."""
    time = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(140 + 40 * np.sin(2 * np.pi * 0.7 * time)) / RATE
    voice = sum(np.sin(k * phase) / k for k in range(1, 40)) * (0.55 + 0.45 * np.sin(2 * np.pi * 3 * time))
    noise = np.random.default_rng(0).standard_normal(time.size)
    return (0.1 * voice + 0.002 * noise).astype(np.float32)


def snr_db(clean, changed):
    return 10 * np.log10(np.mean(clean**2) / np.mean((changed - clean) ** 2))


def energy(audio, low_hz, high_hz):
    spectrum = np.abs(np.fft.rfft(audio.astype(np.float64))) ** 2
    frequency = np.fft.rfftfreq(audio.size, 1 / RATE)
    return spectrum[(frequency >= low_hz) & (frequency < high_hz)].sum()


def lag(clean, changed, reach=2000):
    """By how many samples `changed` is late."""
    middle = clean[reach:-reach]
    return int(np.argmax(np.correlate(changed, middle, "valid"))) - reach


@pytest.mark.parametrize("settings", [*BOOST, *CODED, {"mask_p": 1.0}], ids=str)
def test_what_is_switched_on_keeps_the_length_and_repeats_with_the_seed(settings):
    audio, augment = speech(), AudioAugment(crop_s=1.0, **{**OFF, **settings})
    cut = AudioAugment(crop_s=1.0, **OFF)(audio, np.random.default_rng(4))
    first = augment(audio, np.random.default_rng(4))
    assert first.shape == (RATE,) and first.dtype == np.float32 and np.isfinite(first).all()
    np.testing.assert_array_equal(first, augment(audio, np.random.default_rng(4)))
    assert not np.array_equal(first, cut)
    assert np.isfinite(augment(np.zeros(RATE, np.float32), np.random.default_rng(0))).all()
    assert augment(audio[:50], np.random.default_rng(0)).shape == (RATE,)
    assert type(augment).from_dict(augment.to_dict()) == augment


def test_what_is_off_changes_nothing_about_older_settings():
    audio = np.random.default_rng(5).standard_normal(70000).astype(np.float32) * 0.1
    out = AudioAugment(band_p=1.0, noise_p=1.0)(audio, np.random.default_rng(7))
    # measured before RawBoost, codecs and masks existed
    np.testing.assert_allclose(out[[0, 1000, 63999]], [-0.00266267, -0.05595832, 0.03551994], rtol=1e-4)


@pytest.mark.parametrize(
    "settings, reason",
    [
        ({"rawboost_algorithm": 8}, "RawBoost has no algorithm 8; take one of 1, 2, 3, 4"),
        ({"codecs": ("gsm", "mp3")}, "codecs must name some of mulaw, alaw, mp3, aac, opus, not gsm"),
        ({"codecs": ()}, "codecs must name some of mulaw, .*, not none"),
    ],
)
def test_unknown_choices_are_refused(settings, reason):
    with pytest.raises(ConfigError, match=reason):
        AudioAugment(**settings)


@pytest.mark.parametrize("gain", [0.0, -12.0])
def test_a_stop_band_filter_has_its_gain_and_no_delay(gain):
    taps = stop_band_filter(gain, RATE, np.random.default_rng(1))
    response = np.abs(np.fft.rfft(taps, 8192))
    assert 20 * np.log10(response.max()) == pytest.approx(gain, abs=0.05)
    assert response.min() < 0.05 * response.max()  # something is stopped
    assert taps.size % 2 == 1
    np.testing.assert_allclose(taps, taps[::-1], atol=1e-12)


def test_convolutive_noise_adds_harmonics_below_the_tone_and_is_in_time():
    time, audio = np.arange(2 * RATE) / RATE, speech()
    assert lag(audio, convolutive_noise(audio.astype(float), RATE, np.random.default_rng(0))) == 0
    loud = np.sin(2 * np.pi * 700 * time)
    found = []
    for seed in range(20):
        out = convolutive_noise(loud, RATE, np.random.default_rng(seed))
        assert np.abs(out).max() <= 1.0 and abs(out.mean()) < 1e-3
        lines = {k: energy(out, 700 * k - 20, 700 * k + 20) for k in range(1, 6)}
        assert energy(out, 1000, 1300) < 1e-3 * sum(lines.values())  # nothing between the harmonics
        found.append(10 * np.log10(sum(lines[k] for k in range(2, 6)) / lines[1]))
    assert -30 < np.median(found) < -5


def test_impulsive_noise_touches_few_samples_by_a_part_of_themselves():
    audio = speech().astype(float)
    parts = []
    for seed in range(20):
        out = impulsive_noise(audio, np.random.default_rng(seed))
        changed = out != audio
        parts.append(changed.mean())
        assert (np.abs(out - audio)[changed] <= 2 * np.abs(audio[changed])).all()
    assert max(parts) <= 0.1 and 0.03 < np.mean(parts) < 0.07


def test_stationary_noise_has_published_ratios_and_follows_no_signal():
    audio = speech().astype(float)
    ratios = []
    for seed in range(30):
        noise = stationary_noise(audio, RATE, np.random.default_rng(seed)) - audio
        ratios.append(snr_db(audio, audio + noise))
        assert abs(np.corrcoef(noise, audio)[0, 1]) < 0.05
        level = np.sqrt(np.mean(noise.reshape(8, -1) ** 2, axis=1))
        assert level.max() < 1.2 * level.min()  # stationary, though the voice is not
    assert 10 <= min(ratios) < 15 and 35 < max(ratios) <= 40


def test_the_series_is_one_after_the_other():
    audio, rng = speech(), np.random.default_rng(3)
    expected = convolutive_noise(audio.astype(float), RATE, rng)
    expected = stationary_noise(impulsive_noise(expected, rng), RATE, rng)
    np.testing.assert_allclose(rawboost(audio, 4, RATE, np.random.default_rng(3)), expected, atol=1e-6)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("rate", [16000, 48000])
def test_a_codec_is_heard_but_in_time(name, rate):
    audio = np.repeat(speech(), rate // RATE)  # the same curve, in steps
    out = code(audio, name, 32, rate)
    assert out.shape == audio.shape and out.dtype == np.float32
    assert lag(audio, out) == 0
    middle = slice(rate // 4, -rate // 4)
    assert 8 < snr_db(audio[middle], out[middle]) < 45
    for samples in (1, 37, 1601):
        assert code(audio[:samples], name, 32, rate).shape == (samples,)


@pytest.mark.parametrize("name", ["mp3", "aac", "opus"])
def test_more_bits_are_nearer_to_the_recording(name):
    audio = speech()
    assert snr_db(audio, code(audio, name, 64, RATE)) > 3 + snr_db(audio, code(audio, name, 16, RATE))


@pytest.mark.parametrize("name", ["mulaw", "alaw"])
def test_a_telephone_ends_at_four_kilohertz_and_has_256_levels(name):
    audio = speech()
    out = code(audio, name, 64, RATE)
    assert energy(out, 4600, 8000) < 1e-3 * energy(audio, 4600, 8000)
    assert energy(out, 100, 3400) == pytest.approx(energy(audio, 100, 3400), rel=0.05)
    ramp = np.linspace(-1, 1, 8000, dtype=np.float32)
    assert len(np.unique(code(ramp, name, 64, 8000))) <= 256


def test_louder_than_one_is_clipped_as_in_a_file():
    assert np.abs(code(3 * speech() / 0.3, "alaw", 64, 8000)).max() <= 1.0


def test_a_missing_codec_is_named(monkeypatch):
    monkeypatch.setitem(CODECS, "aac", replace(CODECS["aac"], encoder="nosuchcodec"))
    with pytest.raises(ConfigError, match="no codec nosuchcodec; take it out of `codecs`"):
        code(speech(), "aac", 32, RATE)


def test_time_masks_are_silent_without_a_click():
    audio, lengths, middles = tone(1000, 4.0), [], []
    for seed in range(40):
        out = mask_time(audio, 1.0, RATE, np.random.default_rng(seed))
        silent = np.flatnonzero((out == 0) & (np.arange(out.size) % 16 == 4))  # where the tone is not zero
        touched = np.flatnonzero(np.abs(out - audio) > 1e-7)
        lengths.append(16 * len(silent) / RATE)
        middles.append(touched.mean() / out.size)
        assert len(touched) <= 16 * (len(silent) + 1) + 2 * 80
        assert energy(out, 3000, 8000) < 1e-5 * energy(out, 900, 1100)
    assert max(lengths) <= 1.0 and 0.3 < np.mean(lengths) < 0.7
    assert min(middles) < 0.3 and max(middles) > 0.7


def test_a_mask_of_time_may_be_longer_than_the_sound():
    out = [mask_time(tone(300, 0.1), 5.0, RATE, np.random.default_rng(seed)) for seed in range(20)]
    assert sum(not part.any() for part in out) > 10


def test_frequency_masks_take_a_band_and_leave_the_rest():
    noise = np.random.default_rng(0).standard_normal(4 * RATE).astype(np.float32)
    before = np.abs(np.fft.rfft(noise.astype(float)))
    mel = 2595 * np.log10(1 + np.fft.rfftfreq(noise.size, 1 / RATE) / 700)
    widths, lows = [], []
    for seed in range(40):
        after = np.abs(
            np.fft.rfft(mask_frequency(noise, 27, RATE, np.random.default_rng(seed)).astype(float))
        )
        gone = np.flatnonzero(after < 1e-3 * before)
        if len(gone) > 1:
            assert np.array_equal(gone, np.arange(gone[0], gone[-1] + 1))
            widths.append(80 * (mel[gone[-1]] - mel[gone[0]]) / mel[-1])
            lows.append(mel[gone[0]] / mel[-1])
        kept = np.delete(np.arange(after.size), gone)
        np.testing.assert_allclose(after[kept], before[kept], atol=1e-2)
    assert max(widths) <= 27 and 9 < np.mean(widths) < 18
    assert min(lows) < 0.1 and max(lows) > 0.6


def test_opus_is_refused_at_rates_at_which_it_gives_silence():
    tone = np.sin(np.arange(16000) / 10).astype(np.float32) / 2
    with pytest.raises(ConfigError, match="opus was asked for at 8 kbit/s; give 9 or more"):
        code(tone, "opus", 8, 16000)
    assert code(tone, "opus", 9, 16000).std() > 0.2
