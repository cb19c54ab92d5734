"""Offset search between lip and sound embeddings: pure functions of tensors, and the result for one clip.

After Chung and Zisserman, "Out of Time: Automated Lip Sync in the Wild" (2016): the mean distance over a clip
as a function of the offset; its minimum is the offset, median minus minimum the confidence. Here windows
without sound and windows shifted out of the clip have no weight, where the published code pads with zeros.

Embeddings may have any length. Offsets are in grid frames and positive where the audio is late: lip window i
is compared with audio window i + offset.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avdetect.encoders.base import full_precision

SHARPNESS = 20.0  # of the soft minimum over offsets, per unit of distance between embeddings of length 1
SILENT_DB = -60.0  # dB of full scale under which a window is silent whatever the rest of the clip is
SILENT_BELOW_PEAK_DB = (
    30.0  # silent is also what lies this far under the clip's loud windows (95th percentile)
)
MIN_OVERLAP = 0.5  # an offset counts if it has this part of the weight that offset 0 has


@dataclass(frozen=True)
class SyncResult:
    """Lip-sync of one clip. Where nothing could be compared `reason` says why and scores are None or NaN."""

    offsets: np.ndarray  # (O,) int64, grid frames, positive = audio late
    distances: np.ndarray  # (W, O) float32, lip window to audio window; NaN outside the clip and in silence
    curve: np.ndarray  # (O,) float32, mean distance by offset; NaN where the overlap is too small
    offset_frames: int | None  # where the curve is lowest
    offset_ms: float | None
    confidence: (
        float  # how sure the offset is: median - minimum of the curve, or what the encoder says instead
    )
    logit: float  # of "out of sync", for the clip
    embedding: np.ndarray  # (D,) float32, what the logit is made from
    window_times: np.ndarray  # (W,) float64, seconds, middle frame of each window
    speech: np.ndarray  # (W,) bool, whether the audio window of the same index is loud enough to count
    second_times: np.ndarray  # (S,) float64, seconds, start of each second
    second_logits: np.ndarray  # (S,) float32, NaN where the second has no sound to compare
    reason: str | None


def neighbours(x: Tensor, reach: int) -> Tensor:
    """(N, W, ...) -> (N, W, ..., 2*reach+1): the neighbours at -reach..+reach, 0 outside the clip."""
    padding = [0, 0] * (x.ndim - 2) + [reach, reach]
    return F.pad(x, padding).unfold(1, 2 * reach + 1, 1)


def offset_distances(lips: Tensor, sound: Tensor, reach: int) -> Tensor:
    """Embeddings (N, W, D) each, of any length -> Euclidean distances (N, W, 2*reach+1), offset -reach first.

    Pairs that fall outside the clip hold a number without meaning; `pair_weights` gives them weight 0.
    """
    with full_precision(lips):
        lips, sound = lips.float(), sound.float()
        product = torch.einsum("nwd,nwdo->nwo", lips, neighbours(sound, reach))
        squares = lips.square().sum(dim=2, keepdim=True) + neighbours(sound.square().sum(dim=2), reach)
        return (squares - 2.0 * product).clamp_min(1e-6).sqrt()


def speech_activity(waveform: Tensor, samples_per_frame: int, width: int) -> Tensor:
    """(N, T * samples_per_frame) -> (N, T - width + 1): 1 where a window has sound, 0 where it is silent.

    A window is silent if its level is under -60 dB of full scale, or more than 30 dB under the 95th
    percentile of the clip's windows.
    """
    power = waveform.square().unflatten(1, (-1, samples_per_frame)).mean(dim=2)
    level = 10.0 * torch.log10(F.avg_pool1d(power.unsqueeze(1), width, 1).squeeze(1) + 1e-12)
    loud = torch.quantile(level, 0.95, dim=1, keepdim=True)
    return ((level > SILENT_DB) & (level > loud - SILENT_BELOW_PEAK_DB)).to(waveform.dtype)


def pair_weights(speech: Tensor, reach: int) -> Tensor:
    """Speech activity (N, W) -> weight of each pair (N, W, 2*reach+1): its audio window's, 0 outside."""
    return neighbours(speech, reach)


def mean_curve(distances: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Distances and pair weights (N, W, O) -> mean distance by offset, and which offsets are usable, (N, O).

    An offset is usable if its pairs weigh at least half of those at offset 0; without any weight at offset 0
    none is. Unusable offsets hold a number without meaning.
    """
    total = weights.sum(dim=1)
    curve = (distances * weights).sum(dim=1) / total.clamp_min(1e-6)
    centre = total[:, total.shape[1] // 2].unsqueeze(1)
    return curve, (total >= MIN_OVERLAP * centre) & (total > 0) & (centre > 0)


def masked_curve(curve: Tensor, usable: Tensor) -> Tensor:
    """Curve (N, O) with infinity at unusable offsets: they are never the best. 0 where none is usable."""
    masked = torch.where(usable, curve, torch.full_like(curve, torch.inf))
    return torch.where(usable.any(dim=1, keepdim=True), masked, torch.zeros_like(curve))


def curve_statistics(curve: Tensor, usable: Tensor) -> tuple[Tensor, Tensor]:
    """Curve (N, O) and usable offsets -> (minimum, median) over these, (N,) each; the lower of two medians.

    Without a usable offset both are 0.
    """
    ordered = masked_curve(curve, usable).sort(dim=1).values
    middle = (usable.sum(dim=1) - 1).clamp_min(0) // 2
    return ordered[:, 0], ordered.gather(1, middle.unsqueeze(1)).squeeze(1)


def curve_features(curve: Tensor, usable: Tensor, sharpness: float = SHARPNESS) -> Tensor:
    """What a head needs to know of a curve, differentiable: (N, O) -> (N, O + 6).

    Distance at offset 0, minimum, median, confidence (median - minimum), distance at 0 over the minimum, soft
    |offset| of the minimum as a part of the reach; then the curve itself under its median, 0 where unusable.
    `sharpness` of the soft minimum is per unit of distance: the smaller, the larger the distances are.
    """
    reach = curve.shape[1] // 2
    minimum, median = curve_statistics(curve, usable)
    offsets = torch.arange(-reach, reach + 1, device=curve.device, dtype=curve.dtype)
    masked = masked_curve(curve, usable)
    soft = torch.softmax(-sharpness * masked, dim=1)
    away = (soft * offsets.abs()).sum(dim=1) / reach
    zero = masked[:, reach]
    scalars = torch.stack([zero, minimum, median, median - minimum, zero - minimum, away], dim=1)
    shape = torch.where(usable, curve - median.unsqueeze(1), torch.zeros_like(curve))
    return torch.cat([scalars, shape], dim=1)
