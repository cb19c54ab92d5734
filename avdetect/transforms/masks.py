"""Masks of time and of frequency, as SpecAugment has them, on the waveform so that every encoder gets them.

Park et al., "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition", Interspeech
2019. A front end of any kind then sees silence for a while, or nothing in a band.
"""

import numpy as np

FADE_S = 0.005  # a cut without it clicks, and would be heard in all bands
MEL_BANDS = 80  # on which the published widths are counted


def mask_time(
    waveform: np.ndarray, longest_s: float, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """Silence somewhere, of 0 to `longest_s` seconds plus a fade of 5 ms at either end."""
    fade = round(FADE_S * sample_rate)
    length = min(int(rng.uniform(0.0, longest_s) * sample_rate), waveform.size)
    start = int(rng.integers(0, waveform.size - length + 1))
    places = np.arange(waveform.size)
    distance = np.maximum(start - places, places - (start + length - 1))  # to the silent part
    gain = 0.5 - 0.5 * np.cos(np.pi * np.clip(distance / fade, 0.0, 1.0))
    return (waveform * gain).astype(np.float32)


def mask_frequency(
    waveform: np.ndarray, widest_bands: int, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """A band of 0 to `widest_bands` eightieths of the mel scale (HTK's, up to half the rate) taken out."""
    highest = 2595.0 * np.log10(1.0 + sample_rate / 2 / 700.0)
    width = rng.uniform(0.0, widest_bands) * highest / MEL_BANDS
    low = rng.uniform(0.0, highest - width)
    low_hz, high_hz = (700.0 * (10.0 ** (mel / 2595.0) - 1.0) for mel in (low, low + width))
    spectrum = np.fft.rfft(waveform)
    frequency = np.fft.rfftfreq(waveform.size, 1.0 / sample_rate)
    spectrum[(frequency >= low_hz) & (frequency < high_hz)] = 0.0
    return np.fft.irfft(spectrum, waveform.size).astype(np.float32)
