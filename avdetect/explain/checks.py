"""Whether a map says what the network does: pure functions of arrays and of functions of tensors."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage, stats
from torch import Tensor, nn
from torch.nn import functional as F

from avdetect.explain.views import View, frozen

SIGNIFICANCE = 0.05
LEVELS = 8  # of how much is taken away, in deletion and insertion curves
BLOCKS = 12  # a side of what is taken away at once in planes
STAGES = 3  # in which weights are drawn anew, from the logit down
PLACES = 4  # that are tried for an artefact
FIRM_RISE = 2.0  # logits that a planted artefact must add
RISE, PLANT_STEPS = 4.0, 24  # … that gradient ascent looks for, in so many steps


@dataclass(frozen=True)
class Planted:
    """An input in which a known area speaks for fake: inside (*places) is its place, rise what it adds to the logit."""

    view: View
    x: Tensor
    inside: np.ndarray
    rise: float


def plant(view: View, x: Tensor, rng: np.random.Generator) -> Planted:
    """Put into ONE input (1, …) an area, at a random place, that raises this very network's logit.

    Tried are checks, noise, louder and fainter content, content from elsewhere in the input and none, at some places;
    that which raises the logit most is taken. Where none adds `FIRM_RISE`, the area is filled by gradient ascent, which
    moves any network. Nothing outside is touched, so that the rise comes from there.
    """
    view, x = view.content(x)
    low, high = view.limits(x)
    before, best = float(_logits(view, x)), Planted(view, x, np.zeros(view.places(x), bool), 0.0)
    for _ in range(PLACES):
        inside, mask = _area(view, x, rng)
        tried = torch.cat([torch.minimum(torch.maximum(z, low), high) for z in _artefacts(view, x, rng)])
        tried = tried * mask + x * (1 - mask)
        logits = torch.cat([_logits(view, part) for part in tried.split(4)])
        rise = float(logits.max()) - before
        if rise > best.rise:
            best = Planted(view, tried[int(logits.argmax())][None], inside, rise)
    if best.rise < FIRM_RISE:
        best = _ascended(view, x, rng)
    planted_view, planted = view.fixed(best.x)
    return Planted(planted_view, planted, best.inside, best.rise)


def _area(view: View, x: Tensor, rng: np.random.Generator) -> tuple[np.ndarray, Tensor]:
    """A random area, bool (*places), and the same as 0 and 1 of the shape of x."""
    places = view.places(x)
    inside = np.zeros(places, bool)
    inside[tuple(_interval(size, len(places), rng) for size in places)] = True
    return inside, view.spread(torch.from_numpy(inside)[None].to(x.device), x).to(x.dtype)


def _artefacts(view: View, x: Tensor, rng: np.random.Generator) -> list[Tensor]:
    places, spread = view.places(x), float(x.std()) or 1.0
    found = [view.baseline(x), 2 * x - view.baseline(x), (x + view.baseline(x)) / 2]
    for period in (1, 2, 4):
        parity = sum(np.indices(places) // period) % 2
        found.append(x + spread * view.spread(torch.from_numpy(2.0 * parity - 1.0)[None].to(x), x))
    found.append(x + spread * torch.from_numpy(rng.standard_normal(x.shape)).to(x))
    axis = 1 if view.modality == "lipsync" else -1
    found += [x.roll(x.shape[axis] // 2, axis), x.flip(axis)]
    return found


def _ascended(view: View, x: Tensor, rng: np.random.Generator) -> Planted:
    inside, mask = _area(view, x, rng)
    low, high = view.limits(x)
    before = float(_logits(view, x))
    best, most, z = x, before, x.clone()
    with frozen(view):
        for _ in range(PLANT_STEPS):
            z = z.detach().requires_grad_()
            logit = view(z)
            if logit.item() > most:
                best, most = z.detach(), logit.item()
            if most - before >= RISE:
                break
            step = torch.autograd.grad(logit.sum(), z)[0].sign() * (high - low) / 16
            z = torch.minimum(torch.maximum(z + step * mask, low), high) * mask + x * (1 - mask)
    return Planted(view, best, inside, most - before)


def _interval(size: int, dimensions: int, rng: np.random.Generator) -> slice:
    width = max(1, round(size / (3 if dimensions > 1 else 4)))
    start = int(rng.integers(0, size - width + 1))
    return slice(start, start + width)


def _logits(view: View, x: Tensor) -> Tensor:
    with torch.no_grad():
        return view(x)


def peak(values: np.ndarray) -> tuple[int, ...]:
    """Place of the highest mean over a neighbourhood of a twelfth of the sides: where an eye sees the map's peak.

    Of several equal ones, that nearest to their middle.
    """
    values = ndimage.uniform_filter(values, [max(1, size // BLOCKS) for size in values.shape], mode="nearest")
    tied = np.argwhere(values >= values.max() - 1e-6 * np.ptp(values))
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


def redrawn(view: View, share: float, seed: int = 0) -> View:
    """A copy in which the last `share` of layers have random weights: as large as they were, with a mean of 0.

    The scales and shifts of norms are shuffled: as zero-mean noise they would switch channels off.
    """
    copied = copy.deepcopy(view)
    layers = [m for m in copied.modules() if isinstance(getattr(m, "weight", None), nn.Parameter)]
    generator = torch.Generator().manual_seed(seed)
    for layer in layers[len(layers) - round(share * len(layers)) :]:
        for parameter in layer.parameters(recurse=False):
            old = parameter.data
            if old.ndim > 1:
                noise = torch.randn(old.shape, generator=generator).to(old)
                parameter.data = noise * old.square().mean().sqrt()
            else:
                parameter.data = old[torch.randperm(len(old), generator=generator)]
    return copied


def fall_of_likeness(
    run: Callable[[View, Tensor], Tensor], inputs: list[Planted], maps: list[np.ndarray]
) -> list[float]:
    """Rank correlation of maps with those of the network as it is, the more layers are drawn anew (`STAGES` figures).

    Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018; mean over the inputs.
    """
    means = []
    for stage in range(1, STAGES + 1):
        found = []
        for seed, (given, values) in enumerate(zip(inputs, maps, strict=True)):
            other = run(redrawn(given.view, stage / STAGES, seed), given.x)[0].float().cpu().numpy()
            found.append(likeness(values, other))
        means.append(float(np.mean(found)))
    return means


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's rank correlation of two maps; 0 where one is even."""
    a, b = one.ravel(), other.ravel()
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(stats.spearmanr(a, b).statistic)


def completeness_error(attribution: Tensor, logit: float, baseline_logit: float) -> float:
    """|sum of attributions - difference of logits| as a part of that difference."""
    return abs(float(attribution.sum()) - (logit - baseline_logit)) / max(abs(logit - baseline_logit), 1e-6)
