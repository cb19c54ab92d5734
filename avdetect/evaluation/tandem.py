"""Minimum tandem detection cost (t-DCF) of a spoofing countermeasure in front of speaker verification.

ASVspoof 2019 "legacy" formulation: Kinnunen et al., "t-DCF: a detection cost function for the tandem
assessment of spoofing countermeasures and automatic speaker verification", Odyssey 2018, with the priors and
costs of the 2019 evaluation plan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from avdetect.errors import DataError
from avdetect.evaluation.metrics import closest_rates, error_rates


@dataclass(frozen=True)
class CostModel:
    """Priors of spoof, target and non-target trials, and costs of misses and false acceptances."""

    p_spoof: float = 0.05
    p_target: float = 0.9405
    p_nontarget: float = 0.0095
    miss_asv: float = 1.0
    false_accept_asv: float = 10.0
    miss_cm: float = 1.0
    false_accept_cm: float = 10.0


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


def min_tdcf_2019(
    labels: ArrayLike,
    scores: ArrayLike,
    asv_target: ArrayLike,
    asv_nontarget: ArrayLike,
    asv_spoof: ArrayLike,
    costs: CostModel | None = None,
) -> float:
    """Normalised minimum t-DCF; 1 is a countermeasure that decides nothing, 0 is perfect.

    `labels`, `scores` (N,) belong to the countermeasure (1 and high = spoof: negate published scores, which
    rise with bona fide speech); the three `asv_*` arrays are verification scores, high = same speaker.
    """
    costs = costs or CostModel()
    fpr, fnr, _ = error_rates(labels, scores)  # fpr: bona fide rejected; fnr: spoof let through
    asv_target, asv_nontarget, asv_spoof = (
        np.asarray(part, dtype=np.float64).ravel() for part in (asv_target, asv_nontarget, asv_spoof)
    )
    if not len(asv_spoof) or not np.isfinite(asv_spoof).all():
        raise DataError("The t-DCF needs finite speaker-verification scores of spoofed trials.")
    _, threshold = asv_operating_point(asv_target, asv_nontarget)
    miss_asv = float(np.mean(asv_target < threshold))
    false_accept_asv = float(np.mean(asv_nontarget >= threshold))
    spoof_passes_asv = float(np.mean(asv_spoof >= threshold))
    c1 = (
        costs.p_target * (costs.miss_cm - costs.miss_asv * miss_asv)
        - costs.p_nontarget * costs.false_accept_asv * false_accept_asv
    )
    c2 = costs.false_accept_cm * costs.p_spoof * spoof_passes_asv
    if c1 <= 0 or c2 <= 0:
        raise DataError(
            f"The t-DCF is not defined for these verification scores (C1 = {c1:.4g}, C2 = {c2:.4g} must be "
            "positive): check that high scores mean the same speaker."
        )
    return float(np.min(c1 * fpr + c2 * fnr) / min(c1, c2))
