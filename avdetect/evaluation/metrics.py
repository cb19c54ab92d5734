"""Detection metrics as pure functions of arrays.

Everywhere: `labels` (N,) of 0 = genuine and 1 = fake, `scores` (N,) where higher means fake; functions that
need probabilities say P(fake). Rates are fractions in [0, 1]. Bad input raises `DataError` and nothing is
imputed. A clip is called fake where score >= threshold. The field's usual definitions come from scikit-learn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn import metrics as sk

from avdetect.errors import ConfigError, DataError
from avdetect.evaluation.aggregate import aggregate_mean_logit as aggregate_mean_logit  # found here as well
from avdetect.evaluation.bootstrap import bootstrap_metrics

METRICS = (
    "roc_auc", "average_precision", "eer", "log_loss", "brier", "ece",
    "accuracy", "precision", "recall", "f1", "false_positive_rate",
)  # fmt: skip
THRESHOLDED = ("accuracy", "precision", "recall", "f1", "false_positive_rate")
ECE_BINS = 15
FEW_GROUPS = 20


def check_scores(
    labels: ArrayLike, scores: ArrayLike, *, both_classes: bool = False, probabilities: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as (N,) int64 and scores as (N,) float64, or raise DataError saying what is wrong."""
    y = np.asarray(labels).ravel()
    s = np.asarray(scores).ravel()
    if s.dtype.kind != "f":
        s = (
            pd.to_numeric(pd.Series(s), errors="coerce")
            .astype("Float64")
            .to_numpy(np.float64, na_value=np.nan)
        )
    s = s.astype(np.float64)
    if len(y) != len(s):
        raise DataError(f"{len(y)} labels but {len(s)} scores: give one score per label.")
    if len(y) == 0:
        raise DataError("There is nothing to measure: labels and scores are empty.")
    known = (
        (y == 0) | (y == 1) if y.dtype.kind in "biuf" else pd.Series(y, dtype=object).isin([0, 1]).to_numpy()
    )
    if not known.all():
        strange = y[~known].tolist()[0]
        raise DataError(f"Labels must be 0 (genuine) or 1 (fake), found {strange!r}: map or drop such rows.")
    y = y.astype(np.int64)
    if not np.isfinite(s).all():
        raise DataError(
            f"{int((~np.isfinite(s)).sum())} of {len(s)} scores are not finite numbers: leave unscored clips "
            "out and report how many there are."
        )
    if probabilities and (s.min() < 0 or s.max() > 1):
        raise DataError(
            f"Scores run from {s.min():.4g} to {s.max():.4g}, P(fake) lies in [0, 1]: calibrate logits first."
        )
    if both_classes and (y.min() == y.max()):
        found = "fake" if y[0] else "genuine"
        raise DataError(f"All {len(y)} clips are {found}: this metric needs genuine and fake clips.")
    return y, s


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: chance that a fake scores above a genuine clip, ties counting one half."""
    y, s = check_scores(labels, scores, both_classes=True)
    return float(sk.roc_auc_score(y, s))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Average precision (step-wise, no interpolation) with fake as the positive class."""
    y, s = check_scores(labels, scores, both_classes=True)
    return float(sk.average_precision_score(y, s))


def error_rates(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Operating points `(false_positive_rate, false_negative_rate, thresholds)`, thresholds falling from
    infinity.

    One point per distinct score (clips of equal score cannot be told apart by any threshold).
    """
    y, s = check_scores(labels, scores, both_classes=True)
    fpr, tpr, thresholds = sk.roc_curve(y, s, drop_intermediate=False)
    return fpr, 1.0 - tpr, thresholds


def eer_threshold(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Equal error rate and its threshold, by the definition of the ASVspoof organisers.

    The mean of the two error rates at the threshold where their difference is smallest, the highest such
    threshold where several are equally good; no interpolation.
    """
    y, s = check_scores(labels, scores, both_classes=True)
    fpr, fnr, thresholds = error_rates(y, s)
    at = closest_rates(y, fpr, fnr)
    return float((fpr[at] + fnr[at]) / 2), float(thresholds[at])


def closest_rates(labels: np.ndarray, fpr: np.ndarray, fnr: np.ndarray) -> int:
    """Index of the first operating point with the smallest |fpr - fnr|, by counts, free of rounding."""
    n_fake = int(labels.sum())
    n_real = len(labels) - n_fake
    gap = np.rint(fpr * n_real) * n_fake - np.rint(fnr * n_fake) * n_real
    return int(np.argmin(np.abs(gap)))


def eer(labels: ArrayLike, scores: ArrayLike) -> float:
    """Equal error rate in [0, 1]; see `eer_threshold`."""
    return eer_threshold(labels, scores)[0]


def log_loss(labels: ArrayLike, scores: ArrayLike) -> float:
    """Mean negative log likelihood of P(fake) in nats; P is clipped to machine epsilon as in scikit-learn."""
    y, p = check_scores(labels, scores, probabilities=True)
    return float(sk.log_loss(y, p, labels=[0, 1]))


def brier(labels: ArrayLike, scores: ArrayLike) -> float:
    """Mean squared difference between P(fake) and the label."""
    y, p = check_scores(labels, scores, probabilities=True)
    return float(np.mean((p - y) ** 2))


def reliability(
    labels: ArrayLike, scores: ArrayLike, bins: int = ECE_BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`(mean P(fake), share of fakes, count)` for `bins` equal-width bins over [0, 1]; NaN in empty bins.

    Bin k holds k/bins <= P < (k+1)/bins; P = 1 belongs to the last.
    """
    y, p = check_scores(labels, scores, probabilities=True)
    index = np.minimum((p * bins).astype(np.int64), bins - 1)
    count = np.bincount(index, minlength=bins)
    filled = np.where(count > 0, count, np.nan)
    mean = np.bincount(index, weights=p, minlength=bins) / filled
    share = np.bincount(index, weights=y, minlength=bins) / filled
    return mean, share, count


def ece(labels: ArrayLike, scores: ArrayLike, bins: int = ECE_BINS) -> float:
    """Expected calibration error of P(fake): mean |mean P - share of fakes| over bins, weighted by their
    counts.

    It is biased upwards when bins hold few clips, so compare it only at equal N.
    """
    mean, share, count = reliability(labels, scores, bins)
    return float(np.nansum(np.abs(mean - share) * count) / count.sum())


def confusion(labels: ArrayLike, scores: ArrayLike, threshold: float = 0.5) -> dict[str, int]:
    """Counts at the threshold: `tn` genuine called genuine, `fp` genuine called fake, `fn` missed, `tp`
    found.
    """
    y, s = check_scores(labels, scores)
    tn, fp, fn, tp = sk.confusion_matrix(y, s >= threshold, labels=[0, 1]).ravel()
    return {"tn": int(tn), "fp": int(fp), "fn": int(fn), "tp": int(tp)}


def accuracy(labels: ArrayLike, scores: ArrayLike, threshold: float = 0.5) -> float:
    """Share of clips on the right side of the threshold."""
    c = confusion(labels, scores, threshold)
    return (c["tp"] + c["tn"]) / sum(c.values())


def precision(labels: ArrayLike, scores: ArrayLike, threshold: float = 0.5) -> float:
    """Share of true fakes among the clips called fake; NaN where none is called fake."""
    c = confusion(labels, scores, threshold)
    return _ratio(c["tp"], c["tp"] + c["fp"])


def recall(labels: ArrayLike, scores: ArrayLike, threshold: float = 0.5) -> float:
    """Share of fakes that are called fake; NaN where there is no fake."""
    c = confusion(labels, scores, threshold)
    return _ratio(c["tp"], c["tp"] + c["fn"])


def f1(labels: ArrayLike, scores: ArrayLike, threshold: float = 0.5) -> float:
    """Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN); NaN where nothing is fake."""
    c = confusion(labels, scores, threshold)
    return _ratio(2 * c["tp"], 2 * c["tp"] + c["fp"] + c["fn"])


def false_positive_rate(labels: ArrayLike, scores: ArrayLike, threshold: float = 0.5) -> float:
    """Share of genuine clips that are called fake; NaN where there is no genuine clip."""
    c = confusion(labels, scores, threshold)
    return _ratio(c["fp"], c["fp"] + c["tn"])


def tpr_at_fpr(labels: ArrayLike, scores: ArrayLike, max_fpr: float) -> float:
    """Share of fakes found by the best threshold that calls at most `max_fpr` of the genuine clips fake.

    A threshold that exists in the data: nothing is interpolated.
    """
    _check_rate("max_fpr", max_fpr)
    fpr, tpr = _roc(labels, scores)
    return float(tpr[fpr <= max_fpr].max())


def fpr_at_tpr(labels: ArrayLike, scores: ArrayLike, min_tpr: float) -> float:
    """Share of genuine clips called fake by the strictest threshold that finds `min_tpr` of the fakes or more
    (0.95: the "FPR95" of the literature); nothing is interpolated.
    """
    _check_rate("min_tpr", min_tpr)
    fpr, tpr = _roc(labels, scores)
    return float(fpr[tpr >= min_tpr].min())


def partial_auc(
    labels: ArrayLike, scores: ArrayLike, max_fpr: float = 0.1, standardised: bool = True
) -> float:
    """Area under the ROC curve left of `max_fpr`, the curve interpolated linearly there.

    Raw, it lies in [0, max_fpr]. Standardised (McClish 1989; scikit-learn's `max_fpr`) 0.5 is chance and 1 is
    perfect: (1 + (A - A_chance) / (max_fpr - A_chance)) / 2 with A_chance = max_fpr² / 2.
    """
    _check_rate("max_fpr", max_fpr)
    fpr, tpr = _roc(labels, scores)
    inside = fpr <= max_fpr
    x = np.append(fpr[inside], max_fpr)
    area = float(sk.auc(x, np.append(tpr[inside], np.interp(max_fpr, fpr, tpr))))
    chance = max_fpr**2 / 2
    return (1 + (area - chance) / (max_fpr - chance)) / 2 if standardised else area


def operating_report(
    labels: ArrayLike,
    scores: ArrayLike,
    fprs: Sequence[float] = (0.1, 0.05, 0.01, 0.001),
    tprs: Sequence[float] = (0.9, 0.95, 0.99),
) -> dict[str, dict[str, float]]:
    """`tpr_at_fpr`, both forms of `partial_auc`, and `fpr_at_tpr`, each rate -> value; ready for JSON."""
    y, s = check_scores(labels, scores, both_classes=True)
    return {
        "tpr_at_fpr": {f"{rate:g}": tpr_at_fpr(y, s, rate) for rate in fprs},
        "partial_auc": {f"{rate:g}": partial_auc(y, s, rate) for rate in fprs},
        "partial_auc_raw": {f"{rate:g}": partial_auc(y, s, rate, standardised=False) for rate in fprs},
        "fpr_at_tpr": {f"{rate:g}": fpr_at_tpr(y, s, rate) for rate in tprs},
    }


def by_method(
    metric: Callable[[np.ndarray, np.ndarray], float],
    labels: ArrayLike,
    scores: ArrayLike,
    methods: ArrayLike,
) -> dict[str, dict[str, Any]]:
    """`metric` of each kind of fake (each attack) against all genuine clips, in the order of the names.

    `methods` (N,) names the kind of each fake, missing = "unknown"; what it says of genuine clips is not
    read. Each entry is {"value", "n_fake", "n_real", "reason"}: None with the reason where the metric is
    undefined.
    """
    y, s = check_scores(labels, scores)
    names = pd.Series(np.asarray(methods).ravel(), dtype=object)
    if len(names) != len(y):
        raise DataError(f"{len(y)} clips but {len(names)} methods: give one method per clip.")
    names = names.where(names.notna(), "unknown").astype(str).to_numpy()
    genuine = y == 0
    result = {}
    for name in sorted(set(names[~genuine])):
        chosen = genuine | (names == name)
        counts = {"n_fake": int(y[chosen].sum()), "n_real": int(genuine.sum())}
        try:
            value, reason = _json(metric(y[chosen], s[chosen])), None
        except DataError as error:
            value, reason = None, str(error)
        if value is None and reason is None:
            reason = "the metric is undefined for these scores"
        result[name] = {"value": value, **counts, "reason": reason}
    return result


def _roc(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    y, s = check_scores(labels, scores, both_classes=True)
    fpr, tpr, _ = sk.roc_curve(y, s, drop_intermediate=False)
    return fpr, tpr


def _check_rate(name: str, rate: float) -> None:
    if not 0 < rate <= 1:
        raise ConfigError(f"{name} is a rate in (0, 1], found {rate}.")


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def binary_report(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: Sequence[Any] | np.ndarray | None = None,
    threshold: float = 0.5,
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, Any]:
    """All metrics of P(fake) against labels, each as {"value", "low", "high"} with a 95 % bootstrap interval.

    `groups` (N,) names the source of each clip: whole groups are drawn with replacement, because clips made
    from one recording are not independent; None draws single clips. Draws that hold one class only are
    redrawn and counted. Intervals are percentiles, except for `ece`, see `bootstrap_metrics`. With a single
    group there is no interval (None). A metric that is undefined (precision where nothing is called fake) has
    the value None. The dict is ready for JSON; besides `METRICS` it holds counts, "confusion", "threshold",
    "bootstrap", "warnings" and "reason" (None here; see `empty_report`). Raises DataError where a class is
    missing.
    """
    y, p = check_scores(labels, scores, both_classes=True, probabilities=True)
    codes = np.arange(len(y)) if groups is None else group_codes(groups, len(y))
    report = _counts(y, int(codes.max()) + 1, threshold)
    report["confusion"] = confusion(y, p, threshold)
    values = {
        "roc_auc": roc_auc(y, p), "average_precision": average_precision(y, p), "eer": eer(y, p),
        "log_loss": log_loss(y, p), "brier": brier(y, p), "ece": ece(y, p),
        "accuracy": accuracy(y, p, threshold), "precision": precision(y, p, threshold),
        "recall": recall(y, p, threshold), "f1": f1(y, p, threshold),
        "false_positive_rate": false_positive_rate(y, p, threshold),
    }  # fmt: skip
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}
    if report["n_groups"] > 1:
        lows, highs, redrawn = bootstrap_metrics(y, p, codes, values, threshold, ECE_BINS, resamples, seed)
        report["bootstrap"] = {
            "resamples": resamples, "redrawn": redrawn, "seed": seed, "level": 0.95,
            "clustered": groups is not None,
        }  # fmt: skip
    for name in METRICS:
        report[name] = {
            "value": _json(values[name]), "low": _json(lows.get(name)), "high": _json(highs.get(name))
        }  # fmt: skip
    report["warnings"] = _cautions(report)
    return report


def empty_report(labels: ArrayLike, reason: str, threshold: float = 0.5) -> dict[str, Any]:
    """The report of `binary_report` with every metric None, where they cannot be measured, and the reason
    why.
    """
    y = np.asarray(labels, dtype=np.int64).ravel()
    report = _counts(y, None, threshold)
    report.update({name: {"value": None, "low": None, "high": None} for name in METRICS})
    report["reason"] = reason
    return report


def _counts(y: np.ndarray, n_groups: int | None, threshold: float) -> dict[str, Any]:
    n_fake = int(y.sum())
    return {
        "n": len(y), "n_fake": n_fake, "n_real": len(y) - n_fake, "n_groups": n_groups,
        "threshold": threshold, "confusion": None, "bootstrap": None, "warnings": [], "reason": None,
    }  # fmt: skip


def group_codes(groups: Sequence[Any] | np.ndarray, n: int) -> np.ndarray:
    """Number the groups (n,) from 0; raises DataError where one is missing."""
    codes, _ = pd.factorize(pd.Series(list(groups), dtype=object))
    if len(codes) != n:
        raise DataError(f"{n} clips but {len(codes)} groups: give one group per clip.")
    if (codes < 0).any():
        raise DataError(
            f"{int((codes < 0).sum())} of {n} clips have no group: give each its source or its key."
        )
    return codes


def _json(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _cautions(report: dict[str, Any]) -> list[str]:
    cautions = []
    auc = report["roc_auc"]
    if report["n_groups"] == 1:
        cautions.append("all clips come from one source: no interval can be given")
    elif report["n_groups"] < FEW_GROUPS:
        cautions.append(f"only {report['n_groups']} independent sources: intervals are rough and too narrow")
    if auc["high"] is not None and auc["high"] < 0.5:
        cautions.append(f"fakes score below genuine clips (AUC {auc['value']:.3f}, the whole interval below 0.5): "
                        "see whether labels or scores are inverted")  # fmt: skip
    if auc["low"] is not None and auc["low"] == auc["high"] and auc["value"] in (0.0, 1.0):
        cautions.append("the classes are separated in every resample: the interval of the AUC has no width, "
                        "which does not mean that it is certain")  # fmt: skip
    return cautions
