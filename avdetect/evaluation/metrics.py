"""Detection metrics as pure functions of arrays.

Everywhere: `labels` (N,) of 0 = genuine and 1 = fake, `scores` (N,) where higher means fake; functions that
need probabilities say P(fake). Rates are fractions in [0, 1]. Bad input raises `DataError` and nothing is
imputed. A clip is called fake where score >= threshold. The field's usual definitions come from scikit-learn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn import metrics as sk

from avdetect.errors import DataError
from avdetect.evaluation.bootstrap import bootstrap_metrics

METRICS = (
    "roc_auc", "average_precision", "eer", "log_loss", "brier", "ece",
    "accuracy", "precision", "recall", "f1", "false_positive_rate",
)  # fmt: skip
ECE_BINS = 15
FEW_GROUPS = 20


def check_scores(
    labels: ArrayLike, scores: ArrayLike, *, both_classes: bool = False, probabilities: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as (N,) int64 and scores as (N,) float64, or raise DataError saying what is wrong."""
    y = pd.Series(np.asarray(labels).ravel()).astype(object)
    s = pd.to_numeric(pd.Series(np.asarray(scores).ravel()), errors="coerce").astype("Float64")
    s = s.to_numpy(dtype=np.float64, na_value=np.nan)
    if len(y) != len(s):
        raise DataError(f"{len(y)} labels but {len(s)} scores: give one score per label.")
    if len(y) == 0:
        raise DataError("There is nothing to measure: labels and scores are empty.")
    if not y.isin([0, 1]).all():
        strange = y[~y.isin([0, 1])].iloc[0]
        raise DataError(f"Labels must be 0 (genuine) or 1 (fake), found {strange!r}: map or drop such rows.")
    y = y.astype(np.int64).to_numpy()
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


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def aggregate_mean_logit(keys: ArrayLike, logits: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Frame level to clip level by the mean of logits ("mean_logit").

    `keys` (F,) names the clip of each frame, `logits` (F,) are finite; returns the clips in order of first
    appearance (C,) and their mean logits (C,).
    """
    codes, clips = pd.factorize(np.asarray(keys).ravel())
    values = np.asarray(logits, dtype=np.float64).ravel()
    if len(codes) != len(values):
        raise DataError(f"{len(codes)} frame keys but {len(values)} logits: give one logit per frame.")
    if (codes < 0).any() or not np.isfinite(values).all():
        raise DataError("Frame keys and logits must be known and finite: drop frames without a score first.")
    return np.asarray(clips), np.bincount(codes, weights=values) / np.bincount(codes)


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
    codes = np.arange(len(y)) if groups is None else _group_codes(groups, len(y))
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


def _group_codes(groups: Sequence[Any] | np.ndarray, n: int) -> np.ndarray:
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
    if auc["low"] is not None and auc["low"] == auc["high"]:
        cautions.append("the classes are separated in every resample: the interval of the AUC has no width, "
                        "which does not mean that it is certain")  # fmt: skip
    return cautions
