import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.special import expit
from scipy.stats import norm

from avdetect.errors import DataError
from avdetect.evaluation import metrics, plots
from avdetect.evaluation.calibration import Thresholds
from avdetect.evaluation.plots import style
from avdetect.evaluation.protocols import evaluate_scores

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
        "quality": np.array(["c23", "c40"])[np.arange(n) // 4 % 2],
        "source": [f"s{k // 4}" for k in range(n)],
        "score": expit(np.max(list(parts.values()), axis=0)),
        **{name: expit(value) for name, value in parts.items()},
    })  # fmt: skip
    frame.loc[:9, "audio"] = np.nan
    return frame


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
        "det.png": (720, 882), "coverage_risk.png": (720, 882), "methods.png": (1176, 302),
    }  # fmt: skip
    black = (image(tmp_path / "plots" / "roc.png")[1] < 40).all(axis=2)
    assert black[:, 120:].sum() > 2000  # the fused curve is thick and black


def test_plots_leave_out_what_was_not_measured(table, tmp_path):
    table[["score", "audio"]] = np.nan
    result = evaluate_scores(table, tmp_path, resamples=50)
    names = [path.name for path in plots.plot_evaluation(table, result, tmp_path)]
    assert names == [
        "roc.png", "precision_recall.png", "det.png", "calibration.png", "score_histogram.png",
        "coverage_risk.png", "methods.png",
    ]  # fmt: skip
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
    text = style.legend_text("fused", plots.Curve(y, p, report), "roc_auc", "AUC", metrics.roc_auc)
    auc = report["roc_auc"]
    assert text == f"fused: AUC {auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]  n = 120"
    plain = style.legend_text("fused", plots.Curve(y, p), "roc_auc", "AUC", metrics.roc_auc)
    assert plain == f"fused: AUC {auc['value']:.3f}  n = 120"


def test_plots_refuse_nothing_and_one_class(tmp_path):
    for plot in (plots.plot_roc, plots.plot_precision_recall, plots.plot_det, plots.plot_calibration):
        with pytest.raises(DataError, match="no curve"):
            plot({}, tmp_path / "x.png")
    with pytest.raises(DataError, match="All 2 clips are fake"):
        plots.plot_roc({"fused": plots.Curve([1, 1], [0.1, 0.9])}, tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_wilson_interval():
    low, high = style.wilson(np.array([0.0, 0.5, 1.0]), np.array([10, 10, 10]))
    # with z = 1.96 and none of n the upper end is z² / (n + z²) = 3.8415 / 13.8415
    assert low == pytest.approx([0.0, 0.2366, 0.7225], abs=1e-4)
    assert high == pytest.approx([0.2775, 0.7634, 1.0], abs=1e-4)


def dark(pixels):
    return (pixels < 60).all(axis=2)


def test_det_axes_are_normal_deviates(tmp_path, monkeypatch):
    """Scores of two normal classes of one spread make a straight line there (Martin et al. 1997)."""
    drawn = {}
    monkeypatch.setattr(
        "avdetect.evaluation.plots.curves.save", lambda figure, path: drawn.setdefault("f", figure)
    )
    places = (np.arange(4000) + 0.5) / 4000
    x = np.concatenate([norm.ppf(places), norm.ppf(places) + 2])
    y = np.repeat([0, 1], 4000)
    plots.plot_det({"fused": plots.Curve(y, expit(x))}, tmp_path / "det.png")
    line = drawn["f"].axes[0].lines[1]
    fpr, fnr = line.get_data()
    inside = (np.abs(fpr) < 2) & (np.abs(fnr) < 2)
    assert inside.sum() > 1000
    assert np.abs(fpr + fnr + 2)[inside].max() < 0.01  # deviates of false alarms and misses add up to -d'
    labels = [text.get_text() for text in drawn["f"].axes[0].get_xticklabels()]
    assert "1 %" in labels and "20 %" in labels


def test_a_perfect_detector_has_a_det_curve_at_the_edge(tmp_path):
    path = plots.plot_det({"fused": plots.Curve([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])}, tmp_path / "det.png")
    assert image(path)[0] == (720, 806)


def test_recalibration_shows_both_stages(table, tmp_path, monkeypatch):
    drawn = {}
    where = "avdetect.evaluation.plots.scores.save"
    monkeypatch.setattr(where, lambda figure, path: drawn.setdefault("figure", figure))
    y = np.arange(400) % 2
    raw = np.random.default_rng(1).normal(6 * y - 3, 3)
    plots.plot_recalibration({"fused": (y, expit(5 * raw), expit(raw * 6 / 9))}, tmp_path / "x.png")
    legend = [text.get_text() for text in drawn["figure"].axes[0].get_legend().get_texts()]
    values = [float(text.rsplit(" ", 1)[1]) for text in legend]
    assert legend[0].startswith("before") and legend[1].startswith("after") and values[0] > 2 * values[1]


def test_logits_beside_the_scores_give_the_picture_before_calibration(table, tmp_path):
    table["score_logit"] = 3 * np.log(table["score"] / (1 - table["score"]))
    result = evaluate_scores(table, tmp_path, resamples=20)
    found = result["clips"]["fused"]["calibration"]
    y = table["label"].to_numpy(int)
    assert found["before"]["ece"] == metrics.ece(y, expit(table["score_logit"]))
    assert found["after"]["ece"] == metrics.ece(y, table["score"])
    assert "recalibration.png" in [path.name for path in plots.plot_evaluation(table, result, tmp_path)]


def test_groups_are_drawn_and_those_of_one_class_are_named(table, tmp_path, monkeypatch):
    table.loc[table["quality"].eq("c40"), "label"] = 1
    result = evaluate_scores(table, tmp_path, resamples=20, by=["quality"])
    figures = []
    monkeypatch.setattr(
        "avdetect.evaluation.plots.comparisons.save", lambda figure, path: figures.append(figure)
    )
    plots.plot_groups({v: r["fused"] for v, r in result["groups"]["quality"].items()}, tmp_path / "x.png")
    (left, right) = figures[0].axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["c23  (45 fake, 15 genuine)"]
    assert "not measured, one class only: c40" in figures[0].get_supxlabel()
    auc = result["groups"]["quality"]["c23"]["fused"]["roc_auc"]["value"]
    assert left.patches[0].get_width() == auc
    with pytest.raises(DataError, match="no group to plot"):
        plots.plot_groups({"c40": result["groups"]["quality"]["c40"]["fused"]}, tmp_path / "x.png")


def test_matrix_has_a_cell_per_score_and_set(table, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(
        "avdetect.evaluation.plots.comparisons.save", lambda figure, path: figures.append(figure)
    )
    report = evaluate_scores(table, tmp_path, resamples=20)["clips"]["fused"]["overall"]
    nothing = metrics.empty_report([1], "one class")
    plots.plot_matrix({"fused": {"A": report, "B": nothing}, "audio": {"B": report}}, tmp_path / "x.png")
    texts = [text.get_text() for text in figures[0].axes[0].texts]
    assert texts.count("not\nmeasured") == 2
    assert sum(text.startswith(f"{report['roc_auc']['value']:.3f}\n[") for text in texts) == 2
    assert sum(text.endswith("\nn = 120") for text in texts) == 2
    with pytest.raises(DataError, match="nothing to draw"):
        plots.plot_matrix({}, tmp_path / "x.png")


def test_principal_plane_finds_the_directions_of_most_variance():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(200, 1))
    x = np.hstack([hidden, -hidden, hidden, rng.normal(size=(200, 1))]) + 1e-3 * rng.normal(size=(200, 4))
    points, shares = plots.principal_plane(x)
    assert shares == pytest.approx([0.75, 0.25], abs=0.03)
    assert abs(np.corrcoef(points[:, 0], hidden[:, 0])[0, 1]) > 0.99


def test_embeddings_keep_groups_apart_and_are_drawn(tmp_path):
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 20)
    x = rng.normal(size=(40, 16)) + 8 * y[:, None]
    points, perplexity = plots.neighbour_map(x)
    gap = np.linalg.norm(points[y == 0].mean(0) - points[y == 1].mean(0))
    assert gap > 2 * max(points[y == k].std(0).max() for k in (0, 1)) and perplexity == 13
    np.testing.assert_array_equal(points, plots.neighbour_map(x)[0])
    methods = np.where(y == 1, np.array([f"m{k % 10}" for k in range(40)], object), None)
    size, pixels = image(plots.plot_embeddings(x, y, methods, tmp_path / "e.png"))
    assert size == (1320, 708) and (np.abs(pixels - [0x00, 0x72, 0xB2]).sum(axis=2) < 200).sum() > 400
    with pytest.raises(DataError, match="N >= 8"):
        plots.plot_embeddings(x[:5], y[:5], methods[:5], tmp_path / "e.png")


def test_spectrograms_show_low_tones_below(tmp_path):
    mel = np.full((40, 100), -80.0)
    mel[5] = 0.0  # one low tone
    sounds = {"fakes found": [plots.Sound("a", mel, 0.01, np.linspace(50, 8000, 40))], "fakes missed": []}
    size, pixels = image(plots.plot_spectrograms(sounds, tmp_path / "mel.png"))
    bright = np.argwhere(
        (pixels[:, :450] > [240, 200, 140]).all(axis=2) & (pixels[:, :450] < 254).any(axis=2)
    )
    assert len(bright) > 300 and np.median(bright[:, 0]) > size[1] / 2
    with pytest.raises(DataError, match="no sound"):
        plots.plot_spectrograms({"fakes found": []}, tmp_path / "mel.png")


def test_learning_curves_have_a_column_per_stage(tmp_path):
    rows = [
        {"stage": stage, "epoch": k, "train/loss": 1 / k, "val/loss": abs(k - 3) + 1, "val/auc": k / 5}
        for stage in ("visual", "audio")
        for k in range(1, 6)
    ]
    assert image(plots.plot_learning_curves(rows, tmp_path / "l.png"))[0] == (864, 672)
    for nothing in ([], [{"epoch": 1}]):
        with pytest.raises(DataError, match="no epoch with a stage"):
            plots.plot_learning_curves(nothing, tmp_path / "l.png")


def test_the_same_numbers_give_the_same_file(tmp_path):
    curves = {"fused": plots.Curve([0, 1, 0, 1], [0.2, 0.3, 0.4, 0.9])}
    one, two = (plots.plot_roc(curves, tmp_path / name).read_bytes() for name in ("1.png", "2.png"))
    assert one == two


def test_names_of_users_are_no_formulas(table, tmp_path):
    """Two dollar signs in a name are a formula to matplotlib, and a broken one ends the drawing."""
    table["method"] = table["method"].replace("voice", r"$\frac{1$ _^")
    table["quality"] = table["quality"].replace("c40", r"$\nix{$")
    result = evaluate_scores(table, tmp_path, resamples=20, by=["quality"])
    paths = {path.name for path in plots.plot_evaluation(table, result, tmp_path / "plots")}
    assert {"methods.png", "group_quality.png"} <= paths


def test_a_modality_is_calibrated_against_its_own_truth(table, tmp_path):
    table["visual_label"] = (table["method"] == "face_swap").astype(int)
    for name in ("visual", "score"):
        table[f"{name}_logit"] = np.log(table[name] / (1 - table[name]))
    result = evaluate_scores(table, tmp_path, resamples=20)
    found, fused = (result["clips"][name]["calibration"] for name in ("visual", "fused"))
    assert found["label"] == "visual_label" and fused["label"] == "label"
    assert found["after"]["ece"] == metrics.ece(table["visual_label"], table["visual"])
    assert found["after"]["ece"] < metrics.ece(table["label"].to_numpy(int), table["visual"]) / 2
