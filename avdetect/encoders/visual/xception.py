"""Xception: the convolutional part, and the encoders with a detector's head.

Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017. Submodules carry the
names of the published PyTorch checkpoints (Cadene's pretrained-models, ISPL, DeepfakeBench), so that their
keys fit after the prefix is taken off.
"""

from collections.abc import Mapping
from typing import ClassVar

import timm
import torch
from torch import Tensor, nn

from avdetect.encoders.base import Encoder
from avdetect.encoders.visual.frame import FrameClassifier
from avdetect.errors import ConfigError
from avdetect.weights import load_strict

# channels and blocks of the publication
ENTRY_FLOW, MIDDLE_BLOCKS, EXIT_FLOW = (32, 64, 128, 256, 728), 8, (1024, 1536, 2048)


class SeparableConv2d(nn.Module):
    """3x3 convolution of each channel by itself (`conv1`), then a 1x1 convolution over channels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.conv1(x))


class Block(nn.Module):
    """Separable convolutions with a shortcut: `rep` of the input plus the input (or its 1x1 projection).

    channels: of the input and after each convolution. stride 2 halves the map by max-pooling at the end.
    """

    def __init__(self, *channels: int, stride: int = 1, relu_first: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip(channels, channels[1:], strict=False):
            # the first ReLU must not work in place: the shortcut needs the same input
            layers += [nn.ReLU(inplace=bool(layers)), SeparableConv2d(before, after), nn.BatchNorm2d(after)]
        if not relu_first:
            layers = layers[1:]
        if stride > 1:
            layers.append(nn.MaxPool2d(3, stride, padding=1))
        self.rep = nn.Sequential(*layers)
        self.projects = stride > 1 or channels[0] != channels[-1]
        if self.projects:
            self.skip = nn.Conv2d(channels[0], channels[-1], 1, stride, bias=False)
            self.skipbn = nn.BatchNorm2d(channels[-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.rep(x) + (self.skipbn(self.skip(x)) if self.projects else x)


class Xception(nn.Module):
    """The convolutional part: (N, 3, H, W) -> (N, num_features, H/32, W/32), e.g. 256 -> 8, 224 -> 7.

    entry: channels of the two first convolutions and of the three blocks of the entry flow; middle: number of
    blocks of the middle flow; last: channels of the last block and of the two convolutions after it.
    adjust_channel adds a projection to that many channels (1x1 convolution, batch norm, ReLU), as
    DeepfakeBench does it for UCF.
    """

    def __init__(
        self,
        entry: tuple[int, int, int, int, int] = ENTRY_FLOW,
        middle: int = MIDDLE_BLOCKS,
        last: tuple[int, int, int] = EXIT_FLOW,
        adjust_channel: int | None = None,
    ) -> None:
        super().__init__()
        stem, first, second, third, width = entry
        self.conv1 = nn.Conv2d(3, stem, 3, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = nn.Conv2d(stem, first, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(first)
        blocks = [
            Block(first, second, second, stride=2, relu_first=False),
            Block(second, third, third, stride=2),
            Block(third, width, width, stride=2),
            *(Block(width, width, width, width) for _ in range(middle)),
            Block(width, width, last[0], stride=2),
        ]
        self.block_names = [f"block{number}" for number in range(1, len(blocks) + 1)]
        for name, block in zip(self.block_names, blocks, strict=True):
            self.add_module(name, block)
        self.conv3 = SeparableConv2d(last[0], last[1])
        self.bn3 = nn.BatchNorm2d(last[1])
        self.conv4 = SeparableConv2d(last[1], last[2])
        self.bn4 = nn.BatchNorm2d(last[2])
        self.relu = nn.ReLU(inplace=True)
        self.num_features = last[2]
        self.adjust_channel: nn.Sequential | None = None
        if adjust_channel is not None:
            self.num_features = adjust_channel
            self.adjust_channel = nn.Sequential(
                nn.Conv2d(last[2], adjust_channel, 1), nn.BatchNorm2d(adjust_channel), nn.ReLU(inplace=True)
            )

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, num_features, h, w).

        As published: after `adjust_channel` where there is one, else after the last batch norm, before its
        ReLU.
        """
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        for name in self.block_names:
            x = self.get_submodule(name)(x)
        x = self.relu(self.bn3(self.conv3(x)))
        x = self.bn4(self.conv4(x))
        return x if self.adjust_channel is None else self.adjust_channel(x)

    def forward(self, x: Tensor) -> Tensor:
        """The same as `features`."""
        return self.features(x)


class XceptionEncoder(FrameClassifier):
    """20,809,001 parameters, 2048 features; `load_published` reads ISPL's and DeepfakeBench's checkpoints.

    pretrained starts from ImageNet weights (timm downloads them), as both publishers did; size, dropout,
    siamese and layout are `FrameClassifier`'s.
    """

    layouts = ("ispl", "deepfakebench")
    deepfakebench_head = "last_linear"
    default_name: ClassVar[str] = "xception"
    default_size: ClassVar[int | None] = None  # the layout's

    def __init__(
        self,
        size: int | None = None,
        dropout: float = 0.0,
        siamese: bool = False,
        layout: str = "ispl",
        pretrained: bool = False,
        name: str | None = None,
    ) -> None:
        settings = {"pretrained": False}  # a network that is recreated gets its own weights afterwards
        size = self.default_size if size is None else size
        name = self.default_name if name is None else name
        super().__init__(name, self._backbone(pretrained), size, dropout, siamese, layout, settings)
        # on CPUs, convolutions with the channels innermost take less time
        self.to(memory_format=torch.channels_last)

    def _backbone(self, pretrained: bool) -> Xception:
        backbone = Xception()
        if pretrained:
            published = timm.create_model("legacy_xception", pretrained=True).state_dict()
            for key in ("fc.weight", "fc.bias"):  # ImageNet's thousand classes
                del published[key]
            load_strict(backbone, published, "timm's legacy_xception")
        return backbone

    def embed(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> pooled features (N, embedding_dim)."""
        x = x.contiguous(memory_format=torch.channels_last)
        return torch.relu(self.backbone.features(x)).mean(dim=(2, 3))

    def _own_key(self, key: str, layout: str) -> str | None:
        bare = key.removeprefix("xception.")
        if bare.startswith("last_linear."):
            return bare.replace("last_linear.", "classifier.", 1)
        if bare in ("fc.weight", "fc.bias") and layout == "ispl":
            return None  # ImageNet's thousand classes, which their network does not call
        if bare.startswith("adjust_channel.") and layout == "deepfakebench":
            return None  # in every checkpoint of theirs, called in UCF alone
        return f"backbone.{bare}" if bare in self.backbone.state_dict() else key


class XceptionTiny(XceptionEncoder):
    """The same design with few channels and 112-pixel input, for trials on a CPU; nothing was published."""

    layouts = ("ispl",)
    default_name = "xception_tiny"
    default_size = 112

    def _backbone(self, pretrained: bool) -> Xception:
        if pretrained:
            raise ConfigError("There are no pretrained weights for xception_tiny; leave pretrained off.")
        return Xception(entry=(8, 16, 32, 64, 96), middle=2, last=(128, 192, 256))

    def _map_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return Encoder._map_published(self, state)
