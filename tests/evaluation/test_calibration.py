import json
import logging
import math
import subprocess
import sys

import numpy as np
import pytest

from avdetect.errors import ConfigError, DataError
from avdetect.evaluation.calibration import (
    Calibration,
    Thresholds,
    band_report,
    choose_thresholds,
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
