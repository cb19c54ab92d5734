"""UCF's way of training: four losses on pairs of a genuine and a fake image.

Yan et al., "UCF: Uncovering Common Features for Generalizable Deepfake Detection", ICCV 2023, with the figures
of the DeepfakeBench implementation. Order everywhere: the genuine half of a batch, then the fake half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from avdetect.encoders.visual.ucf import UCF
from avdetect.errors import ConfigError, DataError
from avdetect.training.tasks import _Loaders, clip_metrics
from avdetect.transforms.settings import Settings


@dataclass(frozen=True)
class UCFWeights(Settings):
    """Factors of the losses, and the two figures of the method; the defaults are the published ones."""

    shared: float = 1.0  # cross-entropy of the shared head: genuine or fake
    specific: float = 0.1  # cross-entropy of the specific head: which method of manipulation
    reconstruction: float = 0.3
    contrast: float = 0.05
    margin: float = 3.0  # of the contrast, in units of the pooled vectors
    exchange: float = 0.7  # share of steps that exchange the shared features before reconstructing


class UCFOutputs(NamedTuple):
    """What the losses are computed from; 2 n samples, the genuine ones first."""

    shared_logits: Tensor  # (2n, 2): genuine, fake
    specific_logits: Tensor  # (2n, methods): genuine, then the methods
    shared: Tensor  # (2n, w) pooled vectors
    specific: Tensor  # (2n, w)
    own: Tensor  # (2n, 3, S, S): each image from its own content and fingerprint
    crossed: Tensor  # (2n, 3, S, S): from its own content and the fingerprint of its partner in the pair


def permutation_within(kinds: Tensor) -> Tensor:
    """A random order (N,) that puts in each place a sample of the same kind; kinds: (N,) whole numbers.

    Drawn from torch's global generator.
    """
    kinds = kinds.cpu()
    drawn = torch.randperm(len(kinds))
    order = torch.empty_like(drawn)
    order[kinds.argsort(stable=True)] = drawn[kinds[drawn].argsort(stable=True)]
    return order


def reconstruction_loss(own: Tensor, crossed: Tensor, images: Tensor) -> Tensor:
    """Sum of four mean absolute errors: both halves, from the own and from the partner's fingerprint.

    own, crossed, images: (2n, 3, S, S). As published, the image from the content of one and the fingerprint of
    the other is compared with the image that the *content* comes from.
    """
    # the halves are equally large: the sum of their means is twice the mean of all
    return 2 * (F.l1_loss(own.float(), images) + F.l1_loss(crossed.float(), images))


def contrastive_loss(vectors: Tensor, order: Tensor, margin: float = 3.0) -> Tensor:
    """Sum of two triplet hinges: mean of max(d(a, p) - d(a, n) + margin, 0) over the halves' anchors a.

    vectors: (2n, w), genuine half first; d: Euclidean. order: (2n,) a permutation of the places within the halves:
    the positive of the i-th is vectors[order[i]], its negative what the permutation gives its partner in the
    other half. As published, a sample may be its own positive.
    """
    vectors = vectors.float()
    order = order.to(vectors.device)
    positive, negative = vectors[order], vectors[order.roll(len(order) // 2)]
    gap = F.pairwise_distance(vectors, positive) - F.pairwise_distance(vectors, negative)
    return 2 * (gap + margin).clamp(min=0).mean()


def ucf_losses(
    outputs: UCFOutputs, images: Tensor, methods: Tensor, weights: UCFWeights
) -> dict[str, Tensor]:
    """The four losses by name and their weighted sum `loss`.

    images: (2n, 3, S, S) in [-1, 1]; methods: (2n,) int64, 0 for the genuine half, 1.. for the fake half.
    """
    labels = (methods > 0).long()
    parts = {
        "shared": F.cross_entropy(outputs.shared_logits.float(), labels),
        "specific": F.cross_entropy(outputs.specific_logits.float(), methods),
        "reconstruction": reconstruction_loss(outputs.own, outputs.crossed, images),
        "contrast": contrastive_loss(outputs.shared, permutation_within(labels), weights.margin)
        + contrastive_loss(outputs.specific, permutation_within(methods), weights.margin),
    }
    return {"loss": sum(getattr(weights, name) * value for name, value in parts.items()), **parts}


class _UCFPasses(nn.Module):
    """All passes of a training step in one `forward`, as data-parallel wrappers need."""

    def __init__(self, encoder: UCF):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor, order: Tensor | None = None) -> UCFOutputs | Tensor:
        """x (N, 3, S, S) -> (N,) logits; with `order`, what the losses need of the pairs in x.

        order: (N,), which sample's shared features each reconstruction uses. The published code also
        classifies and contrasts the reordered ones: losses that the order within a half can't change.
        """
        if order is None:
            return self.encoder(x)
        parts = self.encoder.disentangle(x)
        fingerprint = torch.cat([parts.specific_map, parts.shared_map[order]], dim=1)
        partners = fingerprint.roll(len(x) // 2, dims=0)
        return UCFOutputs(
            parts.shared_logits,
            parts.specific_logits,
            parts.shared,
            parts.specific,
            self.encoder.reconstruct(fingerprint, parts.content),
            self.encoder.reconstruct(partners, parts.content),
        )


class UCFTask(_Loaders):
    """Tells content, fingerprints of single methods and what all fakes share apart; validation is per clip.

    A batch holds `x` (N, 3, S, S), `label` (N,), as many 0 as 1, and `method` (N,) int64: 0 for genuine, m for a
    fake made by the m-th of `train_loader.dataset.methods`. The i-th genuine sample is paired with the i-th fake
    one. Raises `ConfigError` for another network, and where it has too few specific classes for the methods.
    """

    def __init__(
        self,
        name: str,
        encoder: UCF,
        train_loader: DataLoader,
        val_loader: DataLoader,
        weights: UCFWeights | None = None,
    ):
        if not isinstance(encoder, UCF):
            raise ConfigError(
                f"UCF's training needs one of UCF's networks, not {encoder.name}: choose the encoder ucf or ucf_tiny"
            )
        methods, classes = train_loader.dataset.methods, encoder.settings["methods"]
        if len(methods) >= classes:
            raise ConfigError(
                f"the training set has {len(methods)} methods of manipulation ({', '.join(methods)}), which with "
                f"genuine makes {len(methods) + 1} classes, but {encoder.name} tells {classes} apart: set the "
                f"encoder's setting methods to {len(methods) + 1} or more"
            )
        self.name, self.model, self.weights = name, _UCFPasses(encoder), weights or UCFWeights()
        self.train_loader, self.val_loader = train_loader, val_loader

    def step(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x, methods = self._pairs(batch)
        order = torch.arange(len(x))
        if torch.rand(()) < self.weights.exchange:
            order = permutation_within(methods > 0)
        return ucf_losses(model(x, order.to(x.device)), x, methods, self.weights)

    def predict(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"logit": model(batch["x"]), "label": batch["label"], "clip": batch["clip"]}

    def metrics(self, outputs: dict[str, np.ndarray]) -> dict[str, float]:
        return clip_metrics(outputs["clip"], outputs["label"], outputs["logit"])

    def _pairs(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Images and methods, the genuine half first."""
        genuine, fake = (torch.nonzero(batch["label"] == value).squeeze(1) for value in (0, 1))
        if len(genuine) != len(fake):
            raise ConfigError(
                f"UCF pairs genuine with fake samples, but a batch of {self.name} holds {len(genuine)} genuine "
                f"and {len(fake)} fake ones: train it with balanced batches"
            )
        order = torch.cat([genuine, fake])
        methods = batch["method"][order]
        if not torch.equal(methods > 0, batch["label"][order] > 0):
            raise DataError(
                f"a batch of {self.name} names a method for a genuine sample, or none for a fake one: number "
                "the methods of manipulation from 1 on, and genuine samples 0"
            )
        return batch["x"][order], methods
