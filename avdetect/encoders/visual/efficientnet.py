"""EfficientNet with a detector's head.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019; as a
detector of manipulated faces: Bonettini et al., "Video Face Manipulation Detection Through Ensemble of CNNs",
ICPR 2020. The layers are timm's; padding, batch norm and checkpoint keys are those of efficientnet_pytorch
0.7, with which the published networks were trained.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import timm
import torch
from timm.models.efficientnet import EfficientNet, decode_arch_def, round_channels
from torch import Tensor, nn
from torch.nn import functional as F

from avdetect.encoders.base import Encoder
from avdetect.encoders.visual.frame import FrameClassifier
from avdetect.errors import ConfigError

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


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int, int, int]:
    """(left, right, top, bottom) of TensorFlow's "SAME" padding of a square input."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    before, after = total // 2, total - total // 2
    return before, after, before, after


def fix_same_padding(model: EfficientNet, image_size: int) -> None:
    """Give every stride-2 convolution the "SAME" padding of `image_size`, whatever the input.

    efficientnet_pytorch computes paddings once for the nominal size of the variant (380 for B4) and keeps
    them at 224: there its outputs differ from true SAME padding.
    """
    convolutions = [
        (path, c) for path, c in model.named_modules() if isinstance(c, nn.Conv2d) and c.stride[0] > 1
    ]
    size = image_size
    for path, old in convolutions:  # in the order of the forward pass
        kernel, stride = old.kernel_size[0], old.stride[0]
        new = StaticPadConv2d(
            old.in_channels, old.out_channels, kernel, stride, groups=old.groups, bias=old.bias is not None
        )
        new.pad = same_padding(size, kernel, stride)
        size = -(-size // stride)
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


@dataclass(frozen=True)
class Variant:
    """A size of the design: its backbone and the settings that are taken where none are given."""

    timm_name: str | None
    nominal_size: int  # for which paddings are computed
    size: int | None  # of the input; None: the layout's
    dropout: float
    drop_path: float


B4 = Variant("tf_efficientnet_b4", 380, None, dropout=0.4, drop_path=0.2)
B0 = Variant("tf_efficientnet_b0", 224, None, dropout=0.2, drop_path=0.2)
# without squeeze-and-excitation, ReLU6 for SiLU: Liu, "Higher accuracy on vision models with EfficientNet-Lite",
# TensorFlow blog, 2020
LITE0 = Variant("tf_efficientnet_lite0", 224, 160, dropout=0.2, drop_path=0.1)
TINY = Variant(None, 112, 112, dropout=0.2, drop_path=0.05)


class EfficientNetEncoder(FrameClassifier):
    """The design at the size that a subclass names.

    dropout acts on the pooled features; drop_path is the rate of the last block, rising linearly from zero.
    Both, and size, are the variant's where they are None; but no dropout before a Siamese head. pretrained
    starts from ImageNet weights (timm downloads them). siamese and layout are `FrameClassifier`'s.
    """

    variant: ClassVar[Variant]
    default_name: ClassVar[str]
    deepfakebench_head = "last_layer"

    def __init__(
        self,
        size: int | None = None,
        dropout: float | None = None,
        drop_path: float | None = None,
        siamese: bool = False,
        layout: str = "ispl",
        pretrained: bool = False,
        name: str | None = None,
    ) -> None:
        variant = self.variant
        size = variant.size if size is None else size
        if dropout is None:
            dropout = 0.0 if siamese else variant.dropout  # the published Siamese head has none
        drop_path = variant.drop_path if drop_path is None else drop_path
        name = self.default_name if name is None else name
        # a network that is recreated gets its own weights afterwards
        settings = {"drop_path": drop_path, "pretrained": False}
        backbone = self._backbone(name, drop_path, pretrained)
        super().__init__(name, backbone, size, dropout, siamese, layout, settings)
        # on CPUs, convolutions with the channels innermost take half to two thirds of the time
        self.to(memory_format=torch.channels_last)

    def _backbone(self, name: str, drop_path: float, pretrained: bool) -> EfficientNet:
        if self.variant.timm_name is None:
            if pretrained:
                raise ConfigError(f"There are no pretrained weights for {name}; leave pretrained off.")
            return _tiny_backbone(drop_path)
        # batch norm as in the published networks: eps 1e-3, momentum 0.01
        model = timm.create_model(
            self.variant.timm_name,
            pretrained=pretrained,
            num_classes=0,
            drop_path_rate=drop_path,
            bn_eps=1e-3,
            bn_momentum=0.01,
        )
        fix_same_padding(model, self.variant.nominal_size)
        return model

    def _use_layout(self, layout: str, size: int | None = None) -> None:
        super()._use_layout(layout, size)
        if "deepfakebench" in self.layouts:
            # they put a convolution without padding in the place of the first one
            same = same_padding(self.variant.nominal_size, kernel=3, stride=2)
            self.backbone.conv_stem.pad = (0, 0, 0, 0) if layout == "deepfakebench" else same

    def _stages(self, x: Tensor) -> Tensor:
        for stage in self.backbone.blocks:
            x = stage(x)
        return x

    def _stem(self, x: Tensor) -> Tensor:
        return self.backbone.bn1(self.backbone.conv_stem(x.contiguous(memory_format=torch.channels_last)))

    def embed(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> pooled features (N, embedding_dim)."""
        x = self._stages(self._stem(x))
        return self.backbone.bn2(self.backbone.conv_head(x)).mean(dim=(2, 3))

    def _map_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self.variant.timm_name is None:
            return Encoder._map_published(self, state)  # which says that nothing was published
        return super()._map_published(state)

    def _own_key(self, key: str, layout: str) -> str | None:
        if layout == "deepfakebench" and key.startswith("last_layer."):
            return key.replace("last_layer.", "classifier.", 1)
        return published_to_own(key, [len(stage) for stage in self.backbone.blocks])


def published_to_own(key: str, depths: list[int]) -> str:
    """A key of efficientnet_pytorch's backbone -> ours; any other stays as it is.

    depths: number of blocks of each stage, for the published layout counts blocks through.
    """
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


class EfficientNetB4(EfficientNetEncoder):
    """17,550,409 parameters; `load_published` reads ISPL's and DeepfakeBench's checkpoints."""

    variant = B4
    layouts = ("ispl", "deepfakebench")
    default_name = "efficientnet_b4"


class EfficientNetTiny(EfficientNetEncoder):
    """0.6 M parameters, 112-pixel input, ordinary batch norm: trains from random weights on a CPU."""

    variant = TINY
    default_name = "efficientnet_tiny"
