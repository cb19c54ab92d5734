"""How loud sound is, and where it begins and ends."""

from __future__ import annotations

import numpy as np

BLOCK_S = 0.005  # fakes of FakeAVCeleb and AV-Deepfake1M begin with some 25 ms of silence (arXiv 2412.00175)
BELOW_DB = 40.0  # quieter than the loudest block by this much is silence


def loudness_db(waveform: np.ndarray) -> float | None:
    """RMS level of (T,) in dB relative to full scale, unweighted; None for digital silence."""
    power = float(np.mean(np.square(waveform, dtype=np.float64))) if waveform.size else 0.0
    return 10 * float(np.log10(power)) if power > 0 else None


def sounding_span(waveform: np.ndarray, rate: int, below_db: float = BELOW_DB) -> tuple[int, int] | None:
    """First sample and sample after the last of what is heard in float (T,) at `rate` Hz.

    Heard are blocks of 5 ms whose energy is less than `below_db` decibels below that of the loudest block.
    None where there is digital silence only, or nothing.
    """
    size = max(1, round(BLOCK_S * rate))
    starts = np.arange(0, waveform.size, size)
    if not starts.size:
        return None
    energy = np.add.reduceat(np.square(waveform, dtype=np.float64), starts)
    power = energy / np.diff(np.append(starts, waveform.size))
    if not power.max() > 0:
        return None
    heard = np.flatnonzero(power > power.max() * 10 ** (-below_db / 10))
    return int(starts[heard[0]]), int(min(starts[heard[-1]] + size, waveform.size))
