"""A convolutional network over levels and phases of a linear spectrogram."""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdetect.encoders.audio.logmel import level_normalise
from avdetect.encoders.base import Encoder, full_precision
from avdetect.errors import ConfigError
from avdetect.transforms import AudioPreprocess

MAPS = ("level", "advance", "delay")


class SpectrumMaps(nn.Module):
    """Waveform -> maps (N, C, bins, frames) of one short-time Fourier transform, chosen from `MAPS`.

    level (1): the logarithm of the magnitudes, less its mean over time in every bin, which is where a linear channel
    (microphone, room, band limits) adds a constant. advance (2): cosine and sine of how far a bin's phase goes from
    one frame to the next, less what its centre frequency goes. delay (2): cosine and sine of the phase from one bin
    to the next, which tells when in the frame the energy comes (group delay). Of advance and delay a linear channel
    changes little. Both fade out where there is little energy.
    """

    def __init__(
        self, n_fft: int, hop_length: int, maps: tuple[str, ...] = MAPS, log_floor: float = 1e-4
    ) -> None:
        super().__init__()
        if not maps or set(maps) - set(MAPS):
            raise ConfigError(f"maps of a spectrum are {list(maps)}: choose some of {', '.join(MAPS)}")
        self.n_fft, self.hop_length, self.maps, self.log_floor = n_fft, hop_length, tuple(maps), log_floor
        self.channels = sum(1 if name == "level" else 2 for name in maps)
        self.bins = n_fft // 2
        # derived from the settings, so not a part of the weights
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        turn = 2 * math.pi * torch.arange(self.bins) * hop_length / n_fft
        self.register_buffer("turn", torch.stack([turn.cos(), turn.sin()])[..., None], persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """(N, T) at a level of 1 -> (N, channels, n_fft / 2, frames), in float32; the highest bin is left out."""
        with full_precision(waveform):
            spectrum = torch.stft(
                waveform.float(), self.n_fft, self.hop_length, window=self.window, return_complex=True
            )
            real, imag = torch.view_as_real(spectrum)[:, : self.bins].unbind(-1)
            maps = []
            if "level" in self.maps:
                level = 0.5 * torch.log(real.square() + imag.square() + self.log_floor)
                maps.append(level - level.mean(dim=-1, keepdim=True))
            if "advance" in self.maps:
                along, across = _turn(real[..., 1:], imag[..., 1:], real[..., :-1], imag[..., :-1])
                cos, sin = self.turn
                along, across = along * cos + across * sin, across * cos - along * sin
                maps += [F.pad(part, (1, 0)) for part in self._unit(along, across)]
            if "delay" in self.maps:
                along, across = _turn(real[:, 1:], imag[:, 1:], real[:, :-1], imag[:, :-1])
                # the minus puts the origin of time into the middle of the frame
                maps += [F.pad(-part, (0, 0, 1, 0)) for part in self._unit(along, across)]
            return torch.stack(maps, dim=1)

    def _unit(self, along: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
        size = (along.square() + across.square() + self.log_floor**2).sqrt() + self.log_floor
        return along / size, across / size


def _turn(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of (a + ib) times the conjugate of (c + id)."""
    return a * c + b * d, b * c - a * d


class SpectrumCNN(Encoder):
    """Linear spectrogram (`SpectrumMaps`) -> convolutions -> mean and spread over time -> dense layer -> logit.

    The package's own, after the spectrogram networks of the ASVspoof challenges. Bins are linear in frequency:
    traces of vocoders lie high, where mel bands are wide. Any duration from `min_samples` on is taken.
    """

    kind = "audio"

    def __init__(
        self,
        channels: tuple[int, ...] = (24, 32, 48, 64, 96),  # of the blocks; each but the first has two layers
        dense: int = 96,
        dropout: float = 0.2,
        sample_rate: int = 16000,
        n_fft: int = 512,
        hop_length: int = 128,
        maps: tuple[str, ...] = ("advance", "delay"),
        regions: int = 4,  # of frequency, told apart by the dense layer
        window_s: float = 1.0,  # of the preprocessing, not a limit of the network
        hop_s: float = 0.5,
        name: str = "spectrum_cnn",
    ) -> None:
        channels, maps = tuple(channels), tuple(maps)
        settings = {
            "channels": list(channels),
            "dense": dense,
            "dropout": dropout,
            "sample_rate": sample_rate,
            "n_fft": n_fft,
            "hop_length": hop_length,
            "maps": list(maps),
            "regions": regions,
            "window_s": window_s,
            "hop_s": hop_s,
        }
        super().__init__(name, dense, AudioPreprocess(sample_rate, window_s, hop_s), settings)
        self.front_end, self.regions = SpectrumMaps(n_fft, hop_length, maps), regions
        blocks = [_layer(self.front_end.channels, channels[0], 5, 2)]
        for before, after in zip(channels, channels[1:], strict=False):
            blocks.append(
                nn.Sequential(_layer(before, after, 3, 1), nn.MaxPool2d(2), _layer(after, after, 3, 1))
            )
        self.blocks = nn.Sequential(*blocks)
        self.dense = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(2 * channels[-1] * regions, dense), nn.ReLU()
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(dense, 1)
        self.min_samples = max(n_fft // 2 + 1, (2 << len(channels)) * hop_length)
        self.to(memory_format=torch.channels_last)

    def front(self, x: Tensor) -> Tensor:
        """Waveform (N, T) -> what the layers see (N, channels of `SpectrumMaps`, bins, frames)."""
        if x.shape[-1] < self.min_samples:
            raise ValueError(f"{self.name} needs at least {self.min_samples} samples, not {x.shape[-1]}")
        return self.front_end(level_normalise(x))

    def neutral_front(self, maps: Tensor) -> Tensor:
        """Maps of the shape of `front`'s that say nothing: 0 is a bin's mean level, and a phase without energy."""
        return torch.zeros_like(maps)

    @property
    def bands_hz(self) -> np.ndarray:
        """(bins,) centre frequency of each row of `front`, rising."""
        return np.arange(self.front_end.bins) * self.settings["sample_rate"] / self.front_end.n_fft

    def embed(self, x: Tensor) -> Tensor:
        """Waveform (N, T) -> (N, dense)."""
        return self.embed_front(self.front(x))

    def embed_front(self, maps: Tensor) -> Tensor:
        """Maps of `front` (N, channels, bins, frames) -> (N, dense)."""
        maps = self.blocks(maps.contiguous(memory_format=torch.channels_last)).float()
        maps = F.adaptive_avg_pool2d(maps, (self.regions, maps.shape[3]))
        spread = (maps.var(dim=3, correction=0) + 1e-5).sqrt()
        return self.dense(torch.cat([maps.mean(dim=3), spread], dim=1).flatten(1))

    def classify(self, embedding: Tensor) -> Tensor:
        """(N, dense) -> (N,) logits, positive = fake."""
        return self.classifier(self.dropout(embedding)).squeeze(1)

    def example_inputs(self, batch: int = 2) -> tuple[Tensor, ...]:
        """(batch, window_samples) of quiet noise."""
        return (0.1 * torch.randn(batch, self.preprocess.window_samples),)


def _layer(before: int, after: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )
