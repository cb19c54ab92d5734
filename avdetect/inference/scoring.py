"""From evidence to calibrated scores; training, test and prediction all come through here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from avdetect.evidence import MODALITIES, Evidence
from avdetect.fusion import FusionHead, stack_features
from avdetect.inference.novelty import Screened
from avdetect.inference.verdict import label_of

if TYPE_CHECKING:
    from avdetect.inference.bundle import Bundle


def screened(bundle: Bundle, evidence: Evidence) -> Screened:
    """What of the evidence this detector can judge, and why not the rest; all of it where it knows no limits."""
    return Screened(evidence) if bundle.novelty is None else bundle.novelty.screen(evidence)


@torch.inference_mode()
def fused_logits(head: FusionHead, clips: list[Evidence]) -> dict[str, np.ndarray]:
    """Logits (N,) by name: "fused" and one per modality (the encoder's own); NaN where nothing could be judged."""
    features = [clip.features() for clip in clips]
    batch = stack_features(features, head.modalities, head.dims)
    fused = head(batch)[0].double().numpy()
    fused[~batch["mask"].any(1).numpy()] = np.nan
    logits = {"fused": fused}
    for name in MODALITIES:
        logits[name] = np.array([np.nan if row[name] is None else float(row[name][0][0]) for row in features])
    return logits


def calibrated_scores(bundle: Bundle, logits: dict[str, float]) -> dict[str, float | None]:
    """P(fake) by name from the logits of one clip as `fused_logits` gives them; None where nothing was judged.

    The fused calibration was fitted on clips of which mostly everything can be judged. Where one modality alone
    can (a picture, a recording, a silent video), the fused score is that modality's own.
    """
    scores = {
        name: calibrated(bundle, name, float(logit)) if math.isfinite(logit) else None
        for name, logit in logits.items()
    }
    judged = [name for name in MODALITIES if scores[name] is not None]
    if len(judged) == 1:
        scores["fused"] = scores[judged[0]]
    return scores


def verdict_label(bundle: Bundle, found: Screened, scores: dict[str, float | None]) -> str:
    """The label of a clip; "uncertain" where it is sure only through a modality whose judgement is doubted."""
    limits = bundle.thresholds["fused"]
    label = label_of(scores["fused"], **limits)
    if not found.doubts or label not in ("real", "fake"):
        return label
    logits = fused_logits(bundle.fusion, [found.without_doubts()])
    sure = calibrated_scores(bundle, {name: float(values[0]) for name, values in logits.items()})
    return label if label_of(sure["fused"], **limits) == label else "uncertain"


def calibrated(bundle: Bundle, name: str, logit: float) -> float:
    """P(fake) in [0, 1] of a finite fused or encoder's logit."""
    score = float(bundle.calibration[name](logit))
    if not math.isfinite(score):
        raise ArithmeticError(f"the {name} score of a logit of {logit} is {score}")
    return score
