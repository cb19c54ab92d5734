"""Several visual encoders side by side, their features joined.

Joining the pooled features of CNNs of different design before a dense head is common practice in the field;
the default takes three that are often compared: DenseNet-121, ResNet-50 and EfficientNet-B0.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from avdetect.encoders.base import Encoder
from avdetect.encoders.registry import create_encoder
from avdetect.errors import ConfigError
from avdetect.transforms import VisualPreprocess


def feature_branch(name: str, owner: str, settings: dict[str, Any]) -> Encoder:
    """The visual encoder `name` as a part of the network `owner`: only what its `embed` uses is left in.

    Its own head, and what only its training uses, would be dead weight, and DistributedDataParallel refuses
    parameters without a gradient. Raises `ConfigError` for anything but a visual encoder of single frames.
    """
    encoder = create_encoder(name, **settings)
    if encoder.kind != "visual" or encoder.preprocess.frames != 1:
        raise ConfigError(
            f"{owner} is made of visual encoders that look at one frame at a time; {name} is none."
        )
    for prefix in (*encoder.head_prefixes, *encoder.training_only):
        parent, _, leaf = prefix.rstrip(".").rpartition(".")
        delattr(encoder.get_submodule(parent), leaf)
    return encoder


class Hybrid(Encoder):
    """Features of several encoders, joined -> dropout -> dense layer with ReLU -> dropout -> logit.

    backbones: names of visual encoders; all see the same input of `size` pixels, and each gets it normalised
    by its own mean and standard deviation (worked out from those of `preprocess`, which are ImageNet's).
    dense is the width of the embedding. pretrained starts all branches from ImageNet weights; each must have
    that setting. Raises `ConfigError` for a name that is not a visual encoder of single frames.
    """

    kind = "visual"

    def __init__(
        self,
        size: int = 224,
        backbones: Sequence[str] = ("densenet121", "resnet50", "efficientnet_b0"),
        dense: int = 256,
        dropout: float = 0.3,
        pretrained: bool = False,
        name: str = "hybrid",
    ) -> None:
        backbones = list(backbones)
        if not backbones:
            raise ConfigError(f"{name} needs at least one backbone; name one or more visual encoders.")
        settings = {
            "size": size,
            "backbones": backbones,
            "dense": dense,
            "dropout": dropout,
            "pretrained": False,  # a network that is recreated gets its own weights afterwards
        }
        super().__init__(name, dense, VisualPreprocess(size), settings)
        options = {"size": size} | ({"pretrained": True} if pretrained else {})
        self.branches = nn.ModuleList(feature_branch(backbone, name, options) for backbone in backbones)
        own_mean, own_std = torch.tensor(self.preprocess.mean), torch.tensor(self.preprocess.std)
        mean = torch.tensor([branch.preprocess.mean for branch in self.branches])
        std = torch.tensor([branch.preprocess.std for branch in self.branches])
        # ((x * own_std + own_mean) - mean) / std, for each branch
        self.register_buffer("scale", (own_std / std)[..., None, None], persistent=False)
        self.register_buffer("shift", ((own_mean - mean) / std)[..., None, None], persistent=False)
        joined = sum(branch.embedding_dim for branch in self.branches)
        self.dense = nn.Sequential(nn.Dropout(dropout), nn.Linear(joined, dense), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(dense, 1)

    def embed(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, dense)."""
        features = [
            branch.embed(x * scale + shift)
            for branch, scale, shift in zip(self.branches, self.scale, self.shift, strict=True)
        ]
        return self.dense(torch.cat(features, dim=1))

    def classify(self, embedding: Tensor) -> Tensor:
        """(N, dense) -> (N,) logits, positive = fake."""
        return self.classifier(self.dropout(embedding)).squeeze(1)

    def example_inputs(self, batch: int = 2) -> tuple[Tensor, ...]:
        """(batch, 3, size, size) of normal noise."""
        return (torch.randn(batch, 3, self.preprocess.size, self.preprocess.size),)
