"""The log-mel spectrogram as a layer: every setting is stated, and the layer can be exported."""

import librosa
import torch
from torch import Tensor, nn

from avdetect.encoders.base import full_precision


class LogMel(nn.Module):
    """Waveform -> log-mel spectrogram.

    The defaults equal `librosa.feature.melspectrogram` where the two share a setting (Slaney scale and norm,
    periodic Hann window, power 2, centred frames) except for sizes; torchaudio's defaults differ (HTK scale,
    no norm). The logarithm is natural and taken of `mel + log_floor`, so silence has a finite value and a
    gradient.
    """

    def __init__(
        self,
        sample_rate: int = 16000,  # Hz
        n_fft: int = 512,
        win_length: int = 400,  # samples; the window is centred in the n_fft samples
        hop_length: int = 160,  # samples
        n_mels: int = 80,
        fmin: float = 0.0,  # Hz
        fmax: float = 8000.0,  # Hz
        htk: bool = False,  # mel scale: HTK's formula or Slaney's
        norm: str | None = "slaney",  # triangles of equal area ("slaney") or of equal height (None)
        power: float = 2.0,  # exponent of the magnitude: 1 or 2
        center: bool = True,  # frame t is centred at t * hop_length; else it starts there
        pad_mode: str = "reflect",  # how the ends are extended where `center`
        log_floor: float = 1e-6,  # added before the logarithm
    ) -> None:
        super().__init__()
        if power not in (1.0, 2.0):
            raise ValueError(f"power must be 1 or 2, not {power}")
        self.n_fft, self.win_length, self.hop_length, self.n_mels = n_fft, win_length, hop_length, n_mels
        self.power, self.center, self.pad_mode, self.log_floor = power, center, pad_mode, log_floor
        bank = librosa.filters.mel(
            sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax, htk=htk, norm=norm
        )
        # derived from the settings, so not a part of the weights
        self.register_buffer("filter_bank", torch.from_numpy(bank), persistent=False)  # (n_mels, n_fft/2 + 1)
        self.register_buffer("window", torch.hann_window(win_length, periodic=True), persistent=False)

    def mel(self, waveform: Tensor) -> Tensor:
        """(N, T) -> mel spectrogram (N, n_mels, frames) before the logarithm, always in float32."""
        with full_precision(waveform):
            spectrum = torch.stft(
                waveform.float(),
                self.n_fft,
                self.hop_length,
                self.win_length,
                self.window,
                center=self.center,
                pad_mode=self.pad_mode,
                return_complex=True,
            )
            # the sum of squares has a gradient in silence, the absolute value has none there
            energy = (
                torch.view_as_real(spectrum).square().sum(dim=-1) if self.power == 2.0 else spectrum.abs()
            )
            return torch.matmul(self.filter_bank, energy)

    def forward(self, waveform: Tensor) -> Tensor:
        """(N, T) -> (N, n_mels, frames), natural logarithm."""
        return torch.log(self.mel(waveform) + self.log_floor)


def level_normalise(waveform: Tensor) -> Tensor:
    """(N, T) at a root mean square of 1, so that loudness tells nothing; digital silence stays silent."""
    rms = waveform.square().mean(dim=-1, keepdim=True).sqrt()
    return waveform / rms.clamp_min(1e-6)
