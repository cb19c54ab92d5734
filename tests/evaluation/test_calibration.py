import itertools
import json
import logging
import math
import subprocess
import sys
import time

import numpy as np
import pytest

from avdetect.errors import ConfigError, DataError
from avdetect.evaluation import metrics, selective
from avdetect.evaluation.calibration import (
    Calibration,
    Thresholds,
    band_report,
    calibration_report,
    choose_thresholds,
    fit_calibration,
    fit_isotonic,
    fit_platt,
    fit_temperature,
)


def logits_with(slope, intercept, n=6000, seed=0):
    """Logits whose true P(fake) is sigmoid(slope * logit + intercept)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 2, n)
    return (rng.uniform(size=n) < 1 / (1 + np.exp(-(slope * x + intercept)))).astype(int), x


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_platt_finds_slope_and_intercept_in_any_unit(unit):
    y, x = logits_with(0.5, -0.7)
    fit = fit_platt(y, x * unit)
    assert fit.slope * unit == pytest.approx(0.5, abs=0.05)
    assert fit.intercept == pytest.approx(-0.7, abs=0.1)


def test_temperature_finds_the_slope_and_improves_the_calibration():
    y, x = logits_with(0.4, 0.0)
    fit = fit_temperature(y, x)
    assert fit.slope == pytest.approx(0.4, abs=0.04) and fit.intercept == 0
    assert fit.fitted["ece_after"] < 0.03 < 0.1 < fit.fitted["ece_before"]
    assert fit.fitted["log_loss_after"] < fit.fitted["log_loss_before"]
    assert (fit.fitted["n"], fit.fitted["n_fake"]) == (6000, y.sum())


def test_platt_reaches_the_minimum_of_its_loss():
    y, x = logits_with(0.8, 0.3, n=50)
    fit = fit_platt(y, x)
    n1 = y.sum()
    target = np.where(y == 1, (n1 + 1) / (n1 + 2), 1 / (len(y) - n1 + 2))
    error = fit(x) - target
    assert abs(np.mean(error)) < 1e-6 and abs(np.mean(error * x)) < 1e-5


@pytest.mark.parametrize("fit", [fit_platt, fit_temperature])
@pytest.mark.parametrize("n", [2, 10, 200])
def test_separable_data_give_a_finite_slope_that_grows_with_the_data(fit, n):
    y = np.arange(n) % 2
    calibration = fit(y, np.where(y == 1, 3.0, -3.0))
    # Two kinds of logits, as many parameters as targets: the fit meets Platt's targets exactly.
    assert calibration(3.0) == pytest.approx((n / 2 + 1) / (n / 2 + 2), abs=1e-4)
    assert calibration(-3.0) == pytest.approx(1 / (n / 2 + 2), abs=1e-4)


def test_logits_that_rank_backwards_are_not_turned_round(caplog):
    y = np.arange(100) % 2
    with caplog.at_level(logging.WARNING):
        fit = fit_platt(y, -3.0 * y + np.linspace(0, 1, 100))
    assert fit.slope > 0
    assert fit(10.0) == pytest.approx(0.5, abs=0.02)
    assert "do not rise" in fit.fitted["note"] and "do not rise" in caplog.text


@pytest.mark.parametrize(
    ("labels", "logits", "message"),
    [
        ([1, 1], [0.0, 1.0], "All 2 clips are fake"),
        ([0, 1], [2.0, 2.0], "All 2 validation logits are 2"),
        ([0, 1], [2.0, math.nan], "not finite"),
        ([0, 1], [2.0], "2 labels but 1 scores"),
    ],
)
@pytest.mark.parametrize("fit", [fit_platt, fit_temperature])
def test_what_cannot_be_fitted_is_refused(fit, labels, logits, message):
    with pytest.raises(DataError, match=message):
        fit(labels, logits)


def test_calibration_survives_json_and_keeps_shapes():
    y, x = logits_with(0.5, 0.1, n=200)
    fit = fit_platt(y, x)
    again = Calibration.from_dict(json.loads(json.dumps(fit.to_dict())))
    assert again == fit
    assert isinstance(again(0.3), float)
    assert again(np.zeros((2, 3))).shape == (2, 3)
    assert math.isnan(again(math.nan))
    assert Calibration("identity")(0.0) == 0.5
    assert (Calibration("identity")(-1e4), Calibration("identity")(1e4)) == (0.0, 1.0)


def test_broken_calibrations_are_refused():
    for slope in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ConfigError, match="finite slope above 0"):
            Calibration("platt", slope)
    with pytest.raises(ConfigError, match="keys"):
        Calibration.from_dict({"method": "platt", "slope": 1.0})


def test_thresholds_keep_their_error_rates_on_new_clips():
    rates = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        y = np.arange(400) % 2
        p, new = (1 / (1 + np.exp(-rng.normal(1.5 * y - 0.75, 1))) for _ in range(2))
        band = choose_thresholds(y, p, max_fpr=0.1, max_fnr=0.1)
        assert band.real_below <= 0.4 and band.fake_above >= 0.6
        assert np.mean(p[y == 0] > band.fake_above) <= 0.1 and np.mean(p[y == 1] < band.real_below) <= 0.1
        report = band_report(y, new, band)
        rates.append((report["false_alarm_rate"], report["miss_rate"]))
    assert np.mean(rates, axis=0) == pytest.approx([0.1, 0.1], abs=0.02)


def test_threshold_is_the_conformal_one():
    genuine = np.linspace(0.61, 0.99, 39)  # (k + 1) / 40 <= 0.05 allows k = 1 above
    band = choose_thresholds([0] * 39 + [1] * 39, np.concatenate([genuine, 1 - genuine]))
    assert band.fake_above == genuine[-2]
    assert band.real_below == pytest.approx(1 - genuine[-2], abs=1e-15)


def test_few_clips_widen_the_band_and_say_so(caplog):
    with caplog.at_level(logging.WARNING):
        band = choose_thresholds([0, 0, 0, 1, 1], [0.1, 0.2, 0.8, 0.3, 0.9])
    assert band == (0.3, 0.8)
    assert "3 genuine validation clips are too few" in caplog.text and "19 are needed" in caplog.text


def test_separated_classes_keep_a_band_around_one_half():
    y = np.arange(100) % 2
    assert choose_thresholds(y, 0.02 + 0.96 * y) == (0.4, 0.6)


def test_verdicts_and_ties():
    band = Thresholds(0.3, 0.8)
    assert [band.label(s) for s in (0.29, 0.3, 0.8, 0.81)] == ["real", "uncertain", "uncertain", "fake"]
    assert band.label(None) == band.label(math.nan) == "unknown"
    report = band_report([0, 0, 1, 1, 1], [0.1, 0.9, 0.5, 0.9, 0.2], band)
    assert report["counts"] == {
        "genuine": {"real": 1, "uncertain": 0, "fake": 1},
        "fake": {"real": 1, "uncertain": 1, "fake": 1},
    }
    assert report["decided"] == 0.8 and report["error_when_decided"] == 0.5
    assert report["false_alarm_rate"] == 0.5 and report["miss_rate"] == pytest.approx(1 / 3)


def test_bad_settings_are_refused():
    for wrong in ({"max_fpr": 0}, {"max_fnr": 1}, {"min_confidence": 0.4}):
        with pytest.raises(ConfigError, match="Error rates lie"):
            choose_thresholds([0, 1], [0.1, 0.9], **wrong)
    with pytest.raises(DataError, match=r"P\(fake\) lies in"):
        choose_thresholds([0, 1], [-3.0, 3.0])


def test_prediction_can_calibrate_without_the_heavy_libraries():
    code = (
        "import sys; from avdetect.evaluation import Calibration, Thresholds; Calibration('identity')(1.0); "
        "sys.exit(any(name in sys.modules for name in ('sklearn', 'matplotlib', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def plain_isotonic(x, target):
    """Least squares under monotonicity by its max-min formula, for distinct x in rising order."""
    n = len(x)
    return [max(min(np.mean(target[j : k + 1]) for k in range(i, n)) for j in range(i + 1)) for i in range(n)]


@pytest.mark.parametrize("seed", range(5))
def test_isotonic_equals_the_max_min_formula(seed):
    y, x = logits_with(0.7, -0.3, n=60, seed=seed)
    order = np.argsort(x)
    n1 = y.sum()
    target = np.where(y == 1, (n1 + 1) / (n1 + 2), 1 / (len(y) - n1 + 2))
    fit = fit_isotonic(y, x)
    assert fit(x[order]) == pytest.approx(plain_isotonic(x[order], target[order]), abs=1e-9)
    grid = np.linspace(-9, 9, 500)
    p = fit(grid)
    assert (np.diff(p) >= 0).all() and p[0] == p.min() > 0 and p[-1] == p.max() < 1
    assert (fit(-1e9), fit(math.inf)) == (p[0], p[-1])


def test_isotonic_calibrates_what_no_slope_can():
    rng = np.random.default_rng(0)
    x, new = rng.normal(0, 2, (2, 8000))
    truth = lambda logit: np.where(logit < 0, 0.1, np.where(logit < 2, 0.4, 0.9))  # noqa: E731
    y, labels = (rng.uniform(size=8000) < truth(part) for part in (x, new))
    isotonic, platt = (
        calibration_report(labels.astype(int), new, fit(y.astype(int), x))
        for fit in (fit_isotonic, fit_platt)
    )
    assert isotonic["after"]["ece"] < 0.02 < 0.04 < platt["after"]["ece"] < platt["before"]["ece"]
    assert isotonic["after"]["brier"] < platt["after"]["brier"]


def test_isotonic_travels_in_the_card(tmp_path):
    y, x = logits_with(0.5, 0.1, n=300)
    fit = fit_isotonic(y, x)
    (tmp_path / "card.json").write_text(json.dumps(fit.to_dict()))
    again = Calibration.from_dict(json.loads((tmp_path / "card.json").read_text()))
    assert again == fit and (again(x) == fit(x)).all()
    assert isinstance(again(0.3), float) and again(np.zeros((2, 3))).shape == (2, 3)
    assert math.isnan(again(math.nan))
    assert "knots" not in fit_platt(y, x).to_dict()  # cards of other calibrations stay as they were
    assert fit.fitted["n"] == 300 and fit.fitted["ece_after"] < fit.fitted["ece_before"]


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
def test_even_odds_hold_for_as_many_genuine_clips_as_fakes(fit):
    rng = np.random.default_rng(0)
    mixes = [np.repeat([0, 1], counts) for counts in ((3000, 12000), (4000, 4000))]
    (y, x), (even, new) = ((labels, rng.normal(2.0 * labels, 1.5)) for labels in mixes)
    found = fit(y, x)
    moved = found.at_even_odds()
    before, after = (calibration_report(even, new, one)["after"]["ece"] for one in (found, moved))
    assert after < 0.02 < 0.1 < before
    assert (np.diff(moved(np.linspace(-9, 9, 50))) >= 0).all()
    assert moved.fitted == {**found.fitted, "even_odds": True} and moved.method == found.method
    assert Calibration.from_dict(json.loads(json.dumps(moved.to_dict()))) == moved


def test_isotonic_on_logits_that_rank_backwards_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        fit = fit_isotonic([1, 1, 0, 0], [0.0, 1.0, 2.0, 3.0])
    assert fit(0.0) == fit(3.0) == pytest.approx(0.5) and "do not rise" in fit.fitted["note"]
    assert "do not rise" in caplog.text


def test_broken_knots_are_refused():
    good = ((0.0, 0.1), (1.0, 0.9))
    assert Calibration("isotonic", knots=good)(0.5) == pytest.approx(0.5)
    for knots in (
        good[:1], good[::-1], ((0.0, 0.9), (1.0, 0.1)), ((0.0, -0.1), (1.0, 0.9)), ((0.0, 0.1), (1.0, 1.1)),
        ((0.0, 0.1), (math.nan, 0.9)), ((0.0, 0.1), (0.0, 0.9)), ((0.0, 0.1, 0.2), (1.0, 0.9)),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="two or more knots"):
            Calibration("isotonic", knots=knots)
    with pytest.raises(ConfigError, match="belong to an isotonic"):
        Calibration("platt", knots=good)
    with pytest.raises(ConfigError, match="belong to an isotonic"):
        Calibration("isotonic")


def test_calibrations_are_fitted_by_name():
    y, x = logits_with(0.5, -0.7, n=500)
    for method, fit in (("platt", fit_platt), ("temperature", fit_temperature), ("isotonic", fit_isotonic)):
        assert fit_calibration(method, y, x) == fit(y, x)
    with pytest.raises(ConfigError, match="choose one of platt, temperature, isotonic"):
        fit_calibration("beta", y, x)


def test_report_before_and_after():
    y, x = logits_with(0.4, 0.0)
    fit = fit_temperature(y[:3000], x[:3000])
    report = calibration_report(y[3000:], x[3000:], fit)
    before = 1 / (1 + np.exp(-x[3000:]))
    assert report["before"]["ece"] == pytest.approx(metrics.ece(y[3000:], before), abs=1e-12)
    assert report["after"]["brier"] == pytest.approx(np.mean((fit(x[3000:]) - y[3000:]) ** 2), abs=1e-12)
    assert report["after"]["ece"] < 0.05 < report["before"]["ece"]
    assert sum(report["after"]["bins"]["count"]) == report["n"] == 3000
    alone = calibration_report([1, 1], [3.0, 3.0], fit)
    assert alone["after"]["bins"]["share"].count(None) == 14
    json.dumps(alone, allow_nan=False)
    with pytest.raises(DataError, match="not finite"):
        calibration_report([0, 1], [0.0, math.nan], fit)


def test_threshold_table_is_conformal_and_says_what_it_cannot_promise():
    p = np.concatenate([np.arange(1, 40) / 40, np.full(11, 0.9)])  # 39 genuine clips, evenly spread
    y = np.repeat([0, 1], [39, 11])
    rows = selective.threshold_table(y, p, (0.1, 0.05, 0.025, 0.01))
    # (k + 1) / 40 <= rate allows k = 3, 1, 0 genuine clips above the threshold.
    assert [row["threshold"] for row in rows] == [0.9, 0.95, 0.975, None]
    assert [row["fpr"] for row in rows] == pytest.approx([3 / 39, 1 / 39, 0, None])
    assert rows[3]["reason"] == "39 genuine clips are too few to promise this rate: 99 are needed"
    rates = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = np.arange(400) % 2
        val, test = (rng.normal(labels, 1) for _ in range(2))
        applied = selective.apply_thresholds(selective.threshold_table(labels, val), labels, test)
        assert applied[3]["fpr"] is None and "are needed" in applied[3]["reason"]
        rates.append([row["fpr"] for row in applied[:3]])
    mean = np.mean(rates, axis=0)
    assert (mean <= np.array([0.1, 0.05, 0.01]) * 1.1).all() and mean[0] > 0.085
    one_class = selective.apply_thresholds(rows[:1], [1, 1], [0.95, 0.2])[0]
    assert one_class["tpr"] == 0.5 and one_class["fpr"] is None and "no genuine clip" in one_class["reason"]
    with pytest.raises(ConfigError, match=r"lies in \(0, 1\)"):
        selective.threshold_table(y, p, (1.0,))
    with pytest.raises(DataError, match="are genuine"):
        selective.threshold_table([0, 0], [0.1, 0.2])


@pytest.mark.parametrize("seed", range(4))
def test_area_under_risk_coverage_is_the_mean_over_orders_of_ties(seed):
    rng = np.random.default_rng(seed)
    y, p = rng.integers(0, 2, 6), rng.choice([0.1, 0.3, 0.5, 0.7, 0.9], 6)
    wrong = (p >= 0.5) != (y == 1)
    sure = np.abs(p - 0.5).round(12)
    areas = []
    for order in itertools.permutations(range(6)):
        if all(sure[i] >= sure[j] for i, j in itertools.pairwise(order)):
            areas.append(np.mean(np.cumsum(wrong[list(order)]) / np.arange(1, 7)))
    curve = selective.risk_coverage(y, p, confidence=sure)
    assert curve["aurc"] == pytest.approx(np.mean(areas), abs=1e-12)
    best = np.mean(np.cumsum(np.sort(wrong)) / np.arange(1, 7))
    assert curve["excess_aurc"] == pytest.approx(np.mean(areas) - best, abs=1e-12)
    assert curve["risk_at_full"] == curve["risk"][-1] == pytest.approx(wrong.mean())


def test_risk_falls_where_the_detector_answers_less():
    curve = selective.risk_coverage([0, 1, 0, 1], [0.05, 0.9, 0.6, 0.45])
    assert curve["coverage"] == [0.25, 0.5, 0.75, 1.0]
    assert curve["risk"] == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert selective.risk_at_coverage(curve, 0.5) == 0 and selective.risk_at_coverage(curve, 0.51) == 1 / 3
    assert curve["excess_aurc"] == pytest.approx(0)
    with pytest.raises(ConfigError, match="coverage lies in"):
        selective.risk_at_coverage(curve, 0)
    with pytest.raises(ConfigError, match="finite number"):
        selective.risk_coverage([0, 1], [0.1, 0.9], threshold=math.nan)
    with pytest.raises(DataError, match="2 clips need one finite confidence each"):
        selective.risk_coverage([0, 1], [0.1, 0.9], confidence=[0.3])
    with pytest.raises(DataError, match="not finite"):
        selective.risk_coverage([0, 1], [0.1, math.nan])


def test_71237_clips_take_less_than_half_a_second():
    y, x = logits_with(0.5, 0.1, n=71237)
    fit = fit_isotonic(y, x)
    for call in (
        lambda: fit_isotonic(y, x),
        lambda: calibration_report(y, x, fit),
        lambda: selective.threshold_table(y, x),
        lambda: selective.risk_coverage(y, fit(x)),
    ):
        start = time.process_time()
        call()
        assert time.process_time() - start < 0.5
