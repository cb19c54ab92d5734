"""A convolutional network over the log-mel spectrogram."""

import librosa
import numpy as np
import torch
from torch import Tensor, nn

from avdetect.encoders.audio.logmel import LogMel, level_normalise
from avdetect.encoders.base import Encoder
from avdetect.transforms import AudioPreprocess


class MelCNN(Encoder):
    """Log-mel -> blocks of convolution, max-pool, norm, ReLU -> dense layer -> logit; sigmoid is P(fake).

    The waveform is brought to a level of 1 before the spectrogram, and each mel band is standardised by batch
    norm. The maps are pooled over time by mean and maximum, so that any duration from `min_samples` on is
    taken.
    """

    kind = "audio"

    def __init__(
        self,
        channels: tuple[int, ...] = (
            32,
            64,
            128,
            128,
            256,
        ),  # of the blocks; each block halves time and frequency
        dense: int = 256,
        dropout: float = 0.3,
        sample_rate: int = 16000,
        n_fft: int = 512,
        win_length: int = 400,
        hop_length: int = 160,
        n_mels: int = 80,
        fmin: float = 20.0,
        fmax: float = 8000.0,
        window_s: float = 4.0,  # of the preprocessing, not a limit of the network
        hop_s: float = 2.0,
        name: str = "mel_cnn",
    ) -> None:
        channels = tuple(channels)
        settings = {
            "channels": list(channels),
            "dense": dense,
            "dropout": dropout,
            "sample_rate": sample_rate,
            "n_fft": n_fft,
            "win_length": win_length,
            "hop_length": hop_length,
            "n_mels": n_mels,
            "fmin": fmin,
            "fmax": fmax,
            "window_s": window_s,
            "hop_s": hop_s,
        }
        super().__init__(name, dense, AudioPreprocess(sample_rate, window_s, hop_s), settings)
        self.front_end = LogMel(sample_rate, n_fft, win_length, hop_length, n_mels, fmin, fmax)
        self.band_norm = nn.BatchNorm1d(n_mels)
        blocks = [
            nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.MaxPool2d(2),  # before the norm: a quarter of the work
                nn.BatchNorm2d(after),
                nn.ReLU(),
            )
            for before, after in zip((1, *channels), channels, strict=False)
        ]
        self.blocks = nn.Sequential(*blocks)
        bands = n_mels >> len(channels)
        self.dense = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * channels[-1] * bands, dense), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(dense, 1)
        # one value must be left after the halvings; the front end mirrors half a transform at each end
        self.min_samples = max(((1 << len(channels)) - 1) * hop_length, n_fft // 2 + 1)
        self.to(memory_format=torch.channels_last)

    def spectrogram(self, x: Tensor) -> Tensor:
        """Waveform (N, T) -> the log-mel spectrogram (N, n_mels, frames) that the network sees."""
        if x.shape[-1] < self.min_samples:
            raise ValueError(f"{self.name} needs at least {self.min_samples} samples, not {x.shape[-1]}")
        return self.front_end(level_normalise(x))

    def front(self, x: Tensor) -> Tensor:
        """Waveform (N, T) -> what the layers see (N, 1, n_mels, frames): the log-mel spectrogram."""
        return self.spectrogram(x).unsqueeze(1)

    def neutral_front(self, maps: Tensor) -> Tensor:
        """Maps of the shape of `front`'s that say nothing: each band at its mean over the training sounds."""
        return self.band_norm.running_mean.view(1, 1, -1, 1).expand_as(maps).contiguous()

    @property
    def bands_hz(self) -> np.ndarray:
        """(n_mels,) centre frequency of each row of `front`, rising."""
        settings = self.settings
        edges = librosa.mel_frequencies(settings["n_mels"] + 2, fmin=settings["fmin"], fmax=settings["fmax"])
        return edges[1:-1]

    def embed(self, x: Tensor) -> Tensor:
        """Waveform (N, T) -> (N, dense)."""
        return self.embed_front(self.front(x))

    def embed_front(self, maps: Tensor) -> Tensor:
        """Maps of `front` (N, 1, n_mels, frames) -> (N, dense)."""
        maps = self.band_norm(maps.squeeze(1)).unsqueeze(1)
        maps = self.blocks(maps.contiguous(memory_format=torch.channels_last))
        pooled = torch.cat([maps.mean(dim=3), maps.amax(dim=3)], dim=1)
        return self.dense(pooled.flatten(1))

    def classify(self, embedding: Tensor) -> Tensor:
        """(N, dense) -> (N,) logits, positive = fake."""
        return self.classifier(self.dropout(embedding)).squeeze(1)

    def example_inputs(self, batch: int = 2) -> tuple[Tensor, ...]:
        """(batch, window_samples) of quiet noise."""
        return (0.1 * torch.randn(batch, self.preprocess.window_samples),)
