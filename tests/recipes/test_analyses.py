"""What recipes add to the common metrics."""

import gzip
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from avdetect.encoders import create_encoder
from avdetect.errors import ConfigError
from avdetect.evaluation import Calibration
from avdetect.evidence import Evidence, SyncEvidence, TrackEvidence, VoiceEvidence
from avdetect.explain import gradcam_maps
from avdetect.recipes.analyses import asvspoof, fairness, run_analyses
from avdetect.recipes.periods import STEP_S, fake_segments, step_scores

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
GOLDEN = SHARED / "golden"


def context(folder, **config):
    """As much of a run as an analysis reads."""
    table = pd.DataFrame({"root": [str(folder)]})
    return SimpleNamespace(
        config={"data": {}, "seed": 0, **config},
        run=SimpleNamespace(path=folder, finish=lambda *_: None),
        manifest=SimpleNamespace(table=table),
        say=lambda line: None,
    )


# -- ASVspoof -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden scores are not here")
def test_real_scores_give_the_published_figures(tmp_path):
    with gzip.open(GOLDEN / "rawgat_st_mul_scores.txt.gz", "rt") as lines:
        rows = [line.split() for line in lines]
    table = pd.DataFrame(rows, columns=["utterance", "method", "key_", "bona"])
    table["label"] = (table["key_"] == "spoof").astype(int)
    table["score_logit"], table["key"] = -table["bona"].astype(float), table["utterance"]
    scores = GOLDEN / "ASVspoof2019.LA.asv.eval.gi.trl.scores.txt.gz"
    found = asvspoof(context(tmp_path, data={"asv_scores": str(scores)}), table)
    assert found["pooled"]["eer"] == pytest.approx(0.01060135, abs=1e-6)
    assert found["pooled"]["min_tdcf"] == pytest.approx(0.033539, abs=1e-6)
    assert found["asv_eer"] == pytest.approx(0.02457784, abs=1e-6)
    assert len(found["attacks"]) == 13
    assert found["attacks"]["A18"]["eer"] == pytest.approx(0.030898, abs=1e-6)
    assert found["attacks"]["A09"]["eer"] == pytest.approx(0.000815, abs=1e-6)
    assert all(0 < attack["min_tdcf"] < 1 for attack in found["attacks"].values())
    first = (tmp_path / "asvspoof_scores.txt").read_text().splitlines()[0].split()
    assert float(first[-1]) == float(rows[0][-1])  # higher = bona fide again


def test_without_asv_scores_there_is_no_t_dcf(tmp_path):
    table = pd.DataFrame(
        {"key": list("abcd"), "label": [0, 1, 0, 1], "method": [None, "A01", None, "A02"],
         "score_logit": [-1.0, 1.0, 0.5, np.nan]}
    )  # fmt: skip
    found = asvspoof(context(tmp_path), table)
    assert found["pooled"] == {"n_fake": 1, "eer": 0.0, "min_tdcf": None} and found["unscored"] == 1
    assert "give data.asv_scores=FILE" in found["note"] and list(found["attacks"]) == ["A01"]


# -- fairness, names ------------------------------------------------------------------------------------------


def test_groups_are_reported_and_written(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"label": [0, 1] * 100, "gender": ["0"] * 100 + ["1"] * 100, "source": None})
    table["key"] = [f"c{i}" for i in range(200)]
    wrong = (table["gender"] == "1") & (rng.random(200) < 0.4)
    table["score"] = np.where(wrong, 1 - table["label"], table["label"]) * 0.8 + 0.1
    found = fairness(context(tmp_path, groups=[["gender"]]), table)["gender"]
    accuracy = [1 - wrong[table["gender"] == g].mean() for g in ("0", "1")]
    assert found["aiface"]["F_OAE"] == pytest.approx(100 * (accuracy[0] - accuracy[1]))
    assert list(pd.read_csv(tmp_path / "fairness_gender.csv")["n"]) == [100, 100]


def test_wrong_names_end_with_a_sentence(tmp_path):
    table = pd.DataFrame({"key": ["a"], "label": [0], "score": [0.5], "source": ["s"]})
    with pytest.raises(ConfigError, match="groups names race, which the test clips do not tell"):
        fairness(context(tmp_path, groups=[["race"]]), table)
    table.to_parquet(tmp_path / "scores.parquet")
    with pytest.raises(ConfigError, match="unknown analysis 'fairnes': choose of asvspoof, "):
        run_analyses(context(tmp_path, analyses=["fairnes"]))
    assert not (tmp_path / "fairnes.json").exists()


# -- fake periods ---------------------------------------------------------------------------------------------

PLAIN = SimpleNamespace(calibration=dict.fromkeys(("visual", "audio", "lipsync"), Calibration("identity")))
NOTHING = np.zeros(2)


def face(times, logits):
    return TrackEvidence(0, np.array(times, float), np.array(logits, float), NOTHING)


def test_a_fake_second_of_the_face_is_found():
    times = np.arange(0, 4, 0.1)
    logits = np.where((times >= 1) & (times < 2), 4.0, -4.0)
    evidence = Evidence([face(times, logits)], None, None)
    best = fake_segments(evidence, PLAIN)[0]
    assert best[0] == pytest.approx(1.0, abs=0.06) and best[1] == pytest.approx(2.0, abs=0.06)


def test_face_and_voice_are_joined_by_the_noisy_or():
    voice = VoiceEvidence(np.array([0.0]), 0.4, np.array([1.0]), NOTHING)
    scores = step_scores(Evidence([face([0.0, 0.2], [0.0, 0.0])], voice, None), PLAIN)
    both = 1 - 0.5 * (1 - 1 / (1 + np.exp(-1)))
    assert scores[: round(0.4 / STEP_S)] == pytest.approx(both)


def test_unjudged_times_stay_without_a_score():
    silent = SyncEvidence(
        0, 0.0, 0, 0.0, 0.0, np.zeros(3), np.array([0.0, 1.0]), np.array([np.nan, 2.0]), NOTHING
    )
    scores = step_scores(Evidence([], None, silent), PLAIN)
    assert np.isnan(scores[:25]).all() and np.isfinite(scores[25:50]).all()
    assert fake_segments(Evidence([], None, None), PLAIN) is None
    gap = step_scores(Evidence([face([0.0, 0.1, 0.2, 2.0], [1.0] * 4)], None, None), PLAIN)
    assert np.isnan(gap[round(1 / STEP_S)]) and np.isfinite(gap[0])


# -- Grad-CAM -------------------------------------------------------------------------------------------------


class _Corner(nn.Module):
    """The logit is the mean of a convolution that keeps the first channel."""

    name = "corner"

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[0, 0], self.conv.weight[1, 1] = 1.0, -1.0

    def forward(self, x):
        return self.conv(x).mean((2, 3)).sum(1)


def test_a_map_is_bright_where_the_logit_comes_from():
    x = torch.zeros(2, 3, 8, 8)
    x[0, 0, :4, :4] = 1.0  # raises the logit
    x[1, 0, 4:, 4:] = 1.0
    x[1, 1, :4, :4] = 1.0  # lowers it
    maps = gradcam_maps(_Corner(), x)
    assert maps.shape == (2, 8, 8) and maps.max() == 1.0
    assert maps[0, 1, 1] == 1.0 and maps[0, 6, 6] == 0.0
    assert maps[1, 6, 6] == 1.0 and maps[1, 1, 1] == 0.0


@pytest.mark.parametrize("name", ["ucf_tiny", "xception_tiny", "meso4", "efficientnet_autoatt_tiny"])
def test_networks_have_maps(name):
    torch.manual_seed(0)
    encoder = create_encoder(name).eval()
    (x,) = encoder.example_inputs(2)
    maps = gradcam_maps(encoder, x)
    assert maps.shape == (2, *x.shape[-2:]) and torch.isfinite(maps).all() and maps.min() >= 0
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_a_network_without_convolutions_is_refused():
    class Dense(nn.Module):
        name = "dense"

        def forward(self, x):
            return x.mean((1, 2, 3))

    with pytest.raises(ConfigError, match="dense has no convolution to draw Grad-CAM of"):
        gradcam_maps(Dense(), torch.zeros(1, 3, 8, 8))


def test_written_results_are_strict_json(tmp_path):
    table = pd.DataFrame(
        {"key": list("ab"), "label": [0, 1], "method": [None, "A01"], "score_logit": [-1.0, 1.0]}
    )
    table.to_parquet(tmp_path / "scores.parquet")
    run_analyses(context(tmp_path, analyses=["asvspoof"]))
    assert json.loads((tmp_path / "asvspoof.json").read_text())["pooled"]["eer"] == 0.0
