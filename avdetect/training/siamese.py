"""Siamese pre-training: features that are near for crops of one class and far for those of two.

The first of two stages of the "ST" networks of Bonettini et al., "Video Face Manipulation Detection Through
Ensemble of CNNs", ICPR 2020; the second trains a head on the frozen features (`FitSettings.freeze_features`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from avdetect.encoders import Encoder
from avdetect.errors import ConfigError
from avdetect.training.tasks import _Loaders


class _Features(nn.Module):
    """The embedding as a `forward`, as data-parallel wrappers need it."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder.embed(x)


class TripletTask(_Loaders):
    """Triplet loss on the embeddings: max(d(anchor, positive) - d(anchor, negative) + margin, 0), d Euclidean.

    Batches hold clips by threes, anchor, positive, negative (`sampling.TripletBatches`), with equally many crops
    each, of which the j-th of each make a triplet. Validation, too: its triplets must be the same every time,
    with no anchor twice.
    """

    def __init__(
        self,
        name: str,
        encoder: Encoder,
        train_loader: DataLoader,
        val_loader: DataLoader,
        margin: float = 1.0,
    ):
        if not margin > 0:
            raise ConfigError(f"the margin of the triplet loss is {margin}: it must be positive")
        self.name, self.model, self.margin = name, _Features(encoder), margin
        self.train_loader, self.val_loader = train_loader, val_loader

    def step(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        places = _threes(batch["clip"])
        parts = model(batch["x"]).float()[places]
        return {"loss": F.triplet_margin_loss(*parts, margin=self.margin)}

    def predict(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        places = _threes(batch["clip"])
        anchor, positive, negative = model(batch["x"]).float()[places]
        return {
            "positive": F.pairwise_distance(anchor, positive),
            "negative": F.pairwise_distance(anchor, negative),
            "clip": batch["clip"][places[0]],
        }

    def metrics(self, outputs: dict[str, np.ndarray]) -> dict[str, float]:
        """Mean loss, and the share of triplets whose negative is further away than their positive."""
        # Several processes may have seen the first triplets twice, to fill their batches.
        _, once = np.unique(outputs["clip"], return_index=True)
        gap = outputs["positive"][once] - outputs["negative"][once]
        loss = np.maximum(gap + self.margin, 0)
        return {"loss": float(loss.mean()), "ordered": float((gap < 0).mean())}


def _threes(clips: Tensor) -> Tensor:
    """Places (3, T k) of anchors, positives and negatives among the samples of 3 T clips with k crops each."""
    crops = int((clips == clips[0]).long().cumprod(0).sum())
    return torch.arange(len(clips), device=clips.device).view(-1, 3, crops).transpose(0, 1).reshape(3, -1)
