"""EfficientNet with one attention map learned from the label alone (EfficientNetAutoAtt).

Bonettini et al., "Video Face Manipulation Detection Through Ensemble of CNNs", ICPR 2020. After the third
stage (block 9 of 32 in B4) a 1x1 convolution and a sigmoid give one map by which all channels are multiplied;
it is never supervised and shows where the network looks.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from avdetect.encoders.visual.backbones import keep_own_head
from avdetect.encoders.visual.efficientnet import (
    B0,
    B4,
    LITE0,
    TINY,
    EfficientNetEncoder,
    published_to_own,
)

ATTENTION_STAGE = 3  # the map is taken after this many stages, at an eighth of the input's side
OPEN = 3.0  # logit of a map that lets 95 % through


class EfficientNetAutoAtt(EfficientNetEncoder):
    """The design at the size that a subclass names.

    attention_width puts that many 3x3 convolutions with ReLU before the map; for the other settings see
    `EfficientNetEncoder`.
    """

    def __init__(
        self,
        size: int | None = None,
        dropout: float | None = None,
        drop_path: float | None = None,
        attention_width: int = 0,
        siamese: bool = False,
        layout: str = "ispl",
        pretrained: bool = False,
        name: str | None = None,
    ) -> None:
        self.attention_width = attention_width
        super().__init__(size, dropout, drop_path, siamese, layout, pretrained, name)
        self.settings["attention_width"] = attention_width

    def _add_layers(self) -> None:
        channels = self.backbone.feature_info[ATTENTION_STAGE - 1]["num_chs"]
        layers: list[nn.Module] = []
        for _ in range(self.attention_width):
            layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]
        self.attention_conv = nn.Sequential(*layers, nn.Conv2d(channels, 1, 1))

    def _until_attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for stage in self.backbone.blocks[:ATTENTION_STAGE]:
            x = stage(x)
        return x, torch.sigmoid(self.attention_conv(x))

    def attention(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> the map (N, 1, H/8, W/8), each value in [0, 1]."""
        return self._until_attention(self._stem(x))[1]

    def _stages(self, x: Tensor) -> Tensor:
        x, attention = self._until_attention(x)
        x = x * attention
        for stage in self.backbone.blocks[ATTENTION_STAGE:]:
            x = stage(x)
        return x

    def _own_key(self, key: str, layout: str) -> str | None:
        if match := re.fullmatch(r"efficientnet\.attconv\.(?:(conv\d+|conv_out)\.)?(weight|bias)", key):
            layer = match[1] or "conv_out"  # of width 0 it stands alone, without a name
            # a ReLU follows each but the last and is counted here
            index = 2 * (self.attention_width if layer == "conv_out" else int(layer[4:]))
            return f"attention_conv.{index}.{match[2]}"
        return super()._own_key(key, layout)


class EfficientNetAutoAttB4(EfficientNetAutoAtt):
    """17,550,466 parameters; the published network, whose checkpoints `load_published` reads."""

    variant = B4
    default_name = "efficientnet_autoatt_b4"


class EfficientNetAutoAttB0(EfficientNetAutoAtt):
    """The same design on EfficientNet-B0 (4.0 M parameters); not published, named in the same way."""

    variant = B0
    default_name = "efficientnet_autoatt_b0"


class EfficientNetAutoAttLite0(EfficientNetAutoAtt):
    """The same design on EfficientNet-Lite0 (3.4 M parameters, 160-pixel input), which starts from ImageNet.

    `load_published` reads the checkpoint of efficientnet_lite_pytorch: its thousand classes are left out, the
    attention map and the head stay as they are.
    """

    variant = LITE0
    layouts = ("lite",)
    default_name = "efficientnet_autoatt_lite0"

    def __init__(
        self,
        size: int | None = None,
        dropout: float | None = None,
        drop_path: float | None = None,
        attention_width: int = 0,
        layout: str = "lite",
        name: str | None = None,
    ) -> None:
        super().__init__(size, dropout, drop_path, attention_width, layout=layout, name=name)
        for other in ("siamese", "pretrained"):  # which `__init__` does not take
            del self.settings[other]

    def _add_layers(self) -> None:
        super()._add_layers()
        # An open map at first: pretrained features pass as they are.
        nn.init.zeros_(self.attention_conv[-1].weight)
        nn.init.constant_(self.attention_conv[-1].bias, OPEN)

    def _layout_of(self, published: Mapping[str, Tensor]) -> str:
        return "lite"

    def _adopt(self, published: Mapping[str, Tensor]) -> None:
        """The preprocessing is the same for every size, which stays what was asked for."""

    def _map_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        depths = [len(stage) for stage in self.backbone.blocks]
        mapped = {published_to_own(f"efficientnet.{key}", depths): value for key, value in state.items()}
        attention = {
            f"attention_conv.{key}": value for key, value in self.attention_conv.state_dict().items()
        }
        return keep_own_head(self, mapped | attention, "efficientnet._fc")


class EfficientNetAutoAttTiny(EfficientNetAutoAtt):
    """0.6 M parameters, 112-pixel input, ordinary batch norm: trains from random weights on a CPU."""

    variant = TINY
    default_name = "efficientnet_autoatt_tiny"
