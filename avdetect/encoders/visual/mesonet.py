"""MesoNet: two small networks that look at mesoscopic properties of a face.

Afchar, Nozick, Yamagishi and Echizen, "MesoNet: a Compact Facial Video Forgery Detection Network", WIFS 2018.
The published Keras weights say P(real); `load_published` turns the last layer round.
"""

from collections.abc import Mapping
from itertools import zip_longest
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdetect.encoders.base import Encoder
from avdetect.transforms import VisualPreprocess
from avdetect.weights.keras import keras_layers

EMBEDDING = 16


class ConvStage(nn.Module):
    """Convolution (or what stands in its place) -> ReLU -> batch norm -> max-pool, all with "same" padding."""

    def __init__(self, conv: nn.Module, channels: int, pool: int) -> None:
        super().__init__()
        self.conv = conv
        # Keras' defaults: eps 1e-3 and a momentum of 0.99, which torch counts the other way round
        self.norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
        self.pool = nn.MaxPool2d(pool, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, channels, H / pool, W / pool), sides rounded up."""
        return self.pool(self.norm(F.relu(self.conv(x))))


def _conv(before: int, after: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, padding=kernel // 2)


class DilatedInception(nn.Module):
    """Four branches side by side: 1x1, and 1x1 -> ReLU -> 3x3 with dilation 1, 2 and 3.

    widths: channels of the branches; the output has their sum. The last ReLU is the stage's.
    """

    def __init__(self, channels: int, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.direct = nn.Conv2d(channels, widths[0], 1)
        self.reduce = nn.ModuleList(nn.Conv2d(channels, width, 1) for width in widths[1:])
        self.dilated = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
            for dilation, width in enumerate(widths[1:], 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, sum of widths, H, W)."""
        branches = [
            dilated(F.relu(reduce(x))) for reduce, dilated in zip(self.reduce, self.dilated, strict=True)
        ]
        return torch.cat([self.direct(x), *branches], dim=1)


class MesoNet(Encoder):
    """What both have in common: four stages, a dense layer of 16 with LeakyReLU 0.1 (the embedding), one output.

    size: side of the input in pixels. The dense layer sees every place of the last maps (8x8 for the published
    256), so that weights fit the size that they were trained at.
    """

    kind = "visual"
    published_order: ClassVar[tuple[str, ...]]  # own names of the layers, in the order of the published files

    def __init__(self, name: str, stages: list[ConvStage], size: int, dropout: float) -> None:
        preprocess = VisualPreprocess(size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        super().__init__(name, EMBEDDING, preprocess, {"size": size, "dropout": dropout})
        self.stages = nn.Sequential(*stages)
        side = size
        for stage in stages:
            side = -(-side // stage.pool.kernel_size)
        channels = stages[-1].norm.num_features
        self.dense = nn.Linear(side * side * channels, EMBEDDING)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(EMBEDDING, 1)
        self.to(memory_format=torch.channels_last)

    def embed(self, x: Tensor) -> Tensor:
        """(N, 3, size, size) -> (N, 16)."""
        maps = self.stages(x.contiguous(memory_format=torch.channels_last))
        flat = maps.permute(0, 2, 3, 1).flatten(1)  # channels innermost, as Keras flattens
        return F.leaky_relu(self.dense(self.dropout(flat)), 0.1)

    def classify(self, embedding: Tensor) -> Tensor:
        """(N, 16) -> (N,) logits, positive = fake."""
        return self.classifier(self.dropout(embedding)).squeeze(1)

    def example_inputs(self, batch: int = 2) -> tuple[Tensor, ...]:
        """(batch, 3, size, size), uniform in [0, 1]."""
        return (torch.rand(batch, 3, self.preprocess.size, self.preprocess.size),)

    def _map_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # Keras numbers its layers through from program to program: the order tells which is which
        mapped = {}
        pairs = zip_longest(self.published_order, keras_layers(state).items())
        for own, (layer, weights) in (pair for pair in pairs if pair[1] is not None):
            sign = -1 if own == "classifier" else 1  # theirs says real
            mapped |= {f"{own or layer}.{key}": sign * value for key, value in weights.items()}
        return mapped


class Meso4(MesoNet):
    """Four convolutions; 27,977 parameters at 256 pixels."""

    published_order = (
        *(f"stages.{stage}.{layer}" for stage in range(4) for layer in ("conv", "norm")),
        "dense",
        "classifier",
    )

    def __init__(self, size: int = 256, dropout: float = 0.5, name: str = "meso4") -> None:
        stages = [
            ConvStage(_conv(3, 8, 3), 8, pool=2),
            ConvStage(_conv(8, 8, 5), 8, pool=2),
            ConvStage(_conv(8, 16, 5), 16, pool=2),
            ConvStage(_conv(16, 16, 5), 16, pool=4),
        ]
        super().__init__(name, stages, size, dropout)


# Keras writes layers by their distance from the output: the 1x1 that lead to a 3x3 come first
_INCEPTION = (*(f"reduce.{i}" for i in range(3)), "direct", *(f"dilated.{i}" for i in range(3)))


class MesoInception4(MesoNet):
    """Two inception layers with dilated convolutions, then two convolutions; 28,615 parameters at 256 pixels."""

    published_order = (
        *(f"stages.0.conv.{layer}" for layer in _INCEPTION),
        "stages.0.norm",
        *(f"stages.1.conv.{layer}" for layer in _INCEPTION),
        "stages.1.norm",
        *(f"stages.{stage}.{layer}" for stage in (2, 3) for layer in ("conv", "norm")),
        "dense",
        "classifier",
    )

    def __init__(self, size: int = 256, dropout: float = 0.5, name: str = "mesoinception4") -> None:
        stages = [
            ConvStage(DilatedInception(3, (1, 4, 4, 2)), 11, pool=2),
            ConvStage(DilatedInception(11, (2, 4, 4, 2)), 12, pool=2),
            ConvStage(_conv(12, 16, 5), 16, pool=2),
            ConvStage(_conv(16, 16, 5), 16, pool=4),
        ]
        super().__init__(name, stages, size, dropout)
