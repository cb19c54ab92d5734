"""Losses as functions of logits."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def binary_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits (N,) against labels (N,) in {0, 1}, with optional label smoothing."""
    target = labels.to(logits.dtype) * (1 - smoothing) + 0.5 * smoothing
    return F.binary_cross_entropy_with_logits(logits, target)


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
