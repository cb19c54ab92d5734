import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.special import expit, logit

from avdetect.errors import DataError
from avdetect.evaluation import metrics, plots
from avdetect.evaluation.calibration import Thresholds
from avdetect.evaluation.protocols import evaluate_scores, summary_table, write_json

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


def image(path):
    with Image.open(path) as opened:
        opened.load()
        assert opened.format == "PNG"
        return opened.size, np.asarray(opened.convert("RGB"))


def test_all_plots_are_drawn_readably(table, tmp_path):
    band = Thresholds(0.2, 0.8)
    result = evaluate_scores(table, tmp_path, thresholds=band, resamples=50)
    paths = plots.plot_evaluation(table, result, tmp_path / "plots", band)
    sizes = {path.name: image(path)[0] for path in paths}
    assert sizes == {
        "roc.png": (720, 882), "precision_recall.png": (720, 882), "calibration.png": (1680, 600),
        "score_histogram.png": (1680, 432), "confusion_matrix.png": (576, 516), "verdicts.png": (768, 516),
    }  # fmt: skip
    black = (image(tmp_path / "plots" / "roc.png")[1] < 40).all(axis=2)
    assert black[:, 120:].sum() > 2000  # the fused curve is thick and black


def test_plots_leave_out_what_was_not_measured(table, tmp_path):
    table[["score", "audio"]] = np.nan
    result = evaluate_scores(table, tmp_path, resamples=50)
    names = [path.name for path in plots.plot_evaluation(table, result, tmp_path)]
    assert names == ["roc.png", "precision_recall.png", "calibration.png", "score_histogram.png"]
    assert image(tmp_path / "calibration.png")[0] == (840, 600)
    table[["visual", "lipsync"]] = np.nan
    assert plots.plot_evaluation(table, evaluate_scores(table, tmp_path, resamples=50), tmp_path) == []


def test_a_good_detector_bends_to_the_upper_left(tmp_path):
    y = np.arange(200) % 2
    p = expit(np.random.default_rng(0).normal(2.5 * y - 1.25, 1))
    pixels = image(plots.plot_roc({"fused": plots.Curve(y, p)}, tmp_path / "roc.png"))[1]
    black = (pixels < 40).all(axis=2)
    # Centre of the axes, without their frame: the curve crosses its upper left and nothing its lower right.
    upper_left, lower_right = black[100:340, 100:370], black[360:600, 400:660]
    assert upper_left.sum() > 200 and lower_right.sum() == 0


def test_legend_carries_the_interval_and_the_number_of_clips(table):
    y, p = table["label"].to_numpy(int), table["score"].to_numpy(float)
    report = metrics.binary_report(y, p, resamples=50)
    text = plots._legend("fused", plots.Curve(y, p, report), "roc_auc", "AUC", metrics.roc_auc)
    auc = report["roc_auc"]
    assert text == f"fused: AUC {auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]  n = 120"
    plain = plots._legend("fused", plots.Curve(y, p), "roc_auc", "AUC", metrics.roc_auc)
    assert plain == f"fused: AUC {auc['value']:.3f}  n = 120"


def test_plots_refuse_nothing_and_one_class(tmp_path):
    for plot in (plots.plot_roc, plots.plot_precision_recall, plots.plot_calibration):
        with pytest.raises(DataError, match="no curve"):
            plot({}, tmp_path / "x.png")
    with pytest.raises(DataError, match="All 2 clips are fake"):
        plots.plot_roc({"fused": plots.Curve([1, 1], [0.1, 0.9])}, tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_wilson_interval():
    low, high = plots._wilson(np.array([0.0, 0.5, 1.0]), np.array([10, 10, 10]))
    # with z = 1.96 and none of n the upper end is z² / (n + z²) = 3.8415 / 13.8415
    assert low == pytest.approx([0.0, 0.2366, 0.7225], abs=1e-4)
    assert high == pytest.approx([0.2775, 0.7634, 1.0], abs=1e-4)
