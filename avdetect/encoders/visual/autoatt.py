"""EfficientNet with one attention map learned from the label alone (EfficientNetAutoAtt).

Bonettini et al., "Video Face Manipulation Detection Through Ensemble of CNNs", ICPR 2020. After the third
stage (block 9 of 32 in B4) a 1x1 convolution and a sigmoid give one map by which all channels are multiplied;
it is never supervised and shows where the network looks.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import timm
import torch
from timm.models.efficientnet import EfficientNet, decode_arch_def, round_channels
from torch import Tensor, nn
from torch.nn import functional as F

from avdetect.encoders.base import Encoder
from avdetect.errors import ConfigError
from avdetect.transforms import VisualPreprocess

ATTENTION_STAGE = 3  # the map is taken after this many stages, at an eighth of the input's side

# efficientnet_pytorch -> timm
_STEM_AND_HEAD = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
_SEPARABLE = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
    **_SQUEEZE,
}
_INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
    **_SQUEEZE,
}


class StaticPadConv2d(nn.Conv2d):
    """Convolution after zero padding that differs between the sides: `pad` = (left, right, top, bottom)."""

    pad: tuple[int, int, int, int] = (0, 0, 0, 0)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, self.pad))


def fix_same_padding(model: EfficientNet, image_size: int) -> None:
    """Give every stride-2 convolution the TensorFlow "SAME" padding of `image_size`, whatever the input.

    efficientnet_pytorch, with which the published networks were trained, computes paddings once for the
    nominal size of the variant (380 for B4) and keeps them at 224: there its outputs differ from true SAME
    padding.
    """
    convolutions = [
        (path, c) for path, c in model.named_modules() if isinstance(c, nn.Conv2d) and c.stride[0] > 1
    ]
    size = image_size
    for path, old in convolutions:  # in the order of the forward pass
        kernel, stride = old.kernel_size[0], old.stride[0]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        size = -(-size // stride)
        before, after = total // 2, total - total // 2
        new = StaticPadConv2d(
            old.in_channels, old.out_channels, kernel, stride, groups=old.groups, bias=old.bias is not None
        )
        new.pad = (before, after, before, after)
        new.load_state_dict(old.state_dict())
        model.set_submodule(path, new)


def _tiny_backbone(drop_path: float) -> EfficientNet:
    """EfficientNetV2-like: plain convolutions while maps are large (quick on a CPU), MBConv after them."""
    stages = ["cn_r1_k3_s1_e1_c16"], ["er_r2_k3_s2_e4_c32"], ["er_r2_k3_s2_e4_c48"]
    late = ["ir_r3_k3_s2_e4_c80_se0.25"], ["ir_r2_k3_s1_e4_c112_se0.25"]
    return EfficientNet(
        decode_arch_def([*stages, *late]),
        num_classes=0,
        num_features=256,
        stem_size=16,
        round_chs_fn=partial(round_channels, multiplier=1.0),
        act_layer=nn.SiLU,
        drop_path_rate=drop_path,
    )


class EfficientNetAutoAtt(Encoder):
    """The design at the size that a subclass names.

    dropout acts on the pooled features; drop_path is the rate of the last block, rising linearly from zero.
    attention_width puts that many 3x3 convolutions with ReLU before the map. pretrained starts from ImageNet
    weights (timm downloads them).
    """

    kind = "visual"
    backbone_name: ClassVar[str | None] = None  # in timm
    nominal_size: ClassVar[int] = 224  # for which paddings are computed

    def __init__(
        self,
        name: str,
        size: int = 224,
        dropout: float = 0.4,
        drop_path: float = 0.2,
        attention_width: int = 0,
        pretrained: bool = False,
    ) -> None:
        backbone = self._backbone(drop_path, pretrained)
        settings = {
            "size": size,
            "dropout": dropout,
            "drop_path": drop_path,
            "attention_width": attention_width,
            "pretrained": False,  # a network that is recreated gets its own weights afterwards
        }
        super().__init__(name, backbone.num_features, VisualPreprocess(size), settings)
        self.backbone = backbone
        channels = backbone.feature_info[ATTENTION_STAGE - 1]["num_chs"]
        layers: list[nn.Module] = []
        for _ in range(attention_width):
            layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]
        self.attention_conv = nn.Sequential(*layers, nn.Conv2d(channels, 1, 1))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.embedding_dim, 1)
        # on CPUs, convolutions with the channels innermost take half to two thirds of the time
        self.to(memory_format=torch.channels_last)

    def _backbone(self, drop_path: float, pretrained: bool) -> EfficientNet:
        # batch norm as in the published networks: eps 1e-3, momentum 0.01
        model = timm.create_model(
            self.backbone_name,
            pretrained=pretrained,
            num_classes=0,
            drop_path_rate=drop_path,
            bn_eps=1e-3,
            bn_momentum=0.01,
        )
        fix_same_padding(model, self.nominal_size)
        return model

    def _until_attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.backbone.bn1(self.backbone.conv_stem(x))
        for stage in self.backbone.blocks[:ATTENTION_STAGE]:
            x = stage(x)
        return x, torch.sigmoid(self.attention_conv(x))

    def attention(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> the map (N, 1, H/8, W/8), each value in [0, 1]."""
        return self._until_attention(x)[1]

    def embed(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> pooled features (N, embedding_dim)."""
        x, attention = self._until_attention(x)
        x = x * attention
        for stage in self.backbone.blocks[ATTENTION_STAGE:]:
            x = stage(x)
        return self.backbone.bn2(self.backbone.conv_head(x)).mean(dim=(2, 3))

    def classify(self, embedding: Tensor) -> Tensor:
        """(N, embedding_dim) -> (N,) logits, positive = fake."""
        return self.classifier(self.dropout(embedding)).squeeze(1)

    def example_inputs(self, batch: int = 2) -> tuple[Tensor, ...]:
        """(batch, 3, size, size) of normal noise."""
        return (torch.randn(batch, 3, self.preprocess.size, self.preprocess.size),)

    def _map_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        depths = [len(stage) for stage in self.backbone.blocks]
        return {published_to_own(key, depths): value for key, value in state.items()}


def published_to_own(key: str, depths: list[int]) -> str:
    """A key of the published layout (efficientnet_pytorch's names) -> ours; an unknown one stays as it is.

    depths: number of blocks of each stage, for the published layout counts blocks through.
    """
    for theirs, ours in (("efficientnet.attconv.", "attention_conv.0."), ("classifier.", "classifier.")):
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    if match := re.fullmatch(r"efficientnet\._blocks\.(\d+)\.(\w+)\.(\w+)", key):
        index, layer, parameter = int(match[1]), match[2], match[3]
        stage = 0
        while stage < len(depths) and index >= depths[stage]:
            index -= depths[stage]
            stage += 1
        names = _SEPARABLE if stage == 0 else _INVERTED
        if stage < len(depths) and layer in names:
            return f"backbone.blocks.{stage}.{index}.{names[layer]}.{parameter}"
    if match := re.fullmatch(r"efficientnet\.(\w+)\.(\w+)", key):
        if match[1] in _STEM_AND_HEAD:
            return f"backbone.{_STEM_AND_HEAD[match[1]]}.{match[2]}"
    return key


class EfficientNetAutoAttB4(EfficientNetAutoAtt):
    """17,550,466 parameters; the published network, whose checkpoints `load_published` reads."""

    backbone_name = "tf_efficientnet_b4"
    nominal_size = 380

    def __init__(
        self,
        size: int = 224,
        dropout: float = 0.4,
        drop_path: float = 0.2,
        attention_width: int = 0,
        pretrained: bool = False,
        name: str = "efficientnet_autoatt_b4",
    ) -> None:
        super().__init__(name, size, dropout, drop_path, attention_width, pretrained)


class EfficientNetAutoAttB0(EfficientNetAutoAtt):
    """The same design on EfficientNet-B0 (4.0 M parameters); not published, named in the same way."""

    backbone_name = "tf_efficientnet_b0"

    def __init__(
        self,
        size: int = 224,
        dropout: float = 0.2,
        drop_path: float = 0.2,
        attention_width: int = 0,
        pretrained: bool = False,
        name: str = "efficientnet_autoatt_b0",
    ) -> None:
        super().__init__(name, size, dropout, drop_path, attention_width, pretrained)


class EfficientNetAutoAttTiny(EfficientNetAutoAtt):
    """0.6 M parameters, 112-pixel input, ordinary batch norm: trains from random weights on a CPU."""

    def __init__(
        self,
        size: int = 112,
        dropout: float = 0.2,
        drop_path: float = 0.05,
        attention_width: int = 0,
        name: str = "efficientnet_autoatt_tiny",
    ) -> None:
        super().__init__(name, size, dropout, drop_path, attention_width)
        del self.settings["pretrained"]

    def _backbone(self, drop_path: float, pretrained: bool) -> EfficientNet:
        if pretrained:
            raise ConfigError(
                "There are no pretrained weights for efficientnet_autoatt_tiny; leave pretrained off."
            )
        return _tiny_backbone(drop_path)

    def _map_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return Encoder._map_published(self, state)
