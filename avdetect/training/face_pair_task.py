"""Learning from pairs of a genuine face and its fake (`avdetect.data.face_pairs`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from avdetect.data.face_pairs import CHANNELLED, GENUINE, LABELLED, PSEUDO
from avdetect.encoders import Encoder
from avdetect.errors import ConfigError
from avdetect.evaluation.metrics import log_loss, roc_auc
from avdetect.training.losses import BinaryLoss
from avdetect.training.tasks import _Loaders
from avdetect.transforms.settings import Settings


@dataclass(frozen=True)
class PairWeights(Settings):
    """Weights of the further losses beside the classification's.

    change: of the cross-entropy between the attention map and the part of each cell that was changed (Dang et al.,
    "On the Detection of Digital Face Manipulation", CVPR 2020); the encoder must have `embed_with_map`. rank: of the
    softplus by which a fake's logit must exceed that of its own genuine crop.
    """

    change: float = 0.5
    rank: float = 0.0

    def __post_init__(self) -> None:
        for name in ("change", "rank"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"the weight {name} of pairs of faces is {getattr(self, name)}: it must be 0 or more"
                )


class _LogitsAndMap(nn.Module):
    """Logits and map in one `forward`, as mixed precision and data-parallel wrappers need."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(N, 3, S, S) -> logits (N,), and the map's logits (N, h, w) where the encoder has a map."""
        if not hasattr(self.encoder, "embed_with_map"):
            return self.encoder(x), None
        embedding, change = self.encoder.embed_with_map(x)
        return self.encoder.classify(embedding), change.squeeze(1)


class FacePairTask(_Loaders):
    """One logit a crop, from pairs that differ in the manipulation alone.

    Validation metrics are per clip (the mean over its crops): `auc_labelled` of labelled fakes against their own
    genuine clips, `auc_pseudo` of pseudo-fakes against theirs, through the same channel; `auc` is the mean of those
    that there are, `loss` that of all.
    """

    def __init__(
        self,
        encoder: Encoder,
        train_loader: DataLoader,
        val_loader: DataLoader,
        loss: BinaryLoss,
        weights: PairWeights,
    ):
        if weights.change and not hasattr(encoder, "embed_with_map"):
            raise ConfigError(
                f"{encoder.name} has no attention map that could be taught where a face was changed: set "
                "train.visual.pseudo.weights.change=0, or take resnet_autoatt_small"
            )
        self.name, self.model, self.loss, self.weights = "visual", _LogitsAndMap(encoder), loss, weights
        self.train_loader, self.val_loader = train_loader, val_loader

    def step(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        logits, change = model(batch["x"])
        label = batch["label"]
        parts = {"bce": self.loss(logits.float(), label)}
        total = parts["bce"]
        if self.weights.change:
            parts["change"] = map_loss(change.float(), batch["change"], batch["known"])
            total = total + self.weights.change * parts["change"]
        if self.weights.rank:
            ahead = logits[label == 1].float() - logits[label == 0].float()
            parts["rank"] = F.softplus(-ahead).mean()
            total = total + self.weights.rank * parts["rank"]
        return {"loss": total, **parts}

    def predict(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        logits, _ = model(batch["x"])
        return {"logit": logits.float(), **{name: batch[name] for name in ("label", "clip", "origin")}}

    def metrics(self, outputs: dict[str, np.ndarray]) -> dict[str, float]:
        clip, origin, label, logit = clip_means(outputs)
        # Genuine clips of other footage are told from fakes by that footage: they say nothing of the manipulation.
        paired = np.isin(clip, clip[origin == LABELLED])
        chosen = {
            "labelled": paired & ((origin == GENUINE) | (origin == LABELLED)),
            "pseudo": (origin == CHANNELLED) | (origin == PSEUDO),
        }
        aucs = {
            f"auc_{name}": float(roc_auc(label[of], logit[of])) for name, of in chosen.items() if of.any()
        }
        loss = float(log_loss(label, 1.0 / (1.0 + np.exp(-logit))))
        return {"loss": loss, "auc": float(np.mean(list(aucs.values()))), **aucs}


def clip_means(outputs: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Samples (N,) -> clip, origin, label and mean logit (M,) of every clip in each of its roles."""
    role = outputs["clip"].astype(np.int64) * 4 + outputs["origin"].astype(np.int64)
    names, place, count = np.unique(role, return_inverse=True, return_counts=True)
    logit = np.bincount(place, outputs["logit"].astype(np.float64)) / count
    label = np.zeros(len(names), int)
    label[place] = outputs["label"].astype(int)
    return names // 4, names % 4, label, logit


def map_loss(logits: Tensor, change: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy of maps (N, h, w) of logits and changed parts in [0, 1], over the samples that are known (N,)."""
    if logits.shape != change.shape:
        raise ConfigError(
            f"the attention map has {tuple(logits.shape[1:])} cells where {tuple(change.shape[1:])} are taught: "
            "choose an input side that the network divides by 8"
        )
    each = F.binary_cross_entropy_with_logits(logits, change, reduction="none").mean(dim=(1, 2))
    weight = known.to(each.dtype)
    return (each * weight).sum() / weight.sum().clamp(min=1.0)
