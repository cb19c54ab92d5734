"""RawBoost: distortions of the raw waveform for anti-spoofing.

Tak, Kamble, Patino, Todisco and Evans, "RawBoost: A Raw Data Boosting and Augmentation Method applied to
Automatic Speaker Verification Anti-Spoofing", ICASSP 2022; the ranges are the published ones. scipy is
imported where it is used: it takes a second, and only training needs it.
"""

import numpy as np

BANDS = 5  # stop bands of a random filter
CENTRE_HZ = (20.0, 8000.0)
WIDTH_HZ = (100.0, 1000.0)
TAPS = (10, 100)  # of a stop band: more make it steeper
ORDERS = 5  # highest power of the waveform
BIAS_DB = (5.0, 20.0)  # how far the powers stay below the linear part
IMPULSES = (0.0, 0.1)  # part of the samples that get an impulse
IMPULSE_GAIN = 2.0  # largest impulse, relative to the sample
SNR_DB = (10.0, 40.0)

# The published numbering: which distortions follow each other.
ALGORITHMS = {1: (1,), 2: (2,), 3: (3,), 4: (1, 2, 3), 5: (1, 2), 6: (1, 3), 7: (2, 3)}


def stop_band_filter(gain_db: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Taps (an odd number) of five random stop bands in a row; the highest response is `gain_db`."""
    from scipy import signal

    taps, nyquist = np.ones(1), sample_rate / 2
    for _ in range(BANDS):
        centre, width = rng.uniform(CENTRE_HZ[0], min(CENTRE_HZ[1], nyquist)), rng.uniform(*WIDTH_HZ)
        edges = (max(centre - width / 2, 1e-3), min(centre + width / 2, nyquist - 1e-3))
        count = int(rng.integers(TAPS[0], TAPS[1] + 1)) | 1  # an odd number delays by whole samples
        taps = np.convolve(taps, signal.firwin(count, edges, window="hamming", fs=sample_rate))
    highest = np.abs(np.fft.rfft(taps, 1024)).max()
    return taps * 10 ** (gain_db / 20) / highest


def _filter(waveform: np.ndarray, taps: np.ndarray) -> np.ndarray:
    from scipy import signal

    full = signal.oaconvolve(waveform, taps)
    return full[taps.size // 2 :][: waveform.size]


def _within_one(waveform: np.ndarray) -> np.ndarray:
    return waveform / max(1.0, float(np.abs(waveform).max()))


def convolutive_noise(waveform: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Algorithm 1, linear and non-linear convolutive noise: the powers 1 to 5, each through its own filter."""
    out = np.zeros(waveform.size)
    for order in range(1, ORDERS + 1):
        gain = 0.0 if order == 1 else -rng.uniform(*BIAS_DB)
        out += _filter(waveform**order, stop_band_filter(gain, sample_rate, rng))
    return _within_one(out - out.mean())


def impulsive_noise(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Algorithm 2, impulsive signal-dependent noise: some samples change by a part of themselves."""
    count = int(waveform.size * rng.uniform(*IMPULSES))
    places = rng.choice(waveform.size, count, replace=False)
    out = waveform.copy()
    out[places] *= 1.0 + IMPULSE_GAIN * rng.uniform(-1.0, 1.0, count) * rng.uniform(-1.0, 1.0, count)
    return _within_one(out)


def stationary_noise(waveform: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Algorithm 3, stationary signal-independent noise: white noise through a random filter."""
    noise = _filter(rng.standard_normal(waveform.size), stop_band_filter(0.0, sample_rate, rng))
    ratio = 10 ** (-rng.uniform(*SNR_DB) / 20)
    return waveform + noise * (ratio * np.linalg.norm(waveform) / np.linalg.norm(noise))


def rawboost(waveform: np.ndarray, algorithm: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """float (T,) in [-1, 1] -> float32 (T,); `algorithm` as published: 1 to 3 alone, 4 all of them in series.

    5 is 1 and 2, 6 is 1 and 3, 7 is 2 and 3 in series.
    """
    out = waveform.astype(np.float64)
    for step in ALGORITHMS[algorithm]:
        if step == 1:
            out = convolutive_noise(out, sample_rate, rng)
        elif step == 2:
            out = impulsive_noise(out, rng)
        else:
            out = stationary_noise(out, sample_rate, rng)
    return out.astype(np.float32)
