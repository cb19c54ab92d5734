"""Choosing when to answer: thresholds for several false-positive rates, and risk against coverage.

Thresholds come from validation clips, by the rule of `calibration.choose_thresholds`; what they then do is
measured on other clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from avdetect.errors import ConfigError, DataError
from avdetect.evaluation.metrics import check_scores


def threshold_table(
    labels: ArrayLike, scores: ArrayLike, max_fprs: Sequence[float] = (0.1, 0.05, 0.01, 0.001)
) -> list[dict[str, Any]]:
    """A threshold per stated false-positive rate, from validation clips of both classes.

    Each row: "max_fpr", "threshold" (fake = score strictly above it), "fpr" and "tpr" on these clips,
    "reason". The threshold is the lowest genuine score that leaves k of N0 genuine clips above it with
    (k + 1) / (N0 + 1) <= max_fpr, so that a new genuine clip of the same kind is called fake with at most
    that probability (the conformal bound). Where N0 + 1 < 1 / max_fpr no threshold can promise the rate: it
    is None and the reason says how many genuine clips are needed.
    """
    y, s = check_scores(labels, scores, both_classes=True)
    genuine = np.sort(s[y == 0])[::-1]
    rows = []
    for rate in max_fprs:
        if not 0 < rate < 1:
            raise ConfigError(f"A false-positive rate lies in (0, 1), found {rate}.")
        allowed = int(np.floor(rate * (len(genuine) + 1) + 1e-9)) - 1
        row: dict[str, Any] = {
            "max_fpr": float(rate),
            "threshold": None,
            "fpr": None,
            "tpr": None,
            "reason": None,
        }
        if allowed < 0:
            needed = int(np.ceil(1 / rate - 1 - 1e-9))
            row["reason"] = (
                f"{len(genuine)} genuine clips are too few to promise this rate: {needed} are needed"
            )
        else:
            row["threshold"] = float(genuine[allowed])
            row["fpr"], row["tpr"] = (float(np.mean(s[y == k] > genuine[allowed])) for k in (0, 1))
        rows.append(row)
    return rows


def apply_thresholds(
    table: Sequence[dict[str, Any]], labels: ArrayLike, scores: ArrayLike
) -> list[dict[str, Any]]:
    """The rates "fpr" and "tpr" that the thresholds of `threshold_table` reach on other clips.

    None, with the reason, where a class is absent or the table has no threshold.
    """
    y, s = check_scores(labels, scores)
    rows = []
    for row in table:
        found: dict[str, Any] = {**row, "fpr": None, "tpr": None}
        if row["threshold"] is not None:
            for name, k, kind in (("fpr", 0, "genuine"), ("tpr", 1, "fake")):
                if (y == k).any():
                    found[name] = float(np.mean(s[y == k] > row["threshold"]))
                else:
                    found["reason"] = f"there is no {kind} clip"
        rows.append(found)
    return rows


def risk_coverage(
    labels: ArrayLike, scores: ArrayLike, threshold: float = 0.5, confidence: ArrayLike | None = None
) -> dict[str, Any]:
    """Share of wrong verdicts among the clips that are answered, from the surest on.

    A verdict is fake where score >= `threshold`; `confidence` (N,) is its distance from the threshold unless
    given. "coverage" and "risk" (M,): the curve, one point per distinct confidence. "aurc": mean of the risk
    over the N coverages 1/N … 1 (Geifman & El-Yaniv 2017), clips of equal confidence in random order, whose
    expected value is taken. "excess_aurc": what lies above the best possible order of the same verdicts
    (Geifman et al. 2019). "risk_at_full": the error rate without any selection.
    """
    y, s = check_scores(labels, scores)
    if not np.isfinite(threshold):
        raise ConfigError(f"A threshold is a finite number, found {threshold}.")
    trust = np.abs(s - threshold) if confidence is None else np.asarray(confidence, dtype=np.float64).ravel()
    if len(trust) != len(y) or not np.isfinite(trust).all():
        raise DataError(f"{len(y)} clips need one finite confidence each, found {np.isfinite(trust).sum()}.")
    n = len(y)
    order = np.argsort(-trust, kind="stable")
    wrong = ((s >= threshold) != (y == 1))[order].astype(np.float64)
    last = np.flatnonzero(np.append(np.diff(trust[order]) != 0, True))
    errors = np.cumsum(wrong)[last]
    # Inside a tie the expected number of errors grows evenly from one end to the other.
    expected = np.interp(np.arange(1, n + 1), np.append(0, last + 1), np.append(0.0, errors))
    counts = np.arange(1, n + 1)
    aurc = float(np.mean(expected / counts))
    right = n - int(errors[-1])
    best = float(np.mean(np.maximum(counts - right, 0) / counts))
    return {
        "n": n,
        "coverage": ((last + 1) / n).tolist(),
        "risk": (errors / (last + 1)).tolist(),
        "aurc": aurc,
        "excess_aurc": aurc - best,
        "risk_at_full": float(errors[-1] / n),
    }


def risk_at_coverage(curve: dict[str, Any], coverage: float) -> float:
    """Risk of the smallest part of a `risk_coverage` curve that answers at least this share of the clips."""
    if not 0 < coverage <= 1:
        raise ConfigError(f"A coverage lies in (0, 1], found {coverage}.")
    at = np.searchsorted(np.asarray(curve["coverage"]), coverage - 1e-12)
    return float(curve["risk"][at])
