"""LFCC-LCNN: a light CNN with max-feature-map activations over cepstral coefficients, then LSTMs."""

import torch
from torch import Tensor, nn

from avdetect.encoders.audio.lfcc import LFCC
from avdetect.encoders.audio.logmel import level_normalise
from avdetect.encoders.base import Encoder, full_precision
from avdetect.transforms import AudioPreprocess

POOLS = 4


class MaxFeatureMap(nn.Module):
    """The larger of neighbouring channels: (N, 2 C, ...) -> (N, C, ...)."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, 2 C, ...) -> (N, C, ...)."""
        return x.unflatten(1, (-1, 2)).amax(dim=2)


def _conv(before: int, after: int, kernel: int) -> list[nn.Module]:
    return [nn.Conv2d(before, 2 * after, kernel, padding=kernel // 2), MaxFeatureMap()]


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, affine=False)


class LfccLcnn(Encoder):
    """LFCC with differences -> nine convolutions of a light CNN -> two bidirectional LSTMs -> mean over time.

    Lavrentyeva et al. (Interspeech 2019) in the form of the ASVspoof 2021 baseline "LFCC-LCNN" (Wang and
    Yamagishi, Interspeech 2021: the "LSTM-sum" back end, in which the LSTMs' output is added to their input),
    with one logit for the two classes. The waveform is brought to a level of 1 first, which the baseline does
    not do, so that loudness tells nothing. Any duration from `min_samples` on is taken.
    """

    kind = "audio"

    def __init__(
        self,
        channels: tuple[int, int, int] = (32, 48, 64),  # of the maps
        dropout: float = 0.7,  # after the convolutions
        sample_rate: int = 16000,
        n_fft: int = 1024,
        win_length: int = 320,
        hop_length: int = 160,
        coefficients: int = 20,
        window_s: float = 4.0,  # of the preprocessing, not a limit of the network
        hop_s: float = 2.0,
        name: str = "lfcc_lcnn",
    ) -> None:
        settings = {
            "channels": list(channels),
            "dropout": dropout,
            "sample_rate": sample_rate,
            "n_fft": n_fft,
            "win_length": win_length,
            "hop_length": hop_length,
            "coefficients": coefficients,
            "window_s": window_s,
            "hop_s": hop_s,
        }
        front_end = LFCC(sample_rate, n_fft, win_length, hop_length, coefficients, coefficients)
        a, b, c = channels
        features = a * (front_end.rows >> POOLS)
        super().__init__(name, features, AudioPreprocess(sample_rate, window_s, hop_s), settings)
        self.front_end = front_end
        self.convolutions = nn.Sequential(
            *(*_conv(1, a, 5), nn.MaxPool2d(2)),
            *(*_conv(a, a, 1), _norm(a), *_conv(a, b, 3), nn.MaxPool2d(2), _norm(b)),
            *(*_conv(b, b, 1), _norm(b), *_conv(b, c, 3), nn.MaxPool2d(2)),
            *(*_conv(c, c, 1), _norm(c), *_conv(c, a, 3), _norm(a)),
            *(*_conv(a, a, 1), _norm(a), *_conv(a, a, 3), nn.MaxPool2d(2)),
            nn.Dropout(dropout),
        )
        self.lstm = nn.LSTM(features, features // 2, num_layers=2, bidirectional=True)
        self.classifier = nn.Linear(features, 1)
        # one step must be left after the halvings; the front end mirrors half a transform at each end
        self.min_samples = max(((1 << POOLS) - 1) * hop_length, n_fft // 2 + 1)

    def cepstrum(self, x: Tensor) -> Tensor:
        """Waveform (N, T) -> what the network sees (N, 3 * coefficients, frames)."""
        if x.shape[-1] < self.min_samples:
            raise ValueError(f"{self.name} needs at least {self.min_samples} samples, not {x.shape[-1]}")
        return self.front_end(level_normalise(x))

    def embed(self, x: Tensor) -> Tensor:
        """Waveform (N, T) -> (N, embedding_dim)."""
        maps = self.convolutions(self.cepstrum(x).unsqueeze(1))
        steps = maps.flatten(1, 2).permute(2, 0, 1).contiguous()  # (steps, N, features)
        # rounding errors of half precision add up over the steps
        with full_precision(steps):
            steps = steps.float()
            return (self.lstm(steps)[0] + steps).mean(dim=0)

    def classify(self, embedding: Tensor) -> Tensor:
        """(N, embedding_dim) -> (N,) logits, positive = fake."""
        return self.classifier(embedding).squeeze(1)

    def example_inputs(self, batch: int = 2) -> tuple[Tensor, ...]:
        """(batch, window_samples) of quiet noise."""
        return (0.1 * torch.randn(batch, self.preprocess.window_samples),)
