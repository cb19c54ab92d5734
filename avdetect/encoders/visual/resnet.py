"""A small residual network with one attention map, for training from random weights on a CPU.

Plain 3x3 convolutions: with bfloat16 and the channels innermost they run at two to three times the speed that the
depthwise ones of EfficientNet reach there. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; the
average pooling in the shortcuts: He et al., "Bag of Tricks for Image Classification", CVPR 2019. The map at an eighth
of the input's side multiplies the features, and may be taught where a face was changed: Dang et al., "On the
Detection of Digital Face Manipulation", CVPR 2020.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from avdetect.encoders.base import Encoder
from avdetect.encoders.visual.frame import FrameClassifier
from avdetect.errors import ConfigError

ATTENTION_STAGE = 2  # the map is taken after this many stages, at an eighth of the input's side


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; starts as the shortcut alone."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        nn.init.zeros_(self.norm2.weight)
        layers: list[nn.Module] = [nn.AvgPool2d(2, ceil_mode=True)] if stride > 1 else []
        if stride > 1 or before != after:
            layers += [nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after)]
        self.shortcut = nn.Sequential(*layers)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, H, W) -> (N, after, H / stride, W / stride), sides rounded up."""
        y = self.act(self.norm1(self.conv1(x)))
        return self.act(self.norm2(self.conv2(y)) + self.shortcut(x))


class _Body(nn.Module):
    """Two convolutions at half the side, then stages that halve it again, each of some blocks."""

    def __init__(self, stem: int, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, stem, 3, 2, 1, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(inplace=True),
            nn.Conv2d(stem, stem, 3, 1, 1, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(inplace=True),
        )
        self.stages, before = nn.ModuleList(), stem
        for width, depth in zip(widths, depths, strict=True):
            blocks = [Block(before if i == 0 else width, width, 2 if i == 0 else 1) for i in range(depth)]
            self.stages.append(nn.Sequential(*blocks))
            before = width
        self.num_features = before


class ResNetAutoAttSmall(FrameClassifier):
    """3.6 M parameters at 144 pixels.

    stem: channels at half the input's side; widths and depths: channels and blocks of the stages, of which there must
    be at least three; dropout acts on the pooled features. For the other settings see `FrameClassifier`.
    """

    default_name = "resnet_autoatt_small"

    def __init__(
        self,
        size: int = 144,
        stem: int = 24,
        widths: tuple[int, ...] = (48, 96, 192, 384),
        depths: tuple[int, ...] = (1, 2, 2, 1),
        dropout: float = 0.2,
        siamese: bool = False,
        layout: str = "ispl",
        name: str | None = None,
    ) -> None:
        name = self.default_name if name is None else name
        if len(widths) != len(depths) or len(widths) <= ATTENTION_STAGE or min(*widths, *depths, stem) < 1:
            raise ConfigError(
                f"{name} cannot be made of stem {stem}, widths {list(widths)} and depths {list(depths)}: both lists "
                f"need one number of 1 or more for each of {ATTENTION_STAGE + 1} or more stages"
            )
        settings = {"stem": stem, "widths": list(widths), "depths": list(depths)}
        super().__init__(name, _Body(stem, widths, depths), size, dropout, siamese, layout, settings)
        # on CPUs, convolutions with the channels innermost take half to two thirds of the time
        self.to(memory_format=torch.channels_last)

    def _add_layers(self) -> None:
        channels = self.backbone.stages[ATTENTION_STAGE - 1][-1].conv2.out_channels
        self.attention_conv = nn.Conv2d(channels, 1, 1)

    def _until_attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features and the map's logits."""
        x = self.backbone.stem(x.contiguous(memory_format=torch.channels_last))
        for stage in self.backbone.stages[:ATTENTION_STAGE]:
            x = stage(x)
        return x, self.attention_conv(x)

    def attention(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> the map (N, 1, H/8, W/8), each value in [0, 1]."""
        return torch.sigmoid(self._until_attention(x)[1])

    def embed_with_map(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) -> pooled features (N, embedding_dim) and the map's logits (N, 1, H/8, W/8)."""
        x, logits = self._until_attention(x)
        x = x * torch.sigmoid(logits)
        for stage in self.backbone.stages[ATTENTION_STAGE:]:
            x = stage(x)
        return x.mean(dim=(2, 3)), logits

    def embed(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> pooled features (N, embedding_dim)."""
        return self.embed_with_map(x)[0]

    def _map_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return Encoder._map_published(self, state)  # which says that nothing was published
