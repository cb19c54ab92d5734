"""What each stage learns: its batches, its loss and its validation metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor, nn
from torch.utils.data import DataLoader

from avdetect.encoders import Encoder
from avdetect.evaluation.metrics import log_loss, roc_auc
from avdetect.fusion import FusionHead
from avdetect.training.adversarial import Adversarial
from avdetect.training.losses import BinaryLoss, binary_loss, sync_contrast

# Shifts of the training examples "out of sync", in grid frames of 40 ms: below 4 a viewer hardly notices.
SHIFTS = (4, 12)
CONTRAST_WEIGHT = 0.5


class _Loaders:
    """The loaders of a task; the training one draws anew every epoch."""

    train_loader: DataLoader
    val_loader: DataLoader

    def set_epoch(self, epoch: int) -> None:
        self.train_loader.batch_sampler.set_epoch(epoch)
        self.train_loader.dataset.set_epoch(epoch)


def clip_metrics(clips: np.ndarray, labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Log loss and ROC AUC of clips; a clip's logit is the mean over its samples (all arrays (N,))."""
    names, place, count = np.unique(clips, return_inverse=True, return_counts=True)
    logit = np.bincount(place, logits.astype(np.float64)) / count
    label = np.zeros(len(names), int)
    label[place] = labels.astype(int)
    return {"loss": float(log_loss(label, expit(logit))), "auc": float(roc_auc(label, logit))}


class EncoderTask(_Loaders):
    """One-input encoders: crops or waveform windows `x` -> fake or not; validation is per clip.

    adversarial: train on perturbed inputs too. Clean and perturbed samples then pass through the network in one
    batch, so that batch norm sees, and gathers statistics of, their mixture.
    """

    def __init__(
        self,
        name: str,
        encoder: Encoder,
        train_loader: DataLoader,
        val_loader: DataLoader,
        loss: BinaryLoss | None = None,
        adversarial: Adversarial | None = None,
    ):
        self.name, self.model, self.adversarial = name, encoder, adversarial
        self.loss = loss or BinaryLoss()
        self.train_loader, self.val_loader = train_loader, val_loader

    def step(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x, label = batch["x"], batch["label"]
        if self.adversarial is None:
            return {"loss": self.loss(model(x), label)}
        # The encoder itself, not what wraps it: gradients of the search are no business of other processes.
        hard = self.adversarial.perturb(self.model, x, label, self.loss)
        share = self.adversarial.weight
        if share == 1:
            return {"loss": self.loss(model(hard), label)}
        on_clean, on_hard = (self.loss(part, label) for part in model(torch.cat([x, hard])).chunk(2))
        return {
            "loss": (1 - share) * on_clean + share * on_hard,
            "clean": on_clean,
            "adversarial": on_hard,
        }

    def predict(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"logit": model(batch["x"]), "label": batch["label"], "clip": batch["clip"]}

    def metrics(self, outputs: dict[str, np.ndarray]) -> dict[str, float]:
        return clip_metrics(outputs["clip"], outputs["label"], outputs["logit"])


class _SyncPasses(nn.Module):
    """Both passes of a lip-sync training step in one `forward`, as data-parallel wrappers need."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    def forward(
        self, mouths: Tensor, in_sync: Tensor, other: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        video, audio = self.encoder.windows(mouths, in_sync)
        return video, audio, self.encoder(mouths, in_sync), self.encoder(mouths, other)


class LipSyncTask(_Loaders):
    """Learns from clips in sync: their own sound against the same sound shifted, and against foreign sound.

    A batch holds mouths (N, T, m, m) and a waveform (N, (T + 2C) * n): C grid frames of context on both sides of
    the mouths, n samples a frame. Fakes are made on the fly, so that no labelled ones are needed.
    """

    def __init__(self, encoder: Encoder, train_loader: DataLoader, val_loader: DataLoader, seed: int = 0):
        self.name, self.model, self.seed = "lipsync", _SyncPasses(encoder), seed
        self.train_loader, self.val_loader = train_loader, val_loader

    def step(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        mouths, in_sync, other = self._pairs(batch, None)
        video, audio, genuine, fake = model(mouths, in_sync, other)
        contrast = sync_contrast(video, audio)
        logits = torch.cat([genuine, fake])
        labels = torch.cat([torch.zeros_like(genuine), torch.ones_like(fake)])
        bce = binary_loss(logits, labels)
        return {"loss": CONTRAST_WEIGHT * contrast + bce, "contrast": contrast, "bce": bce}

    def predict(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        # The same shifts every time: epochs are compared on equal terms.
        mouths, in_sync, other = self._pairs(batch, torch.Generator().manual_seed(self.seed))
        _, _, genuine, fake = model(mouths, in_sync, other)
        return {"genuine": genuine, "fake": fake, "clip": batch["clip"]}

    def metrics(self, outputs: dict[str, np.ndarray]) -> dict[str, float]:
        logits = np.concatenate([outputs["genuine"], outputs["fake"]])
        labels = np.repeat([0, 1], len(outputs["clip"]))
        return clip_metrics(2 * np.tile(outputs["clip"], 2) + labels, labels, logits)

    def _pairs(
        self, batch: dict[str, Tensor], generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mouths, the sound in sync with them, and the sound out of sync: shifted, or every third one foreign."""
        mouths, waveform = batch["mouths"], batch["waveform"]
        n, t = mouths.shape[:2]
        per_frame = self.model.encoder.preprocess.samples_per_frame
        context = (waveform.shape[1] // per_frame - t) // 2
        low, high = SHIFTS[0], min(SHIFTS[1], context)
        shift = torch.randint(low, high + 1, (n,), generator=generator)
        shift = shift * (torch.randint(0, 2, (n,), generator=generator) * 2 - 1)
        source = torch.arange(n)
        foreign = torch.arange(n) % 3 == 0 if n > 1 else torch.zeros(n, dtype=torch.bool)
        source[foreign] = (source[foreign] + 1) % n

        def cut(row: int, frames: int) -> Tensor:
            start = (context + frames) * per_frame
            return waveform[row, start : start + t * per_frame]

        in_sync = torch.stack([cut(row, 0) for row in range(n)])
        other = torch.stack([cut(int(source[row]), int(shift[row])) for row in range(n)])
        return mouths, in_sync, other


class FusionTask:
    """Features of whole clips -> fake or not, with whole modalities left out at random.

    Features as `fusion.stack_features` makes them, with `label` (N,) and `own` (N, M): the truth of each modality
    alone, NaN where it is not known. What is left out can't be blamed: a thinned clip is fake only if a modality
    that is left is; where that is not known the clip is shown whole.
    """

    def __init__(
        self,
        head: FusionHead,
        train: dict[str, Tensor],
        val: dict[str, Tensor],
        batch: int,
        modality_dropout: float,
    ):
        self.name, self.model, self.modality_dropout = "fusion", head, modality_dropout
        head.standardise_by(train)
        self.train_loader = _feature_loader(train, batch, shuffle=True)
        self.val_loader = _feature_loader(val, batch, shuffle=False)

    def set_epoch(self, epoch: int) -> None:
        # The order of the clips comes from torch's global generator, which the loop seeds for every epoch.
        pass

    def step(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        mask, label = thin(batch, self.modality_dropout)
        logits, causes = model({**batch, "mask": mask})
        own = torch.isfinite(batch["own"]) & mask
        loss = binary_loss(logits, label, 0.02)
        if own.any():
            loss = loss + 0.5 * binary_loss(causes[own], batch["own"][own], 0.02)
        return {"loss": loss}

    def predict(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"logit": model(batch)[0], "label": batch["label"], "clip": batch["clip"]}

    def metrics(self, outputs: dict[str, np.ndarray]) -> dict[str, float]:
        return clip_metrics(outputs["clip"], outputs["label"], outputs["logit"])


def thin(batch: dict[str, Tensor], rate: float) -> tuple[Tensor, Tensor]:
    """Leave out modalities at random: the new mask (N, M) and the labels (N,) that go with it."""
    whole, own, label = batch["mask"], batch["own"], batch["label"]
    mask = whole & (torch.rand(whole.shape) >= rate).to(whole.device)
    fake_left = ((own == 1) & mask).any(1)
    all_known = (torch.isfinite(own) | ~mask).all(1)
    usable = mask.any(1) & (fake_left | all_known)
    thinned = usable & (mask != whole).any(1)
    return torch.where(usable[:, None], mask, whole), torch.where(thinned, fake_left.to(label.dtype), label)


def _feature_loader(features: dict[str, Tensor], batch: int, shuffle: bool) -> DataLoader:
    count = len(features["label"])
    rows: list[dict[str, Any]] = [
        {"clip": index, **{key: value[index] for key, value in features.items()}} for index in range(count)
    ]
    return DataLoader(rows, batch_size=batch, shuffle=shuffle)
