"""Degradations of a waveform, float (T,) -> float32 (T,), in time with the original: for robustness tests."""

from __future__ import annotations

import numpy as np

from avdetect.transforms.audio import add_noise

DIRECT_TO_REVERBERANT = 1.0  # energies: the listener at the critical distance, where both are equal (0 dB)
PRE_DELAY_S = 0.005  # the first reflection's path is 1.7 m longer than the direct one


def room_response(rt60_s: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Impulse response of a room, float64, the direct sound (1) first.

    Polack's statistical model: Gaussian noise that decays by 60 dB in `rt60_s`, after a pre-delay of 5 ms, with as
    much energy as the direct sound. J.-D. Polack, "La transmission de l'énergie sonore dans les salles", 1988.
    """
    length = round(rt60_s * sample_rate)
    tail = rng.standard_normal(length) * 10.0 ** (-3.0 * np.arange(length) / length)
    tail *= 1.0 / np.sqrt(DIRECT_TO_REVERBERANT * np.sum(tail**2))
    return np.concatenate([[1.0], np.zeros(round(PRE_DELAY_S * sample_rate) - 1), tail])


def reverberate(
    waveform: np.ndarray, rt60_s: float, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """The sound in a room of reverberation time `rt60_s` (`room_response`), as loud (RMS) as before."""
    from scipy import signal  # a second to import, and prediction does without

    wet = signal.fftconvolve(waveform.astype(np.float64), room_response(rt60_s, sample_rate, rng))
    wet = wet[: waveform.size]
    loudness, now = (float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) for x in (waveform, wet))
    return (wet * (loudness / now if now > 0 else 1.0)).astype(np.float32)


def noise(waveform: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Add pink noise (power 1 / f, as most surroundings have) `snr_db` below the power of the whole waveform."""
    return add_noise(waveform, snr_db, 1.0, rng)


def offset(waveform: np.ndarray, shift_ms: float, sample_rate: int) -> np.ndarray:
    """Shift by `shift_ms`, positive = later; silence comes in where nothing is known."""
    shift = round(shift_ms * sample_rate / 1000)
    out = np.zeros(waveform.size, np.float32)
    if abs(shift) < waveform.size:
        part = waveform[: waveform.size - shift] if shift >= 0 else waveform[-shift:]
        start = max(0, shift)
        out[start : start + part.size] = part
    return out
