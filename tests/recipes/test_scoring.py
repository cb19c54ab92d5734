"""From logits to the scores that calibration and thresholds are fitted on."""

import numpy as np
import pytest

from avdetect.evaluation import Calibration
from avdetect.fusion import FusionHead
from avdetect.inference.bundle import Bundle
from avdetect.media import ClipSettings
from avdetect.recipes.scoring import fused_pairs, known, verdict_scores

NAN = np.nan


def logits(**values):
    return {name: np.array(row, dtype=float) for name, row in values.items()}


def test_the_fused_calibration_is_fitted_where_several_modalities_were_judged():
    found = logits(fused=[1, 2, 3, 4], visual=[1, 1, 1, NAN], audio=[1, NAN, 1, 1], lipsync=[NAN] * 4)
    truth, values = fused_pairs(np.array([0.0, 1.0, 1.0, 0.0]), found)
    assert truth.tolist() == [0, 1] and values.tolist() == [1, 3]


def test_and_on_all_clips_where_those_are_of_one_class():
    found = logits(fused=[1, 2, 3], visual=[1, 1, 1], audio=[NAN, NAN, 1], lipsync=[NAN] * 3)
    truth, values = fused_pairs(np.array([0.0, 1.0, 1.0]), found)
    assert truth.tolist() == [0, 1, 1] and values.tolist() == [1, 2, 3]


def test_pairs_of_which_one_is_not_known_are_left_out():
    truth, values = known(np.array([0.0, NAN, 1.0, 1.0]), np.array([5.0, 6.0, NAN, 8.0]))
    assert truth.tolist() == [0, 1] and truth.dtype.kind == "i" and values.tolist() == [5.0, 8.0]


def test_scores_are_those_of_verdicts():
    """A clip with one modality has that one's P(fake), one with none has no score."""
    calibration = {
        "fused": Calibration("platt", 1.0, 0.0),
        "visual": Calibration("platt", 1.0, 2.0),
        "audio": Calibration("platt", 1.0, -2.0),
    }
    head = FusionHead({"visual": (2, 4), "audio": (2, 4)})
    bundle = Bundle({}, head, ClipSettings(), calibration, {})
    found = logits(fused=[0, 0, 0, NAN], visual=[0, 0, NAN, NAN], audio=[0, NAN, 0, NAN], lipsync=[NAN] * 4)
    scores = verdict_scores(bundle, found)
    assert scores[:3] == pytest.approx([0.5, 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))])
    assert np.isnan(scores[3])
