"""Whether a map says what the network does: pure functions of arrays and of functions of tensors."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from avdetect.explain.views import View, frozen

SIGNIFICANCE = 0.05
LEVELS = 8  # of how much is taken away, in deletion and insertion curves
BLOCKS = 12  # a side of what is taken away at once in planes
STAGES = 3  # in which weights are shuffled, from the logit down
RISE, FIRM_RISE, PLANT_STEPS = 6.0, 2.0, 24  # logits that a planted artefact should add, and must


@dataclass(frozen=True)
class Planted:
    """An input in which a known area speaks for fake: inside (*places) is its place, rise what it adds to the logit."""

    view: View
    x: Tensor
    inside: np.ndarray
    rise: float


def plant(view: View, x: Tensor, rng: np.random.Generator) -> Planted:
    """Put into ONE input (1, …) an area, at a random place, that raises this very network's logit.

    What is in it is searched by gradient ascent between the least and the largest value of the input (so that it works
    on any network); nothing outside is touched, so that the rise comes from there.
    """
    places = view.places(x)
    inside = np.zeros(places, bool)
    inside[tuple(_interval(size, len(places), rng) for size in places)] = True
    mask = view.spread(torch.from_numpy(inside)[None].to(x.device), x).to(x.dtype)
    low, high = view.limits(x)
    before = float(_logits(view, x))
    best, most, z = x, before, x.clone()
    with frozen(view):
        for _ in range(PLANT_STEPS):
            z = z.detach().requires_grad_()
            logit = view(z)
            if float(logit) > most:
                best, most = z.detach(), float(logit)
            if most - before >= RISE:
                break
            step = torch.autograd.grad(logit.sum(), z)[0].sign() * (high - low) / 16
            z = torch.minimum(torch.maximum(z + step * mask, low), high) * mask + x * (1 - mask)
    planted_view, planted = view.fixed(best)
    return Planted(planted_view, planted, inside, most - before)


def _interval(size: int, dimensions: int, rng: np.random.Generator) -> slice:
    width = max(1, round(size / (3 if dimensions > 1 else 4)))
    start = int(rng.integers(0, size - width + 1))
    return slice(start, start + width)


def _logits(view: View, x: Tensor) -> Tensor:
    with torch.no_grad():
        return view(x)


def peak(values: np.ndarray) -> tuple[int, ...]:
    """Place of the highest value; of several equal ones, that nearest to their middle."""
    tied = np.argwhere(values >= values.max())
    return tuple(tied[np.square(tied - tied.mean(0)).sum(1).argmin()])


def pointing_game(maps: list[np.ndarray], inside: list[np.ndarray]) -> tuple[np.ndarray, float, float]:
    """Hits (N,) of the maps' peaks in the areas, the chance of one, and the p-value of so many (binomial, one-sided).

    Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016.
    """
    hits = np.array([bool(area[peak(values)]) for values, area in zip(maps, inside, strict=True)])
    chance = float(np.mean([area.mean() for area in inside]))
    p = stats.binomtest(int(hits.sum()), len(hits), chance, alternative="greater").pvalue
    return hits, chance, float(p)


def removal_score(view: View, x: Tensor, values: np.ndarray) -> float:
    """Mean logit while the highest places are put in, less that while they are taken away; of ONE input (1, …).

    Insertion and deletion of Petsiuk et al., RISE, BMVC 2018, in blocks of `BLOCKS` a side.
    """
    cells, baseline = _cells(torch.from_numpy(np.ascontiguousarray(values))[None].float()), view.baseline(x)
    order = cells.flatten().argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    share = (rank / len(order)).reshape(cells.shape)
    kept = [(share < level) for level in torch.linspace(0, 1, LEVELS + 1)[1:-1]]
    chosen = torch.cat([F.interpolate(k[:, None].float(), size=view.places(x))[:, 0] for k in kept])
    spread = view.spread(chosen.to(x.device), x)
    put_in = x * spread + baseline * (1 - spread)
    taken = baseline * spread + x * (1 - spread)
    return float(_logits(view, put_in).mean() - _logits(view, taken).mean())


def _cells(values: Tensor) -> Tensor:
    """(1, *places) -> means over blocks."""
    if values.ndim == 2:
        return F.adaptive_avg_pool1d(values, min(values.shape[1], 3 * BLOCKS))
    return F.adaptive_avg_pool2d(values, tuple(min(size, BLOCKS) for size in values.shape[1:]))


def better_than_random(scores: np.ndarray, random: np.ndarray) -> tuple[float, float]:
    """Mean gain of paired scores (N,) over random ones (N,), and its one-sided p-value (t-test of the differences)."""
    gain = np.asarray(scores) - np.asarray(random)
    if len(gain) < 2 or np.ptp(gain) == 0:
        return float(gain.mean()), 1.0
    return float(gain.mean()), float(stats.ttest_1samp(gain, 0.0, alternative="greater").pvalue)


def shuffled(view: View, share: float, seed: int = 0) -> View:
    """A copy in which the weights of the last `share` of layers are shuffled: each keeps its values, in no order."""
    copied = copy.deepcopy(view)
    layers = [m for m in copied.modules() if isinstance(getattr(m, "weight", None), nn.Parameter)]
    generator = torch.Generator().manual_seed(seed)
    for layer in layers[len(layers) - round(share * len(layers)) :]:
        for parameter in layer.parameters(recurse=False):
            flat = parameter.data.flatten()
            parameter.data = flat[torch.randperm(len(flat), generator=generator)].reshape(parameter.shape)
    return copied


def fall_of_likeness(
    run: Callable[[View, Tensor], Tensor], inputs: list[Planted], maps: list[np.ndarray]
) -> list[float]:
    """Rank correlation of maps with those of the network as it is, the more layers are shuffled (`STAGES` figures).

    Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018; of the maps' sizes, mean over the inputs.
    """
    means = []
    for stage in range(1, STAGES + 1):
        found = []
        for seed, (given, values) in enumerate(zip(inputs, maps, strict=True)):
            other = run(shuffled(given.view, stage / STAGES, seed), given.x)[0].float().cpu().numpy()
            found.append(likeness(values, other))
        means.append(float(np.mean(found)))
    return means


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's rank correlation of the sizes of two maps; 0 where one is even."""
    a, b = (np.abs(values).ravel() for values in (one, other))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(stats.spearmanr(a, b).statistic)


def completeness_error(attribution: Tensor, logit: float, baseline_logit: float) -> float:
    """|sum of attributions - difference of logits| as a part of that difference."""
    return abs(float(attribution.sum()) - (logit - baseline_logit)) / max(abs(logit - baseline_logit), 1e-6)
