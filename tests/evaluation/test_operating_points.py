import math

import numpy as np
import pytest
from sklearn import metrics as sk

from avdetect.errors import ConfigError, DataError
from avdetect.evaluation import metrics


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_operating_points_equal_their_references(seed, ties):
    rng = np.random.default_rng(seed)
    y = np.r_[0, 1, rng.integers(0, 2, 58)]
    p = 1 / (1 + np.exp(-rng.normal(1.2 * y - 0.6, 1.0)))
    p = np.round(p, 1) if ties else p
    points = [(np.mean(p[y == 0] >= t), np.mean(p[y == 1] >= t)) for t in [math.inf, *sorted(set(p))]]
    for rate in (0.001, 0.05, 0.1, 0.3, 1.0):
        best = max(tpr for fpr, tpr in points if fpr <= rate)
        assert metrics.tpr_at_fpr(y, p, rate) == pytest.approx(best, abs=1e-9)
        expected = sk.roc_auc_score(y, p, max_fpr=rate)
        assert metrics.partial_auc(y, p, rate) == pytest.approx(expected, abs=1e-9)
        assert metrics.partial_auc(y, p, rate, standardised=False) == pytest.approx(
            brute_partial_auc(points, rate), abs=1e-9
        )
        strictest = min(fpr for fpr, tpr in points if tpr >= rate)
        assert metrics.fpr_at_tpr(y, p, rate) == pytest.approx(strictest, abs=1e-9)


def brute_partial_auc(points, limit):
    """Trapezium after trapezium from the left, the last one cut at the limit."""
    area = 0.0
    points = sorted(points)
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        if x1 > x0 and x0 < limit:
            end = min(x1, limit)
            area += (end - x0) * (y0 + y0 + (y1 - y0) * (end - x0) / (x1 - x0)) / 2
    return area


def test_operating_points_by_hand():
    # Genuine .1 .2 .3 .8, fake .4 .6 .7 .9: the ROC goes up to 1/4, right to 1/4, up to 1.
    y, p = [0] * 4 + [1] * 4, [0.1, 0.2, 0.3, 0.8, 0.4, 0.6, 0.7, 0.9]
    assert metrics.tpr_at_fpr(y, p, 0.2) == 0.25 and metrics.tpr_at_fpr(y, p, 0.25) == 1
    assert metrics.fpr_at_tpr(y, p, 0.25) == 0 and metrics.fpr_at_tpr(y, p, 0.26) == 0.25
    assert metrics.partial_auc(y, p, 0.5, standardised=False) == pytest.approx(0.25 * 0.25 + 0.25)
    assert metrics.partial_auc(y, 1 - np.array(y), 0.5) < 0.5 < metrics.partial_auc(y, y, 0.5) == 1
    report = metrics.operating_report(y, p, fprs=[0.25], tprs=[1])
    assert report["tpr_at_fpr"] == {"0.25": 1.0} and report["fpr_at_tpr"] == {"1": 0.25}
    assert report["partial_auc"]["0.25"] == metrics.partial_auc(y, p, 0.25)
    assert report["partial_auc_raw"] == {"0.25": pytest.approx(0.0625)}


@pytest.mark.parametrize("metric", [metrics.tpr_at_fpr, metrics.fpr_at_tpr, metrics.partial_auc])
def test_operating_points_refuse_nonsense(metric):
    for rate in (0, 1.1, -0.1, math.nan):
        with pytest.raises(ConfigError, match=r"is a rate in \(0, 1\]"):
            metric([0, 1], [0.1, 0.9], rate)
    with pytest.raises(DataError, match="All 2 clips are fake"):
        metric([1, 1], [0.1, 0.9], 0.1)
    with pytest.raises(DataError, match="not finite"):
        metric([0, 1], [0.1, math.nan], 0.1)
