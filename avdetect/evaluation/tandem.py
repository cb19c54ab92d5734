"""Tandem detection cost (t-DCF) of a spoofing countermeasure in front of speaker verification.

Both published forms are `C0 + C1 * P(bona fide rejected) + C2 * P(spoof passed)`, divided by the cost of the
better countermeasure that decides nothing, `C0 + min(C1, C2)`:

- 2019 "legacy" (C0 = 0): Kinnunen et al., "t-DCF: a detection cost function for the tandem assessment of
  spoofing countermeasures and automatic speaker verification", Odyssey 2018, with the priors and costs of the
  ASVspoof 2019 evaluation plan.
- 2021: Kinnunen et al., "Tandem assessment of spoofing countermeasures and automatic speaker verification:
  fundamentals", IEEE/ACM TASLP 28, 2020, equations 10 and 11, with the values of the ASVspoof 2021 plan.

Countermeasure labels and scores are those of this package (1 and high = spoof: negate published scores, which
rise with bona fide speech); verification scores are high for the same speaker.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from avdetect.errors import DataError
from avdetect.evaluation.metrics import by_method, check_scores, closest_rates, error_rates


@dataclass(frozen=True)
class CostModel:
    """2019: priors of spoof, target and non-target trials, and costs of misses and false acceptances."""

    p_spoof: float = 0.05
    p_target: float = 0.9405
    p_nontarget: float = 0.0095
    miss_asv: float = 1.0
    false_accept_asv: float = 10.0
    miss_cm: float = 1.0
    false_accept_cm: float = 10.0


@dataclass(frozen=True)
class CostModel2021:
    """2021: the same priors; costs of the tandem as a whole, whichever of its two parts errs."""

    p_spoof: float = 0.05
    p_target: float = 0.9405
    p_nontarget: float = 0.0095
    miss: float = 1.0
    false_accept: float = 10.0
    false_accept_spoof: float = 10.0


class TandemWeights(NamedTuple):
    """C0, C1 and C2, not normalised, as also published by the organisers for the 2021 data."""

    c0: float
    c1: float
    c2: float

    @property
    def default(self) -> float:
        """Cost of the better of letting everything pass and of stopping everything."""
        return self.c0 + min(self.c1, self.c2)

    @property
    def bayes_threshold(self) -> float:
        """Threshold of least expected cost for scores that are log(p(x | spoof) / p(x | bona fide))."""
        return math.log(self.c1 / self.c2) if self.c1 and self.c2 else math.inf if self.c1 else -math.inf


def asv_operating_point(target: ArrayLike, nontarget: ArrayLike) -> tuple[float, float]:
    """`(EER, threshold)` of the speaker verification from its target and non-target scores.

    As the organisers do, the threshold is the highest score that is still rejected at the EER point.
    """
    target, nontarget = (np.asarray(part, dtype=np.float64).ravel() for part in (target, nontarget))
    scores = np.concatenate([target, nontarget])
    labels = np.concatenate([np.ones(len(target), int), np.zeros(len(nontarget), int)])
    fpr, fnr, thresholds = error_rates(labels, scores)
    # From the lowest threshold upwards, as the organisers walk: it decides between equally good points.
    at = len(fpr) - 1 - closest_rates(labels, fpr[::-1], fnr[::-1])
    rejected = thresholds[at + 1] if at + 1 < len(thresholds) else scores.min() - 1e-3
    return float((fpr[at] + fnr[at]) / 2), float(rejected)


def tandem_weights_2019(
    asv_target: ArrayLike, asv_nontarget: ArrayLike, asv_spoof: ArrayLike, costs: CostModel | None = None
) -> TandemWeights:
    """C1 and C2 of the legacy form, C0 = 0, from scores of the verification at its EER threshold."""
    costs = costs or CostModel()
    miss, false_accept, spoof_accept = _asv_rates(asv_target, asv_nontarget, asv_spoof)
    c1 = (
        costs.p_target * (costs.miss_cm - costs.miss_asv * miss)
        - costs.p_nontarget * costs.false_accept_asv * false_accept
    )
    return _checked(TandemWeights(0.0, c1, costs.false_accept_cm * costs.p_spoof * spoof_accept))


def tandem_weights_2021(
    asv_target: ArrayLike, asv_nontarget: ArrayLike, asv_spoof: ArrayLike, costs: CostModel2021 | None = None
) -> TandemWeights:
    """C0 (cost of the verification alone), C1 and C2 of the 2021 form, verification at its EER threshold."""
    costs = costs or CostModel2021()
    miss, false_accept, spoof_accept = _asv_rates(asv_target, asv_nontarget, asv_spoof)
    c0 = costs.p_target * costs.miss * miss + costs.p_nontarget * costs.false_accept * false_accept
    c1 = costs.p_target * costs.miss - c0
    return _checked(TandemWeights(c0, c1, costs.p_spoof * costs.false_accept_spoof * spoof_accept))


def min_tdcf(labels: ArrayLike, scores: ArrayLike, weights: TandemWeights) -> float:
    """Normalised t-DCF at the best threshold for these very trials.

    1 is a countermeasure that decides nothing; a perfect one has C0 / (C0 + min(C1, C2)), 0 in the 2019 form.
    """
    fpr, fnr, _ = error_rates(labels, scores)  # fpr: bona fide rejected; fnr: spoof let through
    c0, c1, c2 = _checked(weights)
    return float(np.min(c0 + c1 * fpr + c2 * fnr) / weights.default)


def act_tdcf(labels: ArrayLike, scores: ArrayLike, threshold: float, weights: TandemWeights) -> float:
    """Normalised t-DCF at a threshold fixed beforehand (spoof: score >= threshold); it may exceed 1.

    The threshold belongs to development data, or is `weights.bayes_threshold` for calibrated scores.
    """
    y, s = check_scores(labels, scores, both_classes=True)
    if math.isnan(threshold):
        raise DataError("The threshold of an actual t-DCF is not a number: choose one on development data.")
    c0, c1, c2 = _checked(weights)
    rejected, passed = np.mean(s[y == 0] >= threshold), np.mean(s[y == 1] < threshold)
    return float((c0 + c1 * rejected + c2 * passed) / weights.default)


def min_tdcf_2019(
    labels: ArrayLike,
    scores: ArrayLike,
    asv_target: ArrayLike,
    asv_nontarget: ArrayLike,
    asv_spoof: ArrayLike,
    costs: CostModel | None = None,
) -> float:
    """`min_tdcf` with `tandem_weights_2019`; 1 decides nothing, 0 is perfect."""
    return min_tdcf(labels, scores, tandem_weights_2019(asv_target, asv_nontarget, asv_spoof, costs))


def min_tdcf_2021(
    labels: ArrayLike,
    scores: ArrayLike,
    asv_target: ArrayLike,
    asv_nontarget: ArrayLike,
    asv_spoof: ArrayLike,
    costs: CostModel2021 | None = None,
) -> float:
    """`min_tdcf` with `tandem_weights_2021`; 1 decides nothing, a perfect one keeps the verification's
    cost."""
    return min_tdcf(labels, scores, tandem_weights_2021(asv_target, asv_nontarget, asv_spoof, costs))


def min_tdcf_by_attack(
    labels: ArrayLike,
    scores: ArrayLike,
    attacks: ArrayLike,
    asv_target: ArrayLike,
    asv_nontarget: ArrayLike,
    asv_spoof: ArrayLike,
    asv_attacks: ArrayLike,
    weights: Callable[..., TandemWeights] = tandem_weights_2021,
) -> dict[str, dict[str, Any]]:
    """Min t-DCF of each attack against all bona fide trials, entries as in `metrics.by_method`.

    `attacks` (N,) names the attack of each countermeasure trial, `asv_attacks` that of each `asv_spoof`
    score. As in the organisers' evaluation package of 2021, the verification's acceptance of spoofs (C2) is
    that of the same attack, so values of different attacks have different denominators.
    """
    spoof = np.asarray(asv_spoof, dtype=np.float64).ravel()
    owners = pd.Series(np.asarray(asv_attacks).ravel(), dtype=object).astype(str).to_numpy()
    if len(owners) != len(spoof):
        raise DataError(f"{len(spoof)} verification scores but {len(owners)} attacks: give one per score.")
    result = {}
    names = pd.Series(np.asarray(attacks).ravel(), dtype=object)
    names = names.where(names.notna(), "unknown").astype(str).to_numpy()
    y, s = check_scores(labels, scores)
    if len(names) != len(y):
        raise DataError(f"{len(y)} trials but {len(names)} attacks: give one attack per trial.")
    for attack in sorted(set(names[y == 1])):
        chosen = (y == 0) | (names == attack)

        def cost(y: np.ndarray, s: np.ndarray, own: np.ndarray = spoof[owners == attack]) -> float:
            return min_tdcf(y, s, weights(asv_target, asv_nontarget, own))

        result |= by_method(cost, y[chosen], s[chosen], names[chosen])
    return result


def _asv_rates(target: ArrayLike, nontarget: ArrayLike, spoof: ArrayLike) -> tuple[float, float, float]:
    """`(miss, false acceptance, spoof acceptance)` at the verification's EER threshold."""
    target, nontarget, spoof = (
        np.asarray(part, dtype=np.float64).ravel() for part in (target, nontarget, spoof)
    )
    if not len(spoof) or not np.isfinite(spoof).all():
        raise DataError("The t-DCF needs finite speaker-verification scores of spoofed trials.")
    _, threshold = asv_operating_point(target, nontarget)
    return (
        float(np.mean(target < threshold)),
        float(np.mean(nontarget >= threshold)),
        float(np.mean(spoof >= threshold)),
    )


def _checked(weights: TandemWeights) -> TandemWeights:
    if not (all(weight >= 0 for weight in weights) and math.isfinite(sum(weights)) and weights.default > 0):
        c0, c1, c2 = weights
        raise DataError(
            f"The t-DCF is not defined for these verification scores (C0 = {c0:.4g}, C1 = {c1:.4g}, C2 = "
            f"{c2:.4g} must not be negative, C0 + min(C1, C2) not 0): check that high scores mean the same "
            "speaker."
        )
    return weights
