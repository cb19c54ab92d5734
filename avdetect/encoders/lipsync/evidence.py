"""Curves of evidence: how strongly lips and sound belong together at each offset, summed over a clip.

Pure functions of tensors. Where distances are averaged (`sync.mean_curve`), an offset with few windows in common is
often the lowest by chance. Evidence is summed: a pair of windows adds the logarithm of how much likelier it is if
both show the same moment than if they do not, and a pair that is not there adds nothing. The softmax of the sums is
then the probability of each offset, as far as a critic trained by InfoNCE is such a ratio (van den Oord et al.,
Representation Learning with Contrastive Predictive Coding, 2018) and the windows are independent.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from avdetect.encoders.lipsync.sync import MIN_OVERLAP

SCALARS = 6  # numbers that the head sees
IN_STEP = 2  # grid frames either way that count as in step: 80 ms, which viewers hardly notice
LIMIT = 8.0  # of log odds in the features
LONGEST = 80.0  # windows: longer sums tell a head nothing new, and are longer than any it was trained on


def diagonal_sums(pairs: Tensor, weights: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """Sums and weights by offset, (N, 2*reach+1) each, of evidence (N, W, V) of lip window w and sound window w + o.

    weights: (N, V) of the sound windows. Pairs outside the clip add nothing.
    """
    n, w, _ = pairs.shape
    weights = weights.to(pairs.dtype).unsqueeze(1)
    both = torch.stack([pairs * weights, weights.expand_as(pairs)], dim=1)
    places = torch.arange(2 * reach + 1, device=pairs.device) + torch.arange(w, device=pairs.device)[:, None]
    rows = F.pad(both, (reach, reach + w)).gather(3, places.expand(n, 2, w, 2 * reach + 1))
    return rows.sum(dim=2).unbind(dim=1)


def usable_offsets(weights: Tensor) -> Tensor:
    """Weights by offset (N, O) -> bool: those with at least half the weight of the middle one, if that has any."""
    centre = weights[:, weights.shape[1] // 2].unsqueeze(1)
    return (weights >= MIN_OVERLAP * centre) & (weights > 0) & (centre > 0)


def log_odds(sums: Tensor, usable: Tensor) -> Tensor:
    """Sums of evidence (N, O) -> log probabilities of the offsets (N, O); -inf where unusable, 0 if none is usable."""
    masked = torch.where(usable, sums, torch.full_like(sums, -torch.inf))
    none = ~usable.any(dim=1, keepdim=True)
    return torch.log_softmax(torch.where(none, torch.zeros_like(sums), masked), dim=1)


def near(values: Tensor, centre: Tensor, within: int) -> Tensor:
    """Log of the summed probability (N,) of offsets at most `within` from index `centre` (N,), of logs (N, O)."""
    places = torch.arange(values.shape[1], device=values.device)
    inside = (places[None] - centre[:, None]).abs() <= within
    return torch.where(inside, values, torch.full_like(values, -torch.inf)).logsumexp(dim=1)


def features(sums: Tensor, weights: Tensor, usable: Tensor, pace: Tensor) -> Tensor:
    """What a head needs to know of a curve, (N, O) each -> (N, SCALARS + O).

    Log odds of being in step (at most `IN_STEP` frames off) over the other offsets; mean evidence in step, at the best
    offset, and the difference; sums of evidence in step and at the best offset, of
    `LONGEST` windows at most, compressed; then the mean evidence by offset, 0 where unusable. `pace` scales sums of
    evidence to logarithms of probabilities.
    """
    middle = sums.shape[1] // 2
    centre = torch.full((len(sums),), middle, device=sums.device)
    logs = log_odds(sums * pace, usable)
    inside = near(logs, centre, IN_STEP).clamp(-LIMIT, -1e-4)
    odds = (inside - torch.log(-torch.expm1(inside))).clamp(-LIMIT, LIMIT) / 4.0
    mean = torch.where(usable, sums / weights.clamp_min(1e-6), torch.zeros_like(sums))
    lowest = torch.where(usable, mean, torch.full_like(mean, -1e4))
    any_usable = usable.any(dim=1)
    best = torch.where(any_usable, lowest.amax(dim=1), 0.0)
    step = torch.where(any_usable, lowest[:, middle - IN_STEP : middle + IN_STEP + 1].amax(dim=1), 0.0)
    heard = weights[:, middle].clamp_max(LONGEST)
    scalars = [odds, step, best, best - step, _compressed(step * heard), _compressed(best * heard)]
    return torch.cat([torch.stack(scalars, dim=1), mean], dim=1)


def _compressed(x: Tensor) -> Tensor:
    return x.sign() * x.abs().log1p()
