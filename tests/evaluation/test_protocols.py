import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from avdetect.errors import DataError
from avdetect.evaluation import metrics
from avdetect.evaluation.calibration import Thresholds
from avdetect.evaluation.protocols import (
    RANK_METRICS,
    evaluate_scores,
    measure_scores,
    summary_table,
    write_json,
)

METHODS = ("real", "face_swap", "voice", "out_of_sync")


@pytest.fixture
def table():
    rng = np.random.default_rng(5)
    n = 120
    method = np.array(METHODS)[np.arange(n) % 4]
    parts = {
        name: rng.normal(4.0 * (method == kind) - 2, 1)
        for name, kind in (("visual", "face_swap"), ("audio", "voice"), ("lipsync", "out_of_sync"))
    }
    frame = pd.DataFrame({
        "key": [f"demo/{k}.mp4" for k in range(n)],
        "label": pd.array((method != "real").astype(int), dtype="Int64"),
        "method": method,
        "source": [f"s{k // 4}" for k in range(n)],
        "score": expit(np.max(list(parts.values()), axis=0)),
        **{name: expit(value) for name, value in parts.items()},
        "visual_label": pd.array((method == "face_swap").astype(int), dtype="Int64"),
    })  # fmt: skip
    frame["audio"] = frame["audio"].astype(object)
    frame.loc[:9, "audio"] = None
    frame.loc[:3, "audio_reason"] = "no audio track"
    return frame


def test_fused_and_single_scores_per_method(table, tmp_path):
    result = evaluate_scores(table, tmp_path, resamples=100)
    fused = result["clips"]["fused"]
    assert fused["overall"] == metrics.binary_report(
        table["label"], table["score"], table["source"], resamples=100
    )
    assert set(fused["methods"]) == set(METHODS) - {"real"}
    chosen = table["method"].isin(["real", "voice"])
    voice = fused["methods"]["voice"]
    assert voice["roc_auc"]["value"] == metrics.roc_auc(table["label"][chosen], table["score"][chosen])
    assert (voice["n_fake"], voice["n_real"]) == (30, 30)
    assert result["clips"]["visual"]["methods"]["face_swap"]["roc_auc"]["value"] > 0.95
    own = result["clips"]["visual"]["own_label"]
    assert own["n_fake"] == 30 and own["n"] == 120
    assert result["clips"]["audio"]["own_label"] is None
    assert (result["n_clips"], result["n_fake"], result["n_real"], result["n_sources"]) == (120, 90, 30, 30)
    assert json.loads((tmp_path / "metrics.json").read_text()) == result
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.json"]


def test_unscored_clips_are_counted_with_their_reasons_and_left_out(table, tmp_path):
    result = evaluate_scores(table, tmp_path, resamples=50)["clips"]["audio"]
    assert result["unscored"] == {
        "n": 10, "n_fake": 7, "n_real": 3, "reasons": {"no reason recorded": 6, "no audio track": 4}
    }  # fmt: skip
    scored = table[table["audio"].notna()]
    assert result["overall"]["n"] == 110
    assert result["overall"]["roc_auc"]["value"] == metrics.roc_auc(scored["label"], scored["audio"])


def test_what_cannot_be_measured_has_a_reason(table, tmp_path):
    table.loc[table["label"] == 0, "lipsync"] = None
    table.loc[:, "audio"] = None
    result = evaluate_scores(table, tmp_path, resamples=50)["clips"]
    assert result["lipsync"]["overall"]["reason"] == "there is no scored genuine clip"
    assert result["lipsync"]["overall"]["roc_auc"] == {"value": None, "low": None, "high": None}
    assert result["audio"]["overall"]["reason"] == "there is no scored clip"
    assert result["audio"]["overall"].keys() == result["fused"]["overall"].keys()


def test_clips_without_label_or_source_are_told(table, tmp_path):
    table.loc[:1, "label"] = pd.NA
    table.loc[5:6, "source"] = None
    result = evaluate_scores(table, tmp_path, resamples=50)
    assert result["n_unlabelled"] == 2 and result["clips"]["fused"]["overall"]["n"] == 118
    assert result["warnings"][0].startswith("2 clips have no source")
    assert result["clips"]["fused"]["overall"]["n_groups"] == 32


def test_frames_are_measured_against_the_truth_of_their_modality(table, tmp_path):
    rng = np.random.default_rng(0)
    clip_logits = logit(table["visual"].to_numpy(float))
    frames = pd.DataFrame({
        "key": np.repeat(table["key"].to_numpy(), 5),
        "modality": "visual",
        "logit": np.repeat(clip_logits, 5) + rng.normal(size=600),
    })  # fmt: skip
    frames.loc[:2, "logit"] = np.nan
    frames = frames.sample(frac=1, random_state=0)
    frames.index = [0] * 600  # as after joining the tables of many clips
    found = evaluate_scores(table, tmp_path, frames, resamples=50)["frames"]["visual"]
    assert found["label"] == "visual_label" and found["n_unscored"] == 3
    scored = frames.dropna().merge(table[["key", "visual_label"]], on="key")
    assert found["frame"]["n"] == 597 and found["frame"]["n_groups"] == 30
    assert found["frame"]["roc_auc"]["value"] == pytest.approx(
        metrics.roc_auc(scored["visual_label"], scored["logit"]), abs=1e-12
    )
    means = scored.groupby("key").agg({"logit": "mean", "visual_label": "first"})
    assert found["clip_mean_logit"]["n"] == 120
    assert found["clip_mean_logit"]["roc_auc"]["value"] == metrics.roc_auc(
        means["visual_label"], means["logit"]
    )


def test_frames_fall_back_to_the_clip_label_and_must_be_known(table, tmp_path):
    frames = pd.DataFrame(
        {"key": table["key"], "modality": "audio", "logit": 0.5 - table["label"].astype(float)}
    )
    found = evaluate_scores(table, tmp_path, frames, resamples=50)["frames"]["audio"]
    assert found["label"] == "label" and found["frame"]["roc_auc"]["value"] == 0
    with pytest.raises(DataError, match="1 frames belong to no clip"):
        strange = pd.DataFrame({"key": ["else.mp4"], "modality": ["audio"], "logit": [0.0]})
        evaluate_scores(table, tmp_path, strange, resamples=50)
    with pytest.raises(DataError, match="lacks the columns"):
        evaluate_scores(table, tmp_path, frames[["key"]], resamples=50)


def test_the_band_is_reported(table, tmp_path):
    table.loc[0, "score"] = None
    band = evaluate_scores(table, tmp_path, thresholds=Thresholds(0.2, 0.8), resamples=50)["band"]
    assert sum(sum(row.values()) for row in band["counts"].values()) == 119
    assert evaluate_scores(table, tmp_path, resamples=50)["band"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="source"), r"lacks the columns \['source'\]"),
        (lambda t: t.iloc[:0], "empty"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "1 keys occur twice.*demo/0.mp4"),
        (lambda t: t.assign(score=t["score"] * 3), r"'score' .* must be P\(fake\) in \[0, 1\]"),
        (lambda t: t.assign(score="high"), "120 rows are not, such as 'high'"),
        (lambda t: t.assign(label=t["label"].astype(int) + 1), "'label' .* must be 0, 1 or missing"),
    ],
)
def test_bad_tables_are_refused(table, tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        evaluate_scores(change(table), tmp_path)
    assert not (tmp_path / "metrics.json").exists()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_json({"a": 1}, tmp_path / "metrics.json")
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json({"a": float("nan")}, tmp_path / "metrics.json")
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"a": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_summary_has_a_row_per_score_and_method(table, tmp_path):
    table.loc[table["method"] == "voice", "lipsync"] = None
    summary = summary_table(evaluate_scores(table, tmp_path, resamples=50))
    assert len(summary) == 16
    row = summary.set_index(["score", "fakes"]).loc[("lipsync", "voice")]
    assert row["n_fake"] == 0 and np.isnan(row["roc_auc"])
    assert summary["roc_auc"].notna().sum() == 15


def test_groups_of_a_column_are_measured_alone(table):
    table["quality"] = np.array(["c23", "c40", None], object)[np.arange(120) // 4 % 3]
    groups = measure_scores(table, resamples=20, by=["quality"])["groups"]["quality"]
    assert set(groups) == {"c23", "c40", "not known"}
    rows = table[table["quality"] == "c40"]
    found = groups["c40"]["fused"]
    assert found["roc_auc"]["value"] == metrics.roc_auc(rows["label"], rows["score"])
    assert (found["n_fake"], found["n_real"]) == (30, 10) and not any(
        "genuine clips" in w for w in found["warnings"]
    )
    few = measure_scores(table[:24], resamples=20, by=["quality"])["groups"]["quality"]["c40"]["fused"]
    assert any("only 2 genuine clips: too few" in text for text in few["warnings"])
    with pytest.raises(DataError, match="no column 'gendre'"):
        measure_scores(table, resamples=20, by=["gendre"])


def test_scores_that_are_no_probabilities_are_measured_by_their_order_alone(table):
    raw = table[["key", "label", "source", "method"]].assign(score=50 * logit(table["score"]) - 7)
    found = measure_scores(raw, resamples=50, calibrated=False)["clips"]["fused"]["overall"]
    same = measure_scores(table, resamples=50)["clips"]["fused"]["overall"]
    for metric in RANK_METRICS:
        assert found[metric] == same[metric], metric
    assert (
        found["log_loss"]["value"] is None and found["confusion"] is None and found["accuracy"]["low"] is None
    )
    with pytest.raises(DataError, match="P.fake. in .0, 1."):
        measure_scores(raw, resamples=50)
    with pytest.raises(DataError, match="a finite number"):
        measure_scores(raw.assign(score=np.inf), resamples=50, calibrated=False)


def test_details_of_a_score(table):
    entry = measure_scores(table, resamples=20)["clips"]["fused"]
    y, p = table["label"].to_numpy(int), table["score"].to_numpy(float)
    assert entry["operating"]["tpr_at_fpr"]["0.1"] == metrics.tpr_at_fpr(y, p, 0.1)
    assert entry["selective"]["risk_at_full"] == pytest.approx(1 - metrics.accuracy(y, p))
    assert entry["calibration"] is None  # no logits beside the scores
    alone = measure_scores(table[table["label"] == 1], resamples=20)["clips"]["fused"]
    assert alone["operating"] is None and alone["selective"] is None


def test_silence_trimmed_voices_are_a_score_of_their_own(table):
    table["audio_trimmed"] = 1 - table["audio"].astype(float)
    table["audio_label"] = pd.array((table["method"] == "voice").astype(int), dtype="Int64")
    clips = measure_scores(table, resamples=20)["clips"]
    both = [clips[name]["own_label"]["roc_auc"]["value"] for name in ("audio", "audio, trimmed")]
    assert both[0] > 0.9 and both[1] == pytest.approx(1 - both[0])
