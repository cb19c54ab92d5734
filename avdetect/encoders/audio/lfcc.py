"""Linear-frequency cepstral coefficients as a layer: every setting is stated, and the layer can be exported."""

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor, nn
from torch.nn import functional as F

from avdetect.encoders.base import full_precision


def linear_filter_bank(filters: int, n_fft: int, sample_rate: int) -> np.ndarray:
    """(filters, n_fft / 2 + 1): triangles of height 1 that overlap by half, evenly from 0 Hz to half the rate."""
    bins = np.linspace(0.0, sample_rate / 2, n_fft // 2 + 1)
    edges = np.linspace(0.0, sample_rate / 2, filters + 2)
    rising = (bins - edges[:-2, None]) / (edges[1] - edges[0])
    falling = (edges[2:, None] - bins) / (edges[1] - edges[0])
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


class LFCC(nn.Module):
    """Waveform -> LFCC: power spectrum, linear filter bank, natural logarithm, orthonormal DCT-II.

    Settings in common equal `torchaudio.transforms.LFCC` with `log_lf=True` (periodic Hann window, frames
    centred and mirrored at the ends). The defaults are those of the ASVspoof 2021 baseline: 20 ms every
    10 ms, 20 filters, all 20 coefficients, each with its first and second difference in time.
    """

    def __init__(
        self,
        sample_rate: int = 16000,  # Hz
        n_fft: int = 1024,
        win_length: int = 320,  # samples
        hop_length: int = 160,  # samples
        filters: int = 20,
        coefficients: int = 20,
        log_floor: float = 1e-6,  # added before the logarithm
        differences: int = 2,  # how often the difference in time is taken and appended
    ) -> None:
        super().__init__()
        self.n_fft, self.win_length, self.hop_length = n_fft, win_length, hop_length
        self.log_floor, self.differences = log_floor, differences
        self.rows = coefficients * (1 + differences)
        bank = linear_filter_bank(filters, n_fft, sample_rate)
        cosines = dct(np.eye(filters), axis=0, norm="ortho")[:coefficients].astype(np.float32)
        # derived from the settings, so not a part of the weights
        self.register_buffer("filter_bank", torch.from_numpy(bank), persistent=False)
        self.register_buffer("cosines", torch.from_numpy(cosines), persistent=False)
        self.register_buffer("window", torch.hann_window(win_length, periodic=True), persistent=False)

    def cepstrum(self, waveform: Tensor) -> Tensor:
        """(N, T) -> (N, coefficients, frames) without differences, always in float32."""
        with full_precision(waveform):
            spectrum = torch.stft(
                waveform.float(),
                self.n_fft,
                self.hop_length,
                self.win_length,
                self.window,
                center=True,
                pad_mode="reflect",
                return_complex=True,
            )
            energy = torch.view_as_real(spectrum).square().sum(dim=-1)
            return self.cosines @ torch.log(self.filter_bank @ energy + self.log_floor)

    def forward(self, waveform: Tensor) -> Tensor:
        """(N, T) -> (N, rows, frames): coefficients, first differences, second differences."""
        parts = [self.cepstrum(waveform)]
        for _ in range(self.differences):
            padded = F.pad(parts[-1], (1, 1), mode="replicate")
            parts.append(padded[..., 2:] - padded[..., :-2])
        return torch.cat(parts, dim=1)
