"""Speech taken apart into a source (pitch, noise) and a filter (spectral envelope) and put together anew.

In the manner of LPC vocoders (Atal and Hanauer, 1971) and of WORLD (Morise, Yokomori and Ozawa, 2016): pulses or
sines at the pitch and noise, shaped by an envelope in the short-time Fourier domain. Arrays only, no weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

PITCH_HZ = (60.0, 400.0)
HOP_S, FRAME_S = 0.008, 0.032
VOICED = 0.45  # autocorrelation from which a frame has a pitch
TINY = 1e-8


@dataclass(frozen=True)
class Resynthesis:
    """How speech is put together anew; the defaults change neither voice nor pitch."""

    envelope: str = "lpc"  # or "cepstrum"
    order: int = 20  # coefficients of the envelope
    source: str = "pulses"  # all harmonics in phase; "sines": each from a phase of its own
    voiced_to_hz: float = 5000.0  # above it voiced frames have noise alone
    noise: float = 0.1  # share of noise below it
    pitch: float = 1.0  # factor
    formants: float = 1.0  # factor of the envelope's frequencies


def spectrogram(waveform: np.ndarray, size: int, hop: int) -> np.ndarray:
    """float (T,) -> complex64 (frames, size / 2 + 1), Hann windows centred at multiples of `hop`."""
    padded = np.pad(
        waveform, (size // 2, size // 2 + hop), mode="reflect" if waveform.size > size else "constant"
    )
    frames = sliding_window_view(padded, size)[: waveform.size + hop : hop]
    return np.fft.rfft(frames * hann(size), axis=1).astype(np.complex64)


def from_spectrogram(spectrum: np.ndarray, hop: int, samples: int) -> np.ndarray:
    """The inverse of `spectrogram` by least squares (Griffin and Lim, 1984): float32 (samples,)."""
    size = 2 * (spectrum.shape[1] - 1)
    window = hann(size)
    frames = np.fft.irfft(spectrum, size, axis=1) * window
    total = np.zeros((len(frames) - 1) * hop + size)
    weight = np.zeros_like(total)
    if size % hop == 0:  # part after part of all frames at once
        rows = len(frames) * hop
        for part in range(size // hop):
            cut = slice(part * hop, (part + 1) * hop)
            total[part * hop : part * hop + rows].reshape(-1, hop)[:] += frames[:, cut]
            weight[part * hop : part * hop + rows].reshape(-1, hop)[:] += window[cut] ** 2
    else:
        for place, frame in enumerate(frames):
            total[place * hop : place * hop + size] += frame
            weight[place * hop : place * hop + size] += window**2
    return (total / np.maximum(weight, 1e-3))[size // 2 : size // 2 + samples].astype(np.float32)


def hann(size: int) -> np.ndarray:
    """The periodic Hann window (size,)."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)


def pitch_track(waveform: np.ndarray, sample_rate: int, hop: int) -> np.ndarray:
    """float (T,) -> pitch in Hz of frames at multiples of `hop`, 0 where unvoiced, by autocorrelation."""
    size = round(0.04 * sample_rate)
    padded = np.pad(waveform, (size // 2, size // 2 + hop))
    frames = sliding_window_view(padded, size)[: waveform.size + hop : hop] * hann(size)
    length = 1 << (2 * size - 1).bit_length()
    correlation = np.fft.irfft(np.abs(np.fft.rfft(frames, length, axis=1)) ** 2, axis=1)
    own = np.fft.irfft(np.abs(np.fft.rfft(hann(size), length)) ** 2)  # the window's share falls with the lag
    low, high = int(sample_rate / PITCH_HZ[1]), min(int(sample_rate / PITCH_HZ[0]), size - 2)
    power = np.maximum(correlation[:, :1], TINY)
    search = correlation[:, low : high + 1] / power * (own[0] / own[low : high + 1])
    # of lags that fit as well, the shortest is the period
    lag = low + (search - 0.1 * np.arange(search.shape[1]) / search.shape[1]).argmax(axis=1)
    loud = correlation[:, 0] > 1e-3 * correlation[:, 0].max(initial=TINY)
    pitch = np.where((search.max(axis=1) > VOICED) & loud, sample_rate / lag, 0.0)
    return np.median(sliding_window_view(np.pad(pitch, 2, mode="edge"), 5), axis=1)


def lpc_envelope(power: np.ndarray, order: int) -> np.ndarray:
    """Power spectra (frames, bins) -> magnitudes (frames, bins) of the all-pole filters of that order."""
    correlation = np.fft.irfft(power, axis=1)[:, : order + 1]
    correlation[:, 0] = correlation[:, 0] * 1.0001 + TINY
    places = np.abs(np.arange(order)[:, None] - np.arange(order)[None])
    weights = np.linalg.solve(correlation[:, places], correlation[:, 1:, None])[..., 0]
    error = np.maximum(correlation[:, 0] - (weights * correlation[:, 1:]).sum(1), TINY)
    polynomial = np.concatenate([np.ones((len(weights), 1)), -weights], axis=1)
    size = 2 * (power.shape[1] - 1)
    return np.sqrt(error)[:, None] / np.maximum(np.abs(np.fft.rfft(polynomial, size, axis=1)), TINY)


def cepstral_envelope(power: np.ndarray, order: int) -> np.ndarray:
    """Power spectra (frames, bins) -> magnitudes of as many bins, smoothed to `order` cepstral coefficients."""
    cepstrum = np.fft.irfft(0.5 * np.log(power + TINY), axis=1)
    cepstrum[:, order + 1 : -order] = 0.0
    return np.exp(np.fft.rfft(cepstrum, axis=1).real)


def warp(spectra: np.ndarray, factor: float) -> np.ndarray:
    """Magnitudes (frames, bins) with frequencies multiplied by `factor`; the last bin is repeated above."""
    bins = np.arange(spectra.shape[1])
    at = np.minimum(bins / factor, bins[-1])
    low = np.minimum(at.astype(int), bins[-1] - 1)
    share = (at - low).astype(spectra.dtype)
    return spectra[:, low] * (1 - share) + spectra[:, low + 1] * share


def resynthesise(
    waveform: np.ndarray, sample_rate: int, how: Resynthesis, rng: np.random.Generator
) -> np.ndarray:
    """float (T,) -> float32 (T,)."""
    hop = round(HOP_S * sample_rate)
    size = 1 << (round(FRAME_S * sample_rate) - 1).bit_length()
    power = np.abs(spectrogram(waveform, size, hop)) ** 2
    shape = lpc_envelope if how.envelope == "lpc" else cepstral_envelope
    envelope = warp(shape(power, how.order), how.formants)
    pitch = pitch_track(waveform, sample_rate, hop) * how.pitch
    tone = spectrogram(_tone(pitch, waveform.size, sample_rate, how.source, rng), size, hop)
    hiss = spectrogram(rng.standard_normal(waveform.size).astype(np.float32), size, hop)
    frames = min(len(envelope), len(tone), len(pitch))
    voiced = (pitch[:frames, None] > 0) * np.where(
        _bins(size, sample_rate) < how.voiced_to_hz, 1 - how.noise, 0.0
    )
    mixed = np.sqrt(voiced) * tone[:frames] + np.sqrt(1 - voiced) * hiss[:frames]
    # the source is white on average; its own frames give the level
    return from_spectrogram(mixed * envelope[:frames], hop, waveform.size)


def _bins(size: int, sample_rate: int) -> np.ndarray:
    return np.arange(size // 2 + 1) * sample_rate / size


def _tone(
    pitch: np.ndarray, samples: int, sample_rate: int, source: str, rng: np.random.Generator
) -> np.ndarray:
    """Harmonics of the pitch (frames,) up to the Nyquist frequency, of power 1: float32 (samples,)."""
    filled = pitch.copy()
    voiced = np.flatnonzero(pitch > 0)
    if not voiced.size:
        return np.zeros(samples, np.float32)
    filled = np.interp(np.arange(pitch.size), voiced, pitch[voiced])
    hertz = np.interp(np.linspace(0, pitch.size - 1, samples), np.arange(pitch.size), filled)
    turns = np.cumsum(hertz / sample_rate)
    if source == "pulses":
        tone = np.zeros(samples, np.float32)
        beats = np.flatnonzero(np.diff(np.floor(turns), prepend=0.0) > 0)
        tone[beats] = np.sqrt(sample_rate / hertz[beats])
        return tone
    tone = np.zeros(samples)
    count = int(0.5 * sample_rate / hertz.min())
    for number, start in enumerate(rng.random(count), start=1):
        heard = number * hertz < 0.5 * sample_rate
        tone += np.where(heard, np.cos(2 * np.pi * (number * turns + start)), 0.0)
    return (tone * np.sqrt(4 * hertz / sample_rate)).astype(np.float32)
