"""Cluster bootstrap of all detection metrics at once, vectorised over resamples.

A resample is a vector of weights (how often each clip was drawn). Clips are sorted once by score; weighted
counts of fakes and genuine clips above every distinct score then give AUC, average precision and EER of many
resamples with two cumulative sums, and everything else with one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_CHUNK_VALUES = 1_000_000  # weights held at a time: 8 MB per array, whatever the number of clips


class WeightedMetrics:
    """Metrics of fixed labels (N,) and P(fake) (N,) under changing clip weights."""

    def __init__(self, labels: np.ndarray, scores: np.ndarray, threshold: float, bins: int) -> None:
        self.order = np.argsort(-scores, kind="stable")
        y = labels[self.order].astype(np.float64)
        p = scores[self.order].astype(np.float64)
        self.labels = y
        self.last_of_tie = np.flatnonzero(np.append(np.diff(p) != 0, True))
        eps = np.finfo(np.float64).eps
        clipped = np.clip(p, eps, 1 - eps)
        called = (p >= threshold).astype(np.float64)
        columns = [
            -(y * np.log(clipped) + (1 - y) * np.log(1 - clipped)),
            (p - y) ** 2,
            called * y,
            called * (1 - y),
            y,
        ]
        gaps = np.zeros((len(p), bins))
        gaps[np.arange(len(p)), np.minimum((p * bins).astype(np.int64), bins - 1)] = p - y
        self.columns = np.column_stack([*columns, gaps])

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """`weights` (B, N) >= 0 in the order of the clips given, both classes present in each row -> name:
        (B,).
        """
        w = np.asarray(weights, dtype=np.float64)[:, self.order]
        return self.sorted_weights(w)

    def sorted_weights(self, w: np.ndarray) -> dict[str, np.ndarray]:
        """As `__call__` for weights whose columns are already in `self.order`."""
        tp_curve = np.cumsum(w * self.labels, axis=1)[:, self.last_of_tie]
        called_curve = np.cumsum(w, axis=1)[:, self.last_of_tie]
        n, n_fake = called_curve[:, -1], tp_curve[:, -1]
        n_real = n - n_fake
        fp_curve = called_curve - tp_curve
        tp_step, fp_step = (np.diff(curve, axis=1, prepend=0.0) for curve in (tp_curve, fp_curve))
        fakes, genuine = n_fake[:, None], n_real[:, None]
        fpr, fnr = fp_curve / genuine, 1 - tp_curve / fakes
        # |fpr - fnr| by counts, free of rounding, as in `metrics.closest_rates`.
        at = np.argmin(np.abs(fp_curve * fakes - (fakes - tp_curve) * genuine), axis=1)
        rows = np.arange(len(w))
        # Above the first drawn clip both counts are 0 and no step is taken: any finite precision will do.
        precision_curve = tp_curve / np.maximum(called_curve, 1e-300)
        sums = w @ self.columns
        loss, brier, tp, fp, _ = sums[:, :5].T
        called = tp + fp
        return {
            "roc_auc": (fp_step * (tp_curve - tp_step / 2)).sum(axis=1) / (n_fake * n_real),
            "average_precision": (tp_step * precision_curve).sum(axis=1) / n_fake,
            "eer": (fpr[rows, at] + fnr[rows, at]) / 2,
            "log_loss": loss / n,
            "brier": brier / n,
            "ece": np.abs(sums[:, 5:]).sum(axis=1) / n,
            "accuracy": (tp + n_real - fp) / n,
            "precision": np.where(called > 0, tp / np.where(called > 0, called, 1), np.nan),
            "recall": tp / n_fake,
            "f1": 2 * tp / (called + n_fake),
            "false_positive_rate": fp / n_real,
        }


def draw_groups(
    labels: np.ndarray, codes: np.ndarray, resamples: int, chunk: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, int]]:
    """Yield `(counts (b, G), redrawn)`: how often each of G groups was drawn, until `resamples` rows came
    out.

    A row holds G draws with replacement. Rows without a fake or without a genuine clip are drawn again; as
    both classes exist, at least half of all rows are good, so this ends.
    """
    n_groups = int(codes.max()) + 1
    fakes = np.bincount(codes, weights=labels, minlength=n_groups)
    genuine = np.bincount(codes, weights=1 - labels, minlength=n_groups)
    for start in range(0, resamples, chunk):
        counts = _counts(rng, min(chunk, resamples - start), n_groups)
        redrawn = 0
        while (bad := np.flatnonzero((counts @ fakes == 0) | (counts @ genuine == 0))).size:
            redrawn += bad.size
            counts[bad] = _counts(rng, bad.size, n_groups)
        yield counts, redrawn


def _counts(rng: np.random.Generator, rows: int, n_groups: int) -> np.ndarray:
    drawn = rng.integers(n_groups, size=(rows, n_groups)) + np.arange(rows)[:, None] * n_groups
    return np.bincount(drawn.ravel(), minlength=rows * n_groups).reshape(rows, n_groups).astype(np.float64)


def bootstrap_metrics(
    labels: np.ndarray,
    scores: np.ndarray,
    codes: np.ndarray,
    values: dict[str, float],
    threshold: float,
    bins: int,
    resamples: int,
    seed: int,
) -> tuple[dict[str, float], dict[str, float], int]:
    """95 % intervals `(lows, highs, redrawn)` of all metrics; `codes` (N,) numbers the group of each clip
    from 0.

    Percentile intervals, over the resamples where the metric is defined. The calibration error is biased
    upwards by sampling noise, and resampling adds the same bias again: its interval is the basic one,
    mirrored at the value (Davison & Hinkley 1997, section 5.2) and cut at 0, which takes the bias off; it may
    lie below the value.
    """
    rng = np.random.default_rng(seed)
    kernel = WeightedMetrics(labels, scores, threshold, bins)
    sorted_codes = codes[kernel.order]
    chunk = max(1, _CHUNK_VALUES // len(labels))
    parts, redrawn = [], 0
    for counts, again in draw_groups(labels, codes, resamples, chunk, rng):
        parts.append(kernel.sorted_weights(counts[:, sorted_codes]))
        redrawn += again
    lows, highs = {}, {}
    for name in parts[0]:
        drawn = np.concatenate([part[name] for part in parts])
        drawn = drawn[~np.isnan(drawn)]
        low, high = np.percentile(drawn, [2.5, 97.5]) if drawn.size else (np.nan, np.nan)
        if name == "ece":
            low, high = max(0.0, 2 * values["ece"] - high), max(0.0, 2 * values["ece"] - low)
        lows[name], highs[name] = float(low), float(high)
    return lows, highs, redrawn


def bootstrap_auc(
    labels: np.ndarray, scores: list[np.ndarray], codes: np.ndarray, resamples: int, seed: int
) -> tuple[np.ndarray, int]:
    """`(AUC (len(scores), resamples), redrawn)` of several scores of the same clips under the same draws.

    The AUC part of `WeightedMetrics` alone, several times as fast; `codes` (N,) as in `bootstrap_metrics`.
    """
    rng = np.random.default_rng(seed)
    orders = [np.argsort(-s, kind="stable") for s in scores]
    lasts = [np.flatnonzero(np.append(np.diff(s[o]) != 0, True)) for s, o in zip(scores, orders, strict=True)]
    parts, redrawn = [], 0
    for counts, again in draw_groups(labels, codes, resamples, max(1, _CHUNK_VALUES // len(labels)), rng):
        parts.append([
            _weighted_auc(counts[:, codes[order]], labels[order], last)
            for order, last in zip(orders, lasts, strict=True)
        ])  # fmt: skip
        redrawn += again
    return np.concatenate(parts, axis=1), redrawn


def _weighted_auc(weights: np.ndarray, labels: np.ndarray, last_of_tie: np.ndarray) -> np.ndarray:
    """AUC (B,) of `weights` (B, N) on clips in falling order of score."""
    fakes = np.cumsum(weights * labels, axis=1)
    genuine = np.cumsum(weights, axis=1) - fakes
    if len(last_of_tie) < len(labels):
        fakes, genuine = fakes[:, last_of_tie], genuine[:, last_of_tie]
    steps = np.diff(genuine, axis=1, prepend=0.0)
    before = np.diff(fakes, axis=1, prepend=0.0)
    # Fakes above each genuine clip, those of equal score counted one half.
    above = np.einsum("ij,ij->i", steps, fakes) - np.einsum("ij,ij->i", steps, before) / 2
    return above / (fakes[:, -1] * genuine[:, -1])


def bootstrap_sums(
    values: np.ndarray, codes: np.ndarray, resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Sums (B, K) of the columns of `values` (N, K) over resampled groups, G of G drawn with replacement.

    Groups with equal sums are drawn as one kind (a multinomial draw: the same distribution), so that counts
    of a few outcomes cost the same for any number of clips.
    """
    n_groups = int(codes.max()) + 1
    sums = np.column_stack([np.bincount(codes, weights=column, minlength=n_groups) for column in values.T])
    kinds, counts = np.unique(sums, axis=0, return_counts=True)
    return rng.multinomial(n_groups, counts / n_groups, size=resamples) @ kinds
