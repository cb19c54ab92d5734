"""Losses as functions of logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from avdetect.errors import ConfigError
from avdetect.transforms.settings import Settings


@dataclass(frozen=True)
class BinaryLoss(Settings):
    """What one-logit networks minimise: `loss(logits, labels)`, with p = sigmoid(logit) the probability of fake.

    name:
    "bce" is cross-entropy. class_weights (of genuine, of fake) weigh the samples; the weighted sum is divided by
    the sum of the weights, so that with two logits of which ours is the difference it equals the cross-entropy
    with `weight` of torch: softmax over (genuine, fake) is sigmoid(fake - genuine).
    "focal" (Lin et al., Focal Loss for Dense Object Detection, ICCV 2017) is -a (1 - q)^gamma log q of the
    probability q given to the true class; a is `alpha` for fakes and 1 - `alpha` for genuine samples. With
    smoothed labels t, (1 - q) is |t - p| and -log q the cross-entropy (Li et al., Generalized Focal Loss,
    NeurIPS 2020).
    "mse" is the squared error of p, as MesoNet was trained; class_weights as with bce.

    smoothing: a label y becomes y (1 - smoothing) + smoothing / 2.
    """

    name: str = "bce"
    smoothing: float = 0.0
    class_weights: tuple[float, float] | None = None
    gamma: float = 2.0
    alpha: float = 0.25

    def __post_init__(self) -> None:
        if self.name not in ("bce", "focal", "mse"):
            raise ConfigError(f"unknown loss {self.name!r}: use bce, focal or mse")
        if not 0 <= self.smoothing < 1:
            raise ConfigError(f"the label smoothing is {self.smoothing}: it must be in [0, 1)")
        if not (0 < self.alpha < 1 and self.gamma >= 0):
            raise ConfigError(
                f"the focal loss has alpha {self.alpha} and gamma {self.gamma}: alpha must lie between 0 and 1, "
                "gamma must be 0 or more"
            )
        weights = self.class_weights
        if weights is not None and (len(weights) != 2 or min(weights) <= 0):
            raise ConfigError(
                f"class_weights is {list(weights)}: it must be two positive numbers, of genuine and of fake"
            )
        if weights is not None and self.name == "focal":
            raise ConfigError("the focal loss weighs the classes by alpha: leave class_weights out")

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """logits (N,), labels (N,) in {0, 1} -> the loss, a scalar."""
        if self.name == "bce" and self.class_weights is None:
            return binary_loss(logits, labels, self.smoothing)
        target = _smoothed(logits, labels, self.smoothing)
        if self.name == "focal":
            entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
            alpha = torch.where(labels > 0.5, self.alpha, 1 - self.alpha)
            return (alpha * (target - torch.sigmoid(logits)).abs() ** self.gamma * entropy).mean()
        if self.name == "mse":
            losses = (torch.sigmoid(logits) - target) ** 2
        else:
            losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        genuine, fake = self.class_weights or (1.0, 1.0)
        weight = torch.where(labels > 0.5, fake, genuine)
        return (weight * losses).sum() / weight.sum()


def _smoothed(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    return labels.to(logits.dtype) * (1 - smoothing) + 0.5 * smoothing


def binary_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits (N,) against labels (N,) in {0, 1}, with optional label smoothing."""
    return F.binary_cross_entropy_with_logits(logits, _smoothed(logits, labels, smoothing))


def sync_contrast(video: Tensor, audio: Tensor, temperature: float = 0.1, spread: int = 1) -> Tensor:
    """Contrast of lip and sound windows: InfoNCE (van den Oord et al. 2018) over the windows of a batch.

    video, audio: (N, W, D), L2-normalised, row w of both at the same time. For each window of one stream the
    window of the other at the same time is the positive; all windows of the clip further than `spread`
    windows away, and those of all other clips, are negatives (neighbours overlap in time: neither).
    """
    n, w, d = video.shape
    v, a = video.reshape(n * w, d), audio.reshape(n * w, d)
    similarity = v @ a.T / temperature
    clip = torch.arange(n, device=v.device).repeat_interleave(w)
    time = torch.arange(w, device=v.device).repeat(n)
    gap = (time[:, None] - time[None, :]).abs()
    close = (clip[:, None] == clip[None, :]) & (gap > 0) & (gap <= spread)
    similarity = similarity.masked_fill(close, -torch.inf)
    target = torch.arange(n * w, device=v.device)
    return 0.5 * (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target))
