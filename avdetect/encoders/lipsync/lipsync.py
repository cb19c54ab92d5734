"""Whether the lips move with the voice: two streams, an offset search, and a head on its curve."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdetect.encoders.audio.logmel import LogMel, level_normalise
from avdetect.encoders.lipsync.base import WIDTH, SyncEncoder
from avdetect.transforms import LipSyncPreprocess

CHUNK = 512  # frames that go through the lip network at once where no gradient is kept


class LipSync(SyncEncoder):
    """Lip and sound embeddings of every 5-frame window, compared over offsets of up to `reach` grid frames.

    Both streams are convolutional over the whole clip, so each window costs only its own share; embeddings
    have length 1. The logit is of "out of sync" (label 1). The input is `(mouths, waveform)`: mouths (N, T,
    m, m) float in [0, 1] on the 25 Hz grid, waveform (N, T * 640) float, T >= `min_frames`.
    """

    def __init__(
        self,
        channels: tuple[int, int, int, int] = (24, 48, 96, 128),
        dim: int = 192,
        reach: int = 15,
        n_mels: int = 80,
        dropout: float = 0.1,
        mouth_size: int = 48,
        grid_fps: float = 25.0,
        sample_rate: int = 16000,
        name: str = "lipsync",
    ) -> None:
        channels = tuple(channels)
        settings = {
            "channels": list(channels),
            "dim": dim,
            "reach": reach,
            "n_mels": n_mels,
            "dropout": dropout,
            "mouth_size": mouth_size,
            "grid_fps": grid_fps,
            "sample_rate": sample_rate,
        }
        preprocess = LipSyncPreprocess(mouth_size, grid_fps, sample_rate)
        super().__init__(name, reach, preprocess, settings)
        self.dim = dim
        hop = preprocess.samples_per_frame // 4  # four mel frames a grid frame: 100 Hz
        self.mel_margin = (512 - hop) // 2  # so that mel frame j is centred in its own samples
        self.front_end = LogMel(
            sample_rate, 512, 400, hop, n_mels, fmin=20.0, fmax=sample_rate / 2, center=False
        )
        self.band_norm = nn.BatchNorm1d(n_mels)
        self.sound_maps = sound_maps(channels)
        self.sound_time = _over_time(channels[-1] * halved(n_mels, 4), dim, dropout)
        self.lip_maps = lip_maps(channels)
        self.lip_time = _over_time(channels[-1] * halved(mouth_size, 4) ** 2, dim, dropout)
        self.classifier = nn.Sequential(nn.Linear(self.embedding_dim, 32), nn.ReLU(), nn.Linear(32, 1))
        self.to(memory_format=torch.channels_last)

    def _lips(self, mouths: Tensor) -> Tensor:
        """(N, T, m, m) -> normalised embeddings (N, T-4, dim)."""
        # light and contrast of the clip are taken out, movement stays
        mean = mouths.mean(dim=(1, 2, 3), keepdim=True)
        std = mouths.var(dim=(1, 2, 3), keepdim=True, unbiased=False).add(1e-4).sqrt()
        frames = (
            ((mouths - mean) / std).flatten(0, 1).unsqueeze(1).contiguous(memory_format=torch.channels_last)
        )
        if torch.is_grad_enabled() or len(frames) <= CHUNK:
            maps = self.lip_maps(frames).flatten(1)
        else:
            maps = torch.cat([self.lip_maps(part).flatten(1) for part in frames.split(CHUNK)])
        sequence = maps.unflatten(0, mouths.shape[:2]).transpose(1, 2)
        return F.normalize(self.lip_time(sequence).transpose(1, 2), dim=2)

    def spectrogram(self, waveform: Tensor) -> Tensor:
        """(N, T * 640) -> log-mel (N, n_mels, 4 * T) at level 1."""
        level = level_normalise(waveform)
        return self.front_end(
            F.pad(level.unsqueeze(1), (self.mel_margin, self.mel_margin), "reflect").squeeze(1)
        )

    def _sound(self, waveform: Tensor) -> Tensor:
        """(N, T * 640) -> normalised embeddings (N, T-4, dim)."""
        maps = self.band_norm(self.spectrogram(waveform)).unsqueeze(1)
        sequence = self.sound_maps(maps.contiguous(memory_format=torch.channels_last)).flatten(1, 2)
        return F.normalize(self.sound_time(sequence).transpose(1, 2), dim=2)

    def example_inputs(self, batch: int = 2) -> tuple[Tensor, ...]:
        """Mouths and sound of 2 s: (batch, 50, m, m) in [0, 1] and (batch, 32000) of noise."""
        frames, size = 50, self.preprocess.mouth_size
        sound = 0.1 * torch.randn(batch, frames * self.preprocess.samples_per_frame)
        return torch.rand(batch, frames, size, size), sound


def halved(size: int, times: int) -> int:
    """A side after `times` convolutions of stride 2."""
    for _ in range(times):
        size = (size + 1) // 2
    return size


def block(
    before: int, after: int, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int]
) -> nn.Module:
    """Convolution, batch norm, ReLU."""
    convolution = nn.Conv2d(before, after, kernel, stride, pad, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU())


def lip_maps(channels: tuple[int, int, int, int], inputs: int = 1) -> nn.Sequential:
    """Each frame by itself; four halvings: (N*T, inputs, 48, 48) -> (N*T, C, 3, 3)."""
    one, two, three, four = channels
    return nn.Sequential(
        block(inputs, one, (5, 5), (2, 2), (2, 2)),
        block(one, two, (3, 3), (2, 2), (1, 1)),
        block(two, three, (3, 3), (2, 2), (1, 1)),
        block(three, four, (3, 3), (2, 2), (1, 1)),
    )


def sound_maps(channels: tuple[int, int, int, int]) -> nn.Sequential:
    """100 Hz -> 25 Hz and frequency halved four times: (N, 1, 80, 4*T) -> (N, C, 5, T).

    A kernel of four steps with stride 2 and padding 1 is centred between the two steps it replaces, so that
    the output stays aligned with the grid.
    """
    one, two, three, four = channels
    return nn.Sequential(
        block(1, one, (5, 3), (2, 1), (2, 1)),
        block(one, two, (3, 4), (2, 2), (1, 1)),
        block(two, three, (3, 4), (2, 2), (1, 1)),
        block(three, four, (3, 1), (2, 1), (1, 0)),
    )


def _over_time(features: int, dim: int, dropout: float) -> nn.Sequential:
    """(N, features, T) -> (N, dim, T-4): windows of five frames."""
    return nn.Sequential(
        nn.Conv1d(features, dim, 1, bias=False),
        nn.BatchNorm1d(dim),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Conv1d(dim, dim, WIDTH, bias=False),
        nn.BatchNorm1d(dim),
        nn.ReLU(),
        nn.Conv1d(dim, dim, 1),
    )
