"""RawNet2 for anti-spoofing: residual blocks on filtered waveforms, scaled feature maps, and a GRU."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdetect.encoders.audio.sinc import SincBank
from avdetect.encoders.base import Encoder, full_precision
from avdetect.transforms import AudioPreprocess

BLOCKS = 6
KERNEL = 1025  # samples of a band-pass filter
SPOOF, BONA_FIDE = 0, 1  # rows of the last layer


class ScaledBlock(nn.Module):
    """Two convolutions with a shortcut, a third of the time, then a scale and shift of every feature map.

    The published code computes a norm before the first convolution (`norm1`) but feeds the convolution
    without it; the norm's parameters are kept, frozen, as they are part of the published layout.
    """

    def __init__(self, before: int, after: int, first: bool) -> None:
        super().__init__()
        self.norm1 = None if first else nn.BatchNorm1d(before).requires_grad_(False)
        self.conv1 = nn.Conv1d(before, after, 3, padding=1)
        self.norm2 = nn.BatchNorm1d(after)
        self.conv2 = nn.Conv1d(after, after, 3, padding=1)
        self.shortcut = nn.Identity() if before == after else nn.Conv1d(before, after, 1)
        self.scale = nn.Linear(after, after)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T) -> (N, D, T // 3)."""
        out = self.conv2(F.leaky_relu(self.norm2(self.conv1(x)), 0.3))
        out = F.max_pool1d(out + self.shortcut(x), 3)
        scale = torch.sigmoid(self.scale(out.mean(dim=2))).unsqueeze(2)
        return out * scale + scale


class RawNet2(Encoder):
    """Sinc bank -> six residual blocks with feature-map scaling -> GRU -> the last step's dense layer.

    Tak, Patino, Todisco, Nautsch, Evans and Larcher, ICASSP 2021, with the sizes of the AASIST authors'
    baseline (https://github.com/clovaai/aasist, MIT licence, config/RawNet2_baseline.conf), whose checkpoints
    `load_published` reads; an implementation of its own. The last layer keeps the two published outputs
    (spoof, bona fide). The waveform is judged at the level that it has, as published: loudness matters.
    """

    kind = "audio"

    def __init__(
        self,
        channels: tuple[int, int] = (20, 128),  # of the bank and the first two blocks, and of the other four
        hidden: int = 1024,  # of the GRU
        layers: int = 3,  # of the GRU
        dense: int = 1024,
        sample_rate: int = 16000,
        window_s: float = 4.0375,  # of the preprocessing, not a limit of the network
        hop_s: float = 2.01875,
        name: str = "rawnet2",
    ) -> None:
        settings = {
            "channels": list(channels),
            "hidden": hidden,
            "layers": layers,
            "dense": dense,
            "sample_rate": sample_rate,
            "window_s": window_s,
            "hop_s": hop_s,
        }
        super().__init__(name, dense, AudioPreprocess(sample_rate, window_s, hop_s), settings)
        narrow, wide = channels
        self.front_end = SincBank(narrow, KERNEL, sample_rate)
        self.first_norm = nn.BatchNorm1d(narrow)
        widths = (narrow, narrow, narrow, *(wide,) * (BLOCKS - 2))
        self.blocks = nn.Sequential(
            *(
                ScaledBlock(before, after, first=i == 0)
                for i, (before, after) in enumerate(zip(widths, widths[1:], strict=False))
            )
        )
        self.last_norm = nn.BatchNorm1d(wide)
        self.gru = nn.GRU(wide, hidden, layers)
        self.dense = nn.Linear(hidden, dense)
        self.classifier = nn.Linear(dense, 2)
        self.min_samples = 3 ** (1 + BLOCKS) + KERNEL - 1  # one step is left after the pools

    def embed(self, x: Tensor) -> Tensor:
        """Waveform (N, T) -> (N, dense)."""
        if x.shape[-1] < self.min_samples:
            raise ValueError(f"{self.name} needs at least {self.min_samples} samples, not {x.shape[-1]}")
        x = self.blocks(F.selu(self.first_norm(F.max_pool1d(self.front_end(x), 3))))
        x = F.selu(self.last_norm(x)).permute(2, 0, 1).contiguous()  # (steps, N, channels)
        # rounding errors of half precision add up over the steps
        with full_precision(x):
            steps, _ = self.gru(x.float())
        return self.dense(steps[-1])

    def class_logits(self, embedding: Tensor) -> Tensor:
        """(N, dense) -> the two published outputs (N, 2) before the softmax: spoof, bona fide."""
        return self.classifier(embedding)

    def classify(self, embedding: Tensor) -> Tensor:
        """(N, dense) -> (N,) logits of the softmax, positive = fake."""
        logits = self.class_logits(embedding)
        return logits[:, SPOOF] - logits[:, BONA_FIDE]

    def example_inputs(self, batch: int = 2) -> tuple[Tensor, ...]:
        """(batch, window_samples) of quiet noise."""
        return (0.1 * torch.randn(batch, self.preprocess.window_samples),)

    def _map_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {published_to_own(key): value for key, value in state.items()}


_TOP = {
    "first_bn": "first_norm",
    "bn_before_gru": "last_norm",
    "gru": "gru",
    "fc1_gru": "dense",
    "fc2_gru": "classifier",
}
_BLOCK = {"bn1": "norm1", "conv1": "conv1", "bn2": "norm2", "conv2": "conv2", "conv_downsample": "shortcut"}


def published_to_own(key: str) -> str:
    """A key of the published layout -> ours; an unknown one stays as it is."""
    top, _, rest = key.partition(".")
    if top in _TOP:
        return f"{_TOP[top]}.{rest}"
    if match := re.fullmatch(r"block(\d)\.0\.(\w+)\.(\w+)", key):
        if match[2] in _BLOCK:
            return f"blocks.{match[1]}.{_BLOCK[match[2]]}.{match[3]}"
    if match := re.fullmatch(r"fc_attention(\d)\.0\.(\w+)", key):
        return f"blocks.{match[1]}.scale.{match[2]}"
    return key
