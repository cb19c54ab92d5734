"""The decoder of UCF: an image from a content map and a fingerprint map.

Yan et al., "UCF: Uncovering Common Features for Generalizable Deepfake Detection", ICCV 2023. Only training
uses it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdetect.encoders.base import full_precision

ENLARGED = 32  # the image's side is this many times that of the maps: three times 2, then 4


def adaptive_instance_norm(x: Tensor, style: Tensor, eps: float = 1e-5) -> Tensor:
    """`x` with the mean and standard deviation over space of `style`, channel by channel (both (N, C, H, W)).

    AdaIN (Huang & Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization",
    ICCV 2017); the variances are unbiased ones plus `eps`.
    """
    with full_precision(x):
        x, style = x.float(), style.float()
        mean, std = _statistics(x, eps)
        style_mean, style_std = _statistics(style, eps)
        return (x - mean) / std * style_std + style_mean


def _statistics(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(x, dim=(2, 3), keepdim=True)
    return mean, (variance + eps).sqrt()


class ConditionalDecoder(nn.Module):
    """Content (N, 2w, h, h) conditioned on a fingerprint of the same shape -> an image (N, 3, 32 h, 32 h).

    Three stages: AdaIN to the fingerprint, twice the size, dropout, two 3x3 convolutions with ReLU. The
    fingerprint passes through the same enlargement, dropout and convolutions - with the same weights, as
    published -, so that it fits the content at every stage. A 1x1 convolution gives the colours, which are
    enlarged four times and bounded by tanh: they are compared with pixels in [-1, 1].
    """

    def __init__(self, width: int = 256, dropout: float = 0.3) -> None:
        super().__init__()
        channels = (2 * width, width, width // 2, width // 4)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(after, after, 3, padding=1),
                nn.ReLU(),
            )
            for before, after in zip(channels[:-1], channels[1:], strict=True)
        )
        self.dropout = nn.Dropout(dropout)
        self.colours = nn.Conv2d(channels[-1], 3, 1)

    def forward(self, content: Tensor, fingerprint: Tensor) -> Tensor:
        """Content and fingerprint (N, 2w, h, h) -> the image (N, 3, 32 h, 32 h), each value in [-1, 1]."""
        x, style = content, fingerprint
        for stage in self.stages:
            x = adaptive_instance_norm(x, style)
            x, style = (stage(self.dropout(_enlarge(maps, 2))) for maps in (x, style))
        return torch.tanh(_enlarge(self.colours(x), 4))


def _enlarge(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=True)
