"""From evidence to calibrated scores; training, test and prediction all come through here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from avdetect.evidence import MODALITIES, Evidence
from avdetect.fusion import FusionHead, stack_features

if TYPE_CHECKING:
    from avdetect.inference.bundle import Bundle


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


def calibrated(bundle: Bundle, name: str, logit: float) -> float:
    """P(fake) in [0, 1] of a finite fused or encoder's logit."""
    score = float(bundle.calibration[name](logit))
    if not math.isfinite(score):
        raise ArithmeticError(f"the {name} score of a logit of {logit} is {score}")
    return score
