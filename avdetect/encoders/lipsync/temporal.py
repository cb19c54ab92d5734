"""Lips in motion against sound: frame differences, wider temporal context, and evidence instead of distances."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdetect.encoders.audio.logmel import LogMel, level_normalise
from avdetect.encoders.base import full_precision
from avdetect.encoders.lipsync import evidence, sync
from avdetect.encoders.lipsync.base import WIDTH, SyncEncoder
from avdetect.encoders.lipsync.lipsync import CHUNK, halved, lip_maps, sound_maps
from avdetect.transforms import LipSyncPreprocess

MOTION = 4.0  # gain of frame differences, which are that much smaller than the picture
RANGE = 9.0  # of natural log power under the loud parts that is kept: 39 dB


class TemporalLipSync(SyncEncoder):
    """Two streams of windows whose agreement is summed as evidence over a clip (`lipsync.evidence`).

    Lips: each frame with its differences to both neighbours through 2-D convolutions, then convolutions over time
    that see 11 frames; sound: log-mel without the clip's mean per band (the channel), the same in time. Each window
    also says how much it is worth: its embedding's length is between 0 and 2. `SyncResult.distances` is the negative
    of the evidence, and `confidence` the probability that the offset found is right within one grid frame.
    """

    def __init__(
        self,
        channels: tuple[int, int, int, int] = (24, 48, 96, 128),
        dim: int = 128,
        reach: int = 15,
        n_mels: int = 80,
        dropout: float = 0.2,
        mouth_size: int = 48,
        grid_fps: float = 25.0,
        sample_rate: int = 16000,
        name: str = "lipsync_small",
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
        hop = preprocess.samples_per_frame // 4
        self.mel_margin = (512 - hop) // 2
        self.front_end = LogMel(
            sample_rate, 512, 400, hop, n_mels, fmin=60.0, fmax=0.475 * sample_rate, center=False
        )
        self.sound_maps = sound_maps(channels)
        self.sound_time = _OverTime(channels[-1] * halved(n_mels, 4), dim, dropout)
        self.lip_maps = lip_maps(channels, inputs=3)
        self.lip_time = _OverTime(channels[-1] * halved(mouth_size, 4) ** 2, dim, dropout)
        self.log_scale = nn.Parameter(torch.tensor(2.0))  # of the cosine of two windows
        self.bias = nn.Parameter(torch.tensor(-1.0))  # evidence of windows that say nothing of each other
        self.log_pace = nn.Parameter(torch.tensor(-1.0))  # how much of an overlapping window is news
        self.classifier = nn.Sequential(nn.Linear(evidence.SCALARS, 16), nn.ReLU(), nn.Linear(16, 1))
        self.to(memory_format=torch.channels_last)

    def _lips(self, mouths: Tensor) -> Tensor:
        """(N, T, m, m) -> embeddings (N, T-4, dim), their lengths between 0 and 2."""
        mean = mouths.mean(dim=(1, 2, 3), keepdim=True)
        std = mouths.var(dim=(1, 2, 3), keepdim=True, unbiased=False).add(1e-4).sqrt()
        frames = (mouths - mean) / std
        steps = MOTION * (frames[:, 1:] - frames[:, :-1])
        none = torch.zeros_like(frames[:, :1])
        moving = torch.stack([frames, torch.cat([none, steps], 1), torch.cat([steps, none], 1)], dim=2)
        moving = moving.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        if torch.is_grad_enabled() or len(moving) <= CHUNK:
            maps = self.lip_maps(moving).flatten(1)
        else:
            maps = torch.cat([self.lip_maps(part).flatten(1) for part in moving.split(CHUNK)])
        return self.lip_time(maps.unflatten(0, mouths.shape[:2]).transpose(1, 2))

    def spectrogram(self, waveform: Tensor) -> Tensor:
        """(N, T * 640) -> log-mel (N, n_mels, 4 * T), each band's mean over the clip 0, faint parts cut off."""
        level = level_normalise(waveform)
        margin = (self.mel_margin, self.mel_margin)
        with full_precision(waveform):
            mel = self.front_end(F.pad(level.unsqueeze(1), margin, "reflect").squeeze(1))
            loud = torch.quantile(mel, 0.95, dim=2, keepdim=True)
            mel = torch.maximum(mel, loud - RANGE)
            return (mel - mel.mean(dim=2, keepdim=True)) / 2.0

    def _sound(self, waveform: Tensor) -> Tensor:
        """(N, T * 640) -> embeddings (N, T-4, dim), their lengths between 0 and 2."""
        maps = self.spectrogram(waveform).unsqueeze(1).contiguous(memory_format=torch.channels_last)
        return self.sound_time(self.sound_maps(maps).flatten(1, 2))

    def pair_evidence(self, lips: Tensor, sound: Tensor) -> Tensor:
        """Embeddings (N, W, D) and (N, V, D) -> evidence (N, W, V) that two windows show the same moment."""
        with full_precision(lips):
            return self.log_scale.exp() * lips.float() @ sound.float().transpose(1, 2) + self.bias

    @property
    def pace(self) -> Tensor:
        """Scale of sums of evidence as logarithms of probabilities: windows overlap and are no independent news."""
        return self.log_pace.exp()

    def pair_distances(self, lips: Tensor, sound: Tensor) -> Tensor:
        with full_precision(lips):
            lips, sound = lips.float(), sound.float()
            product = torch.einsum("nwd,nwdo->nwo", lips, sync.neighbours(sound, self.reach))
            return -(self.log_scale.exp() * product + self.bias)

    def curve_features(self, curve: Tensor, usable: Tensor, weights: Tensor) -> Tensor:
        return evidence.features(-curve * weights, weights, usable, self.pace)

    def curve_confidence(self, curve: Tensor, usable: Tensor, weights: Tensor) -> Tensor:
        logs = evidence.log_odds(-curve * weights * self.pace, usable)
        return evidence.near(logs, logs.argmax(dim=1), 1).exp().clamp_max(1.0)

    def best_offset(self, curve: Tensor, usable: Tensor, weights: Tensor) -> Tensor:
        logs = evidence.log_odds(-curve * weights * self.pace, usable)
        return logs.argmax(dim=1) - self.reach

    def classify(self, embedding: Tensor) -> Tensor:
        """(N, embedding_dim) -> (N,) logits, positive = out of sync."""
        return self.classifier(embedding[:, : evidence.SCALARS]).squeeze(1)

    def example_inputs(self, batch: int = 2) -> tuple[Tensor, ...]:
        """Mouths and sound of 2 s: (batch, 50, m, m) in [0, 1] and (batch, 32000) of noise."""
        frames, size = 50, self.preprocess.mouth_size
        sound = 0.1 * torch.randn(batch, frames * self.preprocess.samples_per_frame)
        return torch.rand(batch, frames, size, size), sound


class _OverTime(nn.Module):
    """(N, features, T) -> (N, T-4, dim): two residual steps that keep the grid, then windows of five frames."""

    def __init__(self, features: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.into = _step(features, dim, 1)
        self.steps = nn.ModuleList(_step(dim, dim, 3) for _ in range(2))
        self.dropout = nn.Dropout(dropout)
        self.window = nn.Sequential(nn.Conv1d(dim, dim, WIDTH, bias=False), nn.BatchNorm1d(dim), nn.ReLU())
        self.out = nn.Conv1d(dim, dim, 1)
        self.worth = nn.Conv1d(dim, 1, 1)

    def forward(self, maps: Tensor) -> Tensor:
        x = self.dropout(self.into(maps))
        for step in self.steps:
            x = x + step(x)
        x = self.window(self.dropout(x))
        with full_precision(x):
            direction = F.normalize(F.conv1d(x.float(), self.out.weight, self.out.bias), dim=1)
            worth = 2.0 * torch.sigmoid(F.conv1d(x.float(), self.worth.weight, self.worth.bias))
            return (worth * direction).transpose(1, 2)


def _step(before: int, after: int, kernel: int) -> nn.Sequential:
    convolution = nn.Conv1d(before, after, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm1d(after), nn.ReLU())
