"""A fixed bank of band-pass filters on the waveform, the first layer of RawNet2 and AASIST."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdetect.encoders.base import full_precision


def sinc_bank(filters: int, kernel: int, sample_rate: int) -> np.ndarray:
    """(filters, kernel) float32: ideal band-passes under a Hamming window, side by side on the mel scale.

    The bands share their edges, which lie evenly between 0 Hz and half the sample rate on HTK's mel scale
    (Ravanelli and Bengio, SincNet, SLT 2018, with the cut-off frequencies kept fixed). `kernel` is odd.
    """
    if kernel % 2 == 0:
        raise ValueError(f"the filters are symmetric about a sample: their length must be odd, not {kernel}")
    highest = 2595.0 * np.log10(1.0 + sample_rate / 2 / 700.0)
    edges = 700.0 * (10.0 ** (np.linspace(0.0, highest, filters + 1) / 2595.0) - 1.0)  # Hz
    cycles = 2.0 * edges[:, None] / sample_rate  # of a half period in a sample
    low_passes = cycles * np.sinc(cycles * (np.arange(kernel) - kernel // 2))
    return (np.diff(low_passes, axis=0) * np.hamming(kernel)).astype(np.float32)


class SincBank(nn.Module):
    """Waveform (N, T) -> magnitude of each band (N, filters, T - kernel + 1), always in float32."""

    def __init__(self, filters: int, kernel: int, sample_rate: int = 16000) -> None:
        super().__init__()
        # a copy, as torch's own memory is aligned: two networks of equal weights give equal bits
        bank = torch.from_numpy(sinc_bank(filters, kernel, sample_rate)).unsqueeze(1).clone()
        # derived from the settings, so not a part of the weights
        self.register_buffer("bank", bank, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """(N, T) -> (N, filters, T - kernel + 1)."""
        with full_precision(waveform):
            return F.conv1d(waveform.float().unsqueeze(1), self.bank).abs()
