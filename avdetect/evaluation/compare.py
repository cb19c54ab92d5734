"""Is detector A better than detector B on the same clips?

`delong` for the ROC AUC of independent clips, `paired_bootstrap` for any metric and for clips that share
sources. Differences are A - B; labels and scores as in `avdetect.evaluation.metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from avdetect.errors import ConfigError, DataError
from avdetect.evaluation import metrics
from avdetect.evaluation.bootstrap import WeightedMetrics, bootstrap_auc, draw_groups

RANKING = ("roc_auc", "average_precision", "eer")  # need an order only: logits will do
LOWER_IS_BETTER = ("eer", "log_loss", "brier", "ece", "false_positive_rate")
_CHUNK_VALUES = 1_000_000

Metric = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Comparison:
    """`a`, `b`: the metric of each; `difference` = a - b with its interval at `level`; `p` is two-sided.

    `better` is "a" or "b" where the interval excludes 0, else None. Where no interval can be given, `low`,
    `high` and `p` are None and `reason` says why.
    """

    metric: str
    method: str
    a: float
    b: float
    difference: float
    low: float | None
    high: float | None
    p: float | None
    level: float
    better: str | None
    n: int
    n_fake: int
    n_groups: int
    resamples: int | None = None
    redrawn: int | None = None
    undefined: int | None = None  # resamples in which the metric has no value; left out
    seed: int | None = None
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def delong(labels: ArrayLike, a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Comparison:
    """Compare the AUCs of scores `a` (N,) and `b` (N,) of the same clips.

    DeLong et al. 1988 in the O(N log N) form of Sun & Xu, "Fast implementation of DeLong's algorithm for
    comparing the areas under correlated ROC curves", IEEE SPL 21(11), 2014; ties count one half. It takes
    clips for independent: where several come from one recording use `paired_bootstrap` with groups.
    """
    _check_level(level)
    y, first = metrics.check_scores(labels, a, both_classes=True)
    _, second = metrics.check_scores(labels, b)
    aucs, covariance = _delong_covariance(y, [first, second])
    difference = float(aucs[0] - aucs[1])
    counts = {"n": len(y), "n_fake": int(y.sum()), "n_groups": len(y)}
    low = high = p = better = reason = None
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if min(y.sum(), len(y) - y.sum()) < 2:
        reason = "two clips of each class are needed to estimate a variance"
    elif variance <= 1e-15:
        reason = "the difference does not vary between clips (equal rankings, or both separate the classes)"
    else:
        error = np.sqrt(variance)
        p = float(2 * ndtr(-abs(difference) / error))
        half = float(ndtri((1 + level) / 2) * error)
        low, high = difference - half, difference + half
        better = _better(low, high, False)
    return Comparison(
        "roc_auc", "DeLong", float(aucs[0]), float(aucs[1]), difference, low, high, p, level, better,
        **counts, reason=reason,
    )  # fmt: skip


def auc_interval(labels: ArrayLike, scores: ArrayLike, level: float = 0.95) -> dict[str, Any]:
    """DeLong's interval of one AUC, {"value", "low", "high", "standard_error", "reason"}, cut to [0, 1].

    None with a reason where the classes are separated or one has a single clip: its variance is not known.
    """
    _check_level(level)
    y, s = metrics.check_scores(labels, scores, both_classes=True)
    aucs, covariance = _delong_covariance(y, [s])
    value, error = float(aucs[0]), float(np.sqrt(max(covariance[0, 0], 0)))
    if min(y.sum(), len(y) - y.sum()) < 2 or error < 1e-8:
        reason = "the variance cannot be estimated: the classes are separated, or one has a single clip"
        return {"value": value, "low": None, "high": None, "standard_error": None, "reason": reason}
    half = float(ndtri((1 + level) / 2)) * error
    low, high = max(value - half, 0.0), min(value + half, 1.0)
    return {"value": value, "low": low, "high": high, "standard_error": error, "reason": None}


def _delong_covariance(y: np.ndarray, scores: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """`(AUC (K,), covariance (K, K))`; NaN covariance where a class has one clip."""
    n_fake, n_real = int(y.sum()), int((1 - y).sum())
    of_fakes, of_genuine = np.empty((len(scores), n_fake)), np.empty((len(scores), n_real))
    for k, s in enumerate(scores):
        ranks = rankdata(s)
        fakes, genuine = ranks[y == 1], ranks[y == 0]
        # Rank among all less rank in the own class: how many of the other class lie below.
        of_fakes[k] = (fakes - rankdata(s[y == 1])) / n_real
        of_genuine[k] = 1 - (genuine - rankdata(s[y == 0])) / n_fake
    if min(n_fake, n_real) < 2:
        return of_fakes.mean(axis=1), np.full((len(scores), len(scores)), np.nan)
    return of_fakes.mean(axis=1), np.atleast_2d(np.cov(of_fakes) / n_fake + np.cov(of_genuine) / n_real)


def paired_bootstrap(
    labels: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    metric: str | Metric = "roc_auc",
    groups: Sequence[Any] | np.ndarray | None = None,
    *,
    threshold: float = 0.5,
    higher_is_better: bool = True,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare a metric of scores `a` (N,) and `b` (N,) of the same clips, both measured on the same
    resamples.

    `metric`: a name of `metrics.METRICS`, or any function of (labels, scores), for which `higher_is_better`
    says what is good (names know it). `groups` (N,): sources, drawn whole; None = every clip its own.
    The interval holds the percentiles of the differences; p = 2 min(P(d <= 0), P(d >= 0)), each share counted
    as (k + 1) / (B + 1) (Davison & Hinkley 1997, section 4.2), so that it is never 0. Logits will do for
    the metrics in `RANKING` and for functions that take them; the others need P(fake).
    """
    _check_level(level)
    named = isinstance(metric, str)
    if named and metric not in metrics.METRICS:
        raise ConfigError(f"Unknown metric {metric!r}: choose one of {', '.join(metrics.METRICS)}.")
    if resamples < 1:
        raise ConfigError(f"The bootstrap needs at least one resample, found {resamples}.")
    probabilities = named and metric not in RANKING
    y, first = metrics.check_scores(labels, a, both_classes=True, probabilities=probabilities)
    _, second = metrics.check_scores(labels, b, probabilities=probabilities)
    codes = np.arange(len(y)) if groups is None else metrics.group_codes(groups, len(y))
    n_groups = int(codes.max()) + 1
    of_both = [_value(metric, y, s, threshold) for s in (first, second)]
    if np.isnan(of_both).any():
        raise DataError(f"The metric is undefined for these scores ({of_both}): there is nothing to compare.")
    name = metric if named else getattr(metric, "__name__", "metric")
    fixed = {"level": level, "n": len(y), "n_fake": int(y.sum()), "n_groups": n_groups}
    values = (name, "paired bootstrap", *of_both, of_both[0] - of_both[1])
    if n_groups < 2:
        reason = "all clips come from one source: no interval can be given"
        return Comparison(*values, None, None, None, better=None, **fixed, reason=reason)
    drawn, redrawn = _draws(metric, y, [first, second], codes, threshold, resamples, seed)
    differences = drawn[0] - drawn[1]
    differences = differences[~np.isnan(differences)]
    if not len(differences):
        reason = "the metric is undefined in every resample"
        return Comparison(*values, None, None, None, better=None, **fixed, reason=reason)
    low, high = (float(q) for q in np.quantile(differences, [(1 - level) / 2, (1 + level) / 2]))
    tails = (np.array([(differences <= 0).sum(), (differences >= 0).sum()]) + 1) / (len(differences) + 1)
    lower = metric in LOWER_IS_BETTER if named else not higher_is_better
    return Comparison(
        *values, low, high, float(min(1.0, 2 * tails.min())), better=_better(low, high, lower), **fixed,
        resamples=resamples, redrawn=redrawn, undefined=resamples - len(differences), seed=seed,
    )  # fmt: skip


def _value(metric: str | Metric, y: np.ndarray, s: np.ndarray, threshold: float) -> float:
    if not isinstance(metric, str):
        return float(metric(y, s))
    function = getattr(metrics, metric)
    return function(y, s, threshold) if metric in metrics.THRESHOLDED else function(y, s)


def _draws(
    metric: str | Metric,
    y: np.ndarray,
    scores: list[np.ndarray],
    codes: np.ndarray,
    threshold: float,
    resamples: int,
    seed: int,
) -> tuple[np.ndarray, int]:
    """`(values (2, resamples), redrawn)` of the metric, NaN where it is undefined."""
    if metric == "roc_auc":
        return bootstrap_auc(y, scores, codes, resamples, seed)
    if metric in RANKING:
        scores = [rankdata(s) / (len(s) + 1) for s in scores]  # the kernel works on [0, 1]
    kernels = (
        [WeightedMetrics(y, s, threshold, metrics.ECE_BINS) for s in scores]
        if isinstance(metric, str)
        else []
    )
    parts, redrawn = [], 0
    chunk = max(1, _CHUNK_VALUES // len(y))
    for counts, again in draw_groups(y, codes, resamples, chunk, np.random.default_rng(seed)):
        redrawn += again
        if kernels:
            parts.append([kernel(counts[:, codes])[metric] for kernel in kernels])
        else:
            picks = [np.repeat(np.arange(len(y)), row[codes].astype(int)) for row in counts]
            parts.append([[float(metric(y[pick], s[pick])) for pick in picks] for s in scores])
    return np.concatenate(parts, axis=1), redrawn


def _better(low: float, high: float, lower_is_better: bool) -> str | None:
    if low <= 0 <= high:
        return None
    return "a" if (low > 0) != lower_is_better else "b"


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ConfigError(f"The level of an interval lies in (0, 1), found {level}.")
