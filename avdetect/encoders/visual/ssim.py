"""A visual encoder that also sees how well each frame agrees with the one before.

Frame-wise fakes flicker: the structural similarity (SSIM) of consecutive frames varies in other ways than in
genuine footage. SSIM is that of Wang et al., "Image Quality Assessment: From Error Visibility to Structural
Similarity", IEEE Trans. Image Processing 13(4), 2004.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdetect.encoders.base import Encoder, full_precision
from avdetect.encoders.visual.hybrid import feature_branch
from avdetect.errors import ConfigError
from avdetect.transforms.pairs import PairPreprocess

WINDOW, SIGMA = 11, 1.5  # pixels, of the Gaussian window
C1, C2 = 0.01**2, 0.03**2  # for grey values in [0, 1]
LUMA = (0.299, 0.587, 0.114)  # grey value of R, G, B (ITU-R BT.601)
MAP_CHANNELS = (16, 32, 64, 64)  # of the map's convolutions; each halves the side
MIN_SIZE = WINDOW - 1 + (1 << len(MAP_CHANNELS))  # one value of the map must be left


def gaussian_window() -> Tensor:
    """(11,) weights that sum to 1; SSIM's window is their outer product."""
    weights = torch.exp(-((torch.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    return weights / weights.sum()


def ssim_map(first: Tensor, second: Tensor, window: Tensor) -> Tensor:
    """Grey images (N, 1, H, W) with values in [0, 1] -> SSIM (N, 1, H-10, W-10), at most 1.

    Only windows that lie inside the images count, as in the authors' code. window: `gaussian_window()`.
    """
    # No variance changes by a shift, and smaller squares lose fewer digits. For the same reason the
    # covariance comes from the variance of the difference: 2 cov(x, y) = var(x) + var(y) - var(x - y).
    centre = (first + second).mean(dim=(2, 3), keepdim=True) / 2
    x, y = first - centre, second - centre
    moments = torch.cat([x, y, x * x, y * y, (x - y) ** 2], dim=1)
    rows = window.view(1, 1, -1, 1).expand(5, 1, -1, 1)
    blurred = F.conv2d(F.conv2d(moments, rows, groups=5), rows.transpose(2, 3), groups=5)
    mean_x, mean_y, xx, yy, dd = blurred.split(1, dim=1)
    variances = (xx - mean_x**2) + (yy - mean_y**2)
    structure = 1 - (dd - (mean_x - mean_y) ** 2) / (variances + C2)
    mean_x, mean_y = mean_x + centre, mean_y + centre
    return structure * (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)


class SSIM(Encoder):
    """Three branches, joined -> dropout -> dense layer with ReLU -> dropout -> logit.

    1. the frame through `embed` of the visual encoder that the name holds: `ssim(NAME)`;
    2. the SSIM map of the frame and its predecessor, as a grey image, through four convolutions (3x3, batch
       norm, ReLU, max-pool) and average pooling;
    3. mean and variance of that map.

    The input is (N, 2, 3, H, W): frame and predecessor, both normalised as the visual encoder wants them;
    SSIM is computed from the frames before that normalisation. size and visual_settings go to the visual
    encoder (its own default size where `size` is None); dense is the width of the embedding. Raises
    `ConfigError` for a size below 26 and for an encoder that is not a visual one of single frames.
    """

    kind = "visual"

    def __init__(
        self,
        size: int | None = None,
        visual_settings: Mapping[str, Any] | None = None,
        dense: int = 128,
        dropout: float = 0.3,
        name: str = "ssim(efficientnet_b0)",
    ) -> None:
        options = dict(visual_settings or {}) | ({} if size is None else {"size": size})
        face = feature_branch(name.removeprefix("ssim(").removesuffix(")"), name, options)
        size = face.preprocess.size
        if size < MIN_SIZE:
            raise ConfigError(f"{name} needs inputs of at least {MIN_SIZE} pixels, not {size}.")
        settings = {
            "size": size,
            "visual_settings": {key: value for key, value in face.settings.items() if key != "size"},
            "dense": dense,
            "dropout": dropout,
        }
        super().__init__(name, dense, PairPreprocess(**vars(face.preprocess)), settings)
        self.face = face
        blocks = [
            nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.MaxPool2d(2),
            )
            for before, after in zip((1, *MAP_CHANNELS), MAP_CHANNELS, strict=False)
        ]
        self.map_network = nn.Sequential(*blocks)
        joined = face.embedding_dim + MAP_CHANNELS[-1] + 2
        self.dense = nn.Sequential(nn.Dropout(dropout), nn.Linear(joined, dense), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(dense, 1)
        self.register_buffer("window", gaussian_window(), persistent=False)
        self.register_buffer("mean", torch.tensor(self.preprocess.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(self.preprocess.std).view(3, 1, 1), persistent=False)
        self.register_buffer("luma", torch.tensor(LUMA).view(3, 1, 1), persistent=False)

    def similarity(self, x: Tensor) -> Tensor:
        """(N, 2, 3, H, W) -> SSIM map of the two frames (N, 1, H-10, W-10)."""
        with full_precision(x):
            grey = ((x.float() * self.std + self.mean) * self.luma).sum(dim=2)
            return ssim_map(grey[:, :1], grey[:, 1:], self.window)

    def embed(self, x: Tensor) -> Tensor:
        """(N, 2, 3, H, W): frames and their predecessors -> (N, dense)."""
        similarity = self.similarity(x)
        scalars = torch.cat([similarity.mean(dim=(2, 3)), similarity.var(dim=(2, 3), correction=0)], dim=1)
        features = [self.face.embed(x[:, 0]), self.map_network(similarity).mean(dim=(2, 3)), scalars]
        return self.dense(torch.cat(features, dim=1))

    def classify(self, embedding: Tensor) -> Tensor:
        """(N, dense) -> (N,) logits, positive = fake."""
        return self.classifier(self.dropout(embedding)).squeeze(1)

    def example_inputs(self, batch: int = 2) -> tuple[Tensor, ...]:
        """(batch, 2, 3, size, size): two of the visual encoder's examples for each."""
        return (torch.stack([self.face.example_inputs(batch)[0] for _ in range(2)], dim=1),)
