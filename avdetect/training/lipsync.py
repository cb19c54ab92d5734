"""Lip-sync from genuine clips alone: which offset is right, and whether any is.

Recordings are seldom exactly in step: cutting and coding move the sound of a clip by a few frames. So the right
offset of a training clip is not 0 but the likeliest one near 0 that the network itself finds (hard expectation
maximisation with a Gaussian prior).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from avdetect.encoders.lipsync import evidence
from avdetect.encoders.lipsync.temporal import TemporalLipSync
from avdetect.errors import ConfigError
from avdetect.training.tasks import clip_metrics

OUT_OF_STEP = (5, 12)  # grid frames: 0.2 to 0.5 s
OWN_OFFSET = (3, 1.2)  # grid frames: how far off a genuine clip can be, at most and as a standard deviation
BESIDE = 0.15  # of the target given to each neighbour of the right offset: it lies between grid frames
JOINED = 4  # clips whose evidence is summed, as of one longer clip
CONTRAST_WEIGHT, HEAD_WEIGHT = 0.5, 0.5
LEAST_WINDOWS = 0.4  # of the windows that an offset must have in common to be among the choices


class SyncEvidenceTask:
    """Batches of `SyncSpans`: cross-entropy of the right offset, InfoNCE over windows of all clips, and the head.

    The head sees curves in step (at most two frames off), shifted, of foreign sound and of the pseudo-fakes, of
    single clips and of several summed. Shifted and foreign sound cost nothing: the windows are compared anyway.
    """

    def __init__(self, encoder: nn.Module, train_loader: DataLoader, val_loader: DataLoader):
        if not isinstance(encoder, TemporalLipSync):
            raise ConfigError(
                f"train.lipsync.pseudo needs an encoder that sums evidence, not {encoder.name}: "
                "take encoder/lipsync=lipsync_small, or set train.lipsync.pseudo=false"
            )
        self.name, self.model = "lipsync", _SyncLosses(encoder)
        self.train_loader, self.val_loader = train_loader, val_loader

    def set_epoch(self, epoch: int) -> None:
        self.train_loader.batch_sampler.set_epoch(epoch)
        self.train_loader.dataset.set_epoch(epoch)

    def step(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return model(batch["mouths"], batch["waveform"], batch["shift"], batch["fake"])

    def predict(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        sums, weights, usable = self.model.curves(batch["mouths"], batch["waveform"])
        encoder = self.model.encoder
        logs = evidence.log_odds(sums * encoder.pace, usable)
        logit = encoder.classify(evidence.features(sums, weights, usable, encoder.pace))
        middle = logs.shape[1] // 2
        around = evidence.near(logs, torch.full((len(logs),), middle, device=logs.device), evidence.IN_STEP)
        return {
            "logit": logit,
            "label": batch["fake"],
            "miss": (logs.argmax(dim=1) - middle).abs(),
            "surprise": -around.clamp_min(-20.0),
            "clip": 2 * batch["clip"] + batch["fake"],
        }

    def metrics(self, outputs: dict[str, np.ndarray]) -> dict[str, float]:
        """`offset`: share of genuine clips whose offset is found within one grid frame of 0; `surprise`: mean of
        -log P(in step) over them."""
        genuine = outputs["label"] == 0
        found = clip_metrics(outputs["clip"], outputs["label"], outputs["logit"])
        surprise = float(outputs["surprise"][genuine].mean())
        return {
            "loss": surprise + HEAD_WEIGHT * found["loss"],
            "offset": float((outputs["miss"][genuine] <= 1).mean()),
            "surprise": surprise,
            "auc": found["auc"],
        }


class _SyncLosses(nn.Module):
    """Everything that has weights in one `forward`, as data-parallel wrappers need."""

    def __init__(self, encoder: TemporalLipSync):
        super().__init__()
        self.encoder = encoder

    def curves(self, mouths: Tensor, waveform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sums of evidence, weights and usable offsets (N, O) of whole spans."""
        lips, sound = self.encoder.streams(mouths, waveform)
        own = self.encoder.pair_evidence(lips, sound)
        sums, weights = evidence.diagonal_sums(own, self.encoder.speech(waveform), self.encoder.reach)
        return sums, weights, evidence.usable_offsets(weights)

    def forward(self, mouths: Tensor, waveform: Tensor, shift: Tensor, fake: Tensor) -> dict[str, Tensor]:
        lips, sound = self.encoder.streams(mouths, waveform)
        speech = self.encoder.speech(waveform)
        genuine = fake == 0
        pairs = self._all_pairs(lips[genuine], sound[genuine])
        everyone = torch.arange(len(pairs), device=pairs.device)
        own = pairs[everyone, :, everyone]
        widest = own.shape[1] - 1
        sums, weights = evidence.diagonal_sums(own, speech[genuine], widest)
        moved = aligned(sums.detach() * self.encoder.pace.detach(), weights, shift[genuine] + widest) - widest
        contrast = window_contrast(pairs, speech[genuine], moved)
        offset = offset_loss(sums * self.encoder.pace, weights, moved + widest)
        other = evidence.diagonal_sums(
            pairs[everyone, :, everyone.roll(1)], speech[genuine].roll(1, 0), widest
        )
        made = self.encoder.pair_evidence(lips[~genuine], sound[~genuine])
        made = evidence.diagonal_sums(made, speech[~genuine], widest)
        head = self._head((sums, weights), other, made, moved)
        loss = offset + CONTRAST_WEIGHT * contrast + HEAD_WEIGHT * head
        return {"loss": loss, "offset": offset, "contrast": contrast, "head": head}

    def _all_pairs(self, lips: Tensor, sound: Tensor) -> Tensor:
        """(N, W, D) each -> evidence (N, W, N, W) of every lip window with every sound window."""
        n, w, _ = lips.shape
        flat = self.encoder.pair_evidence(lips.flatten(0, 1)[None], sound.flatten(0, 1)[None])
        return flat.view(n, w, n, w)

    def _head(
        self,
        own: tuple[Tensor, Tensor],
        other: tuple[Tensor, Tensor],
        made: tuple[Tensor, Tensor],
        moved: Tensor,
    ) -> Tensor:
        """Cross-entropy of the head, genuine and fake curves of equal weight."""
        reach, device = self.encoder.reach, moved.device
        middle = own[0].shape[1] // 2
        n = len(moved)
        near = torch.randint(-evidence.IN_STEP, evidence.IN_STEP + 1, (n,), device=device)
        groups = torch.arange(n, device=device) // JOINED  # summed curves are moved together
        step = torch.randint(OUT_OF_STEP[0], OUT_OF_STEP[1] + 1, (n,), device=device)
        step = (step * (torch.randint(0, 2, (n,), device=device) * 2 - 1))[groups * JOINED]
        right = _centred(*own, middle + moved + near, reach)
        late = _centred(*own, middle + moved + step, reach)
        foreign = _centred(*other, torch.full_like(moved, middle), reach)
        fakes = _centred(*made, torch.full((len(made[0]),), middle, device=device), reach)
        real = [right, _joined(*right, groups)]
        false = [late, _joined(*late, groups), foreign, _joined(*foreign, groups), fakes]
        genuine, wrong = (self._logits(part) for part in (real, false))
        return 0.5 * (_mean(F.softplus(genuine)) + _mean(F.softplus(-wrong)))

    def _logits(self, curves: list[tuple[Tensor, Tensor]]) -> Tensor:
        sums, weights = (torch.cat(parts) for parts in zip(*curves, strict=True))
        kept = weights[:, weights.shape[1] // 2] >= 5  # with less in common there is nothing to judge
        sums, weights = sums[kept], weights[kept]
        usable = evidence.usable_offsets(weights)
        return self.encoder.classify(evidence.features(sums, weights, usable, self.encoder.pace))


def _mean(values: Tensor) -> Tensor:
    """Mean of (N,); 0 of none: short spans and silence leave curves with too little in common to be judged."""
    return values.sum() / max(1, len(values))


def aligned(logits: Tensor, weights: Tensor, nominal: Tensor) -> Tensor:
    """Likeliest offset (N,) near the `nominal` index (N,), of logits and weights (N, O), under the prior."""
    most, deviation = OWN_OFFSET
    away = torch.arange(logits.shape[1], device=logits.device)[None] - nominal[:, None]
    score = torch.where(weights > 0, logits, torch.full_like(logits, -1e4)) - 0.5 * (away / deviation) ** 2
    return score.masked_fill(away.abs() > most, -torch.inf).argmax(dim=1)


def window_contrast(pairs: Tensor, speech: Tensor, moved: Tensor) -> Tensor:
    """InfoNCE of evidence (N, W, N, W), lip windows first; sound window w + moved (N,) goes with lip window w.

    Neighbours of the right window overlap it and are neither right nor wrong; silent sound windows (speech (N, W)
    is 0) are left out.
    """
    n, w = speech.shape
    device = pairs.device
    clip = torch.arange(n, device=device).repeat_interleave(w)
    place = torch.arange(w, device=device).repeat(n)
    right = place + moved[clip]  # place of the sound window that goes with each lip window
    same = clip[:, None] == clip[None]
    gap = (right[:, None] - place[None]).abs()
    heard = speech.flatten() > 0
    scores = pairs.reshape(n * w, n * w).masked_fill((same & (gap == 1)) | ~heard[None], -1e4)
    inside = (right >= 0) & (right < w)
    target = clip * w + right.clamp(0, w - 1)
    rows = (inside & heard[target]).nonzero().squeeze(1)
    if not len(rows):
        return pairs.sum() * 0.0
    columns = target[rows]
    by_lips = F.cross_entropy(scores[rows], columns)
    by_sound = F.cross_entropy(scores[:, columns].T, rows)
    return 0.5 * (by_lips + by_sound)


def offset_loss(logits: Tensor, weights: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of offsets: logits and weights (N, O), target (N,) index; neighbours get a part of the target."""
    usable = weights >= LEAST_WINDOWS * weights.amax(dim=1, keepdim=True)
    usable &= weights > 0
    rows = torch.arange(len(target), device=target.device)
    judged = usable[rows, target]
    if not judged.any():
        return logits.sum() * 0.0
    logs = evidence.log_odds(logits, usable)[judged]
    target, usable, rows = target[judged], usable[judged], rows[: int(judged.sum())]
    wanted = torch.zeros_like(logs)
    for beside, share in ((-1, BESIDE), (1, BESIDE), (0, 1 - 2 * BESIDE)):
        wanted[rows, (target + beside).clamp(0, logs.shape[1] - 1)] += share
    wanted = wanted * usable
    wanted = wanted / wanted.sum(dim=1, keepdim=True)
    return -(wanted * logs.masked_fill(~usable, 0.0)).sum(dim=1).mean()


def _centred(sums: Tensor, weights: Tensor, centre: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """The part of curves (N, O) within `reach` of index `centre` (N,); nothing where that leaves the curve."""
    last = sums.shape[1] + reach
    places = centre[:, None] + torch.arange(2 * reach + 1, device=centre.device)
    places = places.clamp(0, last)  # beyond, and at these, there is padding
    sums, weights = F.pad(sums, (reach, reach)), F.pad(weights, (reach, reach))
    return sums.gather(1, places), weights.gather(1, places)


def _joined(sums: Tensor, weights: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Curves (N, O) summed over those of one group (N,)."""
    count = int(groups.max()) + 1
    empty: Any = torch.zeros(count, sums.shape[1], device=sums.device, dtype=sums.dtype)
    return empty.index_add(0, groups, sums), empty.index_add(0, groups, weights)
