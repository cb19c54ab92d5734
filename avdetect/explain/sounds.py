"""The parts of a sound that speak for fake, to be listened to."""

from __future__ import annotations

import numpy as np
import torch

from avdetect.explain.explanation import Explanation

FFT, HOP = 512, 128
FULL = 98.0  # percentile of the map above which a place is heard in full
FLOOR = 0.02  # what remains of the rest, -34 dB: silence would sound like a fault


def speaking_for_fake(audio: np.ndarray, rate: int, explanation: Explanation) -> np.ndarray:
    """Waveform (T,) from time 0 and the map of a part of it -> that part (S,), masked by what speaks for fake.

    The short-time Fourier transform is multiplied by the map's positive part, divided by its `FULL` percentile, and
    transformed back; other places keep `FLOOR` of their amplitude.
    """
    length = round(explanation.values.shape[1] * explanation.hop_s * rate)
    begin = round(explanation.start_s * rate)
    part = torch.from_numpy(np.array(audio[begin : begin + length], np.float32))
    window = torch.hann_window(FFT)
    spectrum = torch.stft(part, FFT, HOP, window=window, return_complex=True)
    mask = _mask(explanation, np.arange(FFT // 2 + 1) * rate / FFT, np.arange(spectrum.shape[1]) * HOP / rate)
    return torch.istft(spectrum * torch.from_numpy(mask), FFT, HOP, window=window, length=len(part)).numpy()


def _mask(explanation: Explanation, bins_hz: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    positive = np.maximum(explanation.values, 0.0)
    top = float(np.percentile(positive, FULL)) or float(positive.max())
    share = np.clip(positive / max(top, 1e-12), FLOOR, 1.0)
    rows = np.abs(bins_hz[:, None] - explanation.bands_hz[None]).argmin(1)
    columns = np.clip(np.rint(times_s / explanation.hop_s).astype(int), 0, share.shape[1] - 1)
    return share[rows][:, columns].astype(np.float32)
