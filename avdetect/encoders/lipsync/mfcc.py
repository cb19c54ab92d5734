"""Mel-frequency cepstra as `python_speech_features` makes them, as a layer that can be exported."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdetect.encoders.base import full_precision

WIN, HOP, N_FFT = 400, 160, 512  # samples at 16 kHz: 25 ms and 10 ms
FILTERS, CEPSTRA = 26, 13
PREEMPHASIS = 0.97
LIFTER = 22
INT16 = 32768.0  # full scale of the 16-bit samples that the published code reads
FLOOR = float(np.finfo(np.float64).eps)  # that package's stand-in for an energy of zero


class MFCC(nn.Module):
    """Waveform at 16 kHz -> 13 cepstra at 100 Hz, as `python_speech_features.mfcc` of the 16-bit samples.

    Pre-emphasis 0.97 over the whole signal; frames of 400 samples without a window, the first at sample 0;
    power spectrum of 512 points; 26 triangles on HTK's mel scale, corners rounded down to bins; natural
    logarithm; orthonormal DCT-II; lifter 22; the first coefficient is replaced by the log of the frame's
    energy. That package gives one frame less: here every 10 ms has one, the last reaching over zeros behind
    the sound.
    """

    def __init__(self) -> None:
        super().__init__()
        # derived from constants, so not a part of the weights
        self.register_buffer("filter_bank", torch.from_numpy(_filter_bank()), persistent=False)
        self.register_buffer("cosines", torch.from_numpy(_liftered_dct()), persistent=False)
        self.register_buffer("window", torch.ones(WIN), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """(N, T) float in [-1, 1], T a multiple of 160 -> (N, 13, T / 160), always in float32."""
        with full_precision(waveform):
            samples = waveform.float() * INT16
            flat = torch.cat([samples[:, :1], samples[:, 1:] - PREEMPHASIS * samples[:, :-1]], dim=1)
            # torch centres the frame in the transform; where it lies there does not change the power
            before = (N_FFT - WIN) // 2
            padded = F.pad(flat, (before, N_FFT - HOP - before))
            spectrum = torch.stft(padded, N_FFT, HOP, WIN, self.window, center=False, return_complex=True)
            power = torch.view_as_real(spectrum).square().sum(dim=-1) / N_FFT
            bands = torch.matmul(self.filter_bank, power).clamp_min(FLOOR).log()
            energy = power.sum(dim=1, keepdim=True).clamp_min(FLOOR).log()
            return torch.cat([energy, torch.matmul(self.cosines, bands)], dim=1)


def _filter_bank() -> np.ndarray:
    """(26, 257) float32 triangles of height 1 between 0 Hz and 8 kHz."""
    mels = np.linspace(0.0, 2595.0 * np.log10(1.0 + 8000.0 / 700.0), FILTERS + 2)
    corners = np.floor((N_FFT + 1) * 700.0 * (10.0 ** (mels / 2595.0) - 1.0) / 16000.0)
    low, peak, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    bins = np.arange(N_FFT // 2 + 1)
    rising, falling = (bins - low) / (peak - low), (high - bins) / (high - peak)
    return np.clip(np.minimum(rising, falling), 0.0, None).astype(np.float32)


def _liftered_dct() -> np.ndarray:
    """(12, 26) float32: rows 1..12 of the orthonormal DCT-II, each times its lifter."""
    k = np.arange(1, CEPSTRA)[:, None]
    rows = np.sqrt(2.0 / FILTERS) * np.cos(np.pi * k * (2 * np.arange(FILTERS) + 1) / (2 * FILTERS))
    return (rows * (1.0 + LIFTER / 2.0 * np.sin(np.pi * k / LIFTER))).astype(np.float32)
