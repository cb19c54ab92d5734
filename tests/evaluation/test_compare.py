import json
import math
import time

import numpy as np
import pytest
from scipy import stats

from avdetect.errors import ConfigError, DataError
from avdetect.evaluation import compare, metrics
from avdetect.evaluation.seeds import summarise_seeds, summarise_values


def two_detectors(seed, n=80, ties=False, gain=0.0):
    """Correlated P(fake) of two detectors on the same clips; the first is better by `gain`."""
    rng = np.random.default_rng(seed)
    y = np.append([0, 0, 1, 1], rng.integers(0, 2, n - 4))
    shared = rng.normal(size=n)
    a, b = (1 / (1 + np.exp(-(k * y + shared + rng.normal(size=n)))) for k in (1 + gain, 1))
    return (y, a.round(1), b.round(1)) if ties else (y, a, b)


def plain_delong(y, scores):
    """DeLong 1988 as written: psi of every pair, structural components, their covariances."""
    fakes, genuine = ([s[y == k] for s in scores] for k in (1, 0))
    psi = [
        [[1.0 if f > g else 0.5 if f == g else 0.0 for g in gs] for f in fs]
        for fs, gs in zip(fakes, genuine, strict=True)
    ]
    v10 = [[sum(row) / len(row) for row in matrix] for matrix in psi]
    v01 = [[sum(column) / len(column) for column in zip(*matrix, strict=True)] for matrix in psi]
    aucs = [sum(v) / len(v) for v in v10]

    def covariance(v, i, j):
        return sum((p - aucs[i]) * (q - aucs[j]) for p, q in zip(v[i], v[j], strict=True)) / (len(v[i]) - 1)

    m, n = len(v10[0]), len(v01[0])
    return aucs, [[covariance(v10, i, j) / m + covariance(v01, i, j) / n for j in (0, 1)] for i in (0, 1)]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_delong_equals_the_pairwise_definition(seed, ties):
    y, a, b = two_detectors(seed, ties=ties)
    aucs, covariance = plain_delong(y, [a, b])
    found = compare.delong(y, a, b, level=0.9)
    error = math.sqrt(covariance[0][0] + covariance[1][1] - 2 * covariance[0][1])
    exact = {"abs": 1e-9}
    assert (found.a, found.b) == pytest.approx(aucs, **exact)
    assert found.a == pytest.approx(metrics.roc_auc(y, a), **exact)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(aucs[0] - aucs[1]) / error), **exact)
    half = stats.norm.ppf(0.95) * error
    assert (found.low, found.high) == pytest.approx(
        (found.difference - half, found.difference + half), **exact
    )
    alone = compare.auc_interval(y, a)
    assert alone["standard_error"] == pytest.approx(math.sqrt(covariance[0][0]), **exact)
    assert alone["high"] == pytest.approx(min(1, aucs[0] + 1.959964 * alone["standard_error"]), abs=1e-6)


def test_delong_is_even_handed_where_nothing_differs():
    p = np.array([compare.delong(*two_detectors(seed)).p for seed in range(400)])
    assert 0.02 <= np.mean(p < 0.05) <= 0.085
    assert stats.kstest(p, "uniform").pvalue > 0.01


@pytest.mark.parametrize("test", [compare.delong, compare.paired_bootstrap])
def test_the_better_detector_is_named_whichever_comes_first(test):
    y, a, b = two_detectors(0, n=600, gain=1.5)
    found, turned = test(y, a, b), test(y, b, a)
    assert found.better == "a" and turned.better == "b" and found.p < 0.01
    assert found.difference == -turned.difference > 0
    json.dumps(found.to_dict(), allow_nan=False)
    y, a, b = two_detectors(0, n=60)
    assert test(y, a, b).better is None


def test_what_does_not_vary_has_a_reason():
    y, a, _ = two_detectors(0)
    for other in (a, 3 * a - 7):
        found = compare.delong(y, a, other)
        assert (found.difference, found.p, found.low, found.better) == (0, None, None, None)
        assert "does not vary" in found.reason
    assert "two clips of each class" in compare.delong([0, 0, 1], [0.1, 0.4, 0.3], [0.2, 0.1, 0.3]).reason
    separated = compare.auc_interval(y, y)
    assert separated["value"] == 1 and separated["low"] is None and "separated" in separated["reason"]
    assert compare.auc_interval([0, 0, 1], [0.1, 0.4, 0.3])["reason"]
    one = compare.paired_bootstrap(y, a, a[::-1], groups=["one"] * len(y))
    assert one.p is None and "one source" in one.reason


@pytest.mark.parametrize("name", metrics.METRICS)
def test_named_metrics_give_what_the_function_gives(name):
    y, a, b = two_detectors(2, ties=True)
    groups = np.arange(len(y)) // 4
    named = compare.paired_bootstrap(y, a, b, name, groups, resamples=60)
    lower = name in compare.LOWER_IS_BETTER
    function = getattr(metrics, name)
    plain = compare.paired_bootstrap(y, a, b, function, groups, resamples=60, higher_is_better=not lower)
    assert named.metric == plain.metric == name
    for part in ("a", "b", "difference", "low", "high", "p"):
        assert getattr(named, part) == pytest.approx(getattr(plain, part), abs=1e-9), part
    assert named.better == plain.better and named.n_groups == 20 and named.resamples == 60


def test_ranking_metrics_are_compared_on_logits():
    y, a, b = two_detectors(1)
    logits = [np.log(p / (1 - p)) * 7 for p in (a, b)]
    for name in compare.RANKING:
        found = compare.paired_bootstrap(y, *logits, name, resamples=50)
        expected = compare.paired_bootstrap(y, a, b, name, resamples=50)
        assert found.low == pytest.approx(expected.low, abs=1e-9)
    with pytest.raises(DataError, match="calibrate logits first"):
        compare.paired_bootstrap(y, *logits, "brier")


def test_lower_is_better_for_errors():
    y, a, b = two_detectors(0, n=600, gain=1.5)
    assert compare.paired_bootstrap(y, a, b, "eer", resamples=200).better == "a"
    error = compare.paired_bootstrap(y, a, b, metrics.brier, resamples=100, higher_is_better=False)
    assert error.better == "a" and error.metric == "brier" and error.difference < 0


def test_bootstrap_agrees_with_delong_on_independent_clips():
    y, a, b = two_detectors(3, n=800, gain=0.3)
    exact, drawn = compare.delong(y, a, b), compare.paired_bootstrap(y, a, b, resamples=2000)
    assert drawn.difference == pytest.approx(exact.difference, abs=1e-12)
    assert (drawn.low, drawn.high) == pytest.approx(
        (exact.low, exact.high), abs=0.15 * (exact.high - exact.low)
    )
    assert drawn == compare.paired_bootstrap(y, a, b, resamples=2000)
    assert drawn.low != compare.paired_bootstrap(y, a, b, resamples=2000, seed=1).low


def test_clips_of_one_source_are_not_taken_for_independent():
    y, a, b = two_detectors(4, n=40)
    y, a, b = (np.repeat(part, 10) for part in (y, a, b))
    groups = np.repeat(np.arange(40), 10)
    clustered = compare.paired_bootstrap(y, a, b, groups=groups)
    single = compare.paired_bootstrap(y, a, b)
    assert clustered.high - clustered.low > 2 * (single.high - single.low)


def test_undefined_resamples_are_counted():
    y = np.array([0, 0, 1, 1, 1, 0])
    a, b = np.array([0.1, 0.6, 0.2, 0.3, 0.1, 0.2]), np.array([0.7, 0.1, 0.6, 0.6, 0.1, 0.2])
    found = compare.paired_bootstrap(y, a, b, "precision", resamples=300)
    assert 20 < found.undefined < 250
    with pytest.raises(DataError, match="undefined for these scores"):
        compare.paired_bootstrap(y, a, b, "precision", threshold=0.9)


def test_bad_settings_and_data_are_refused():
    y, a, b = two_detectors(0)
    with pytest.raises(ConfigError, match="Unknown metric 'auc': choose one of roc_auc"):
        compare.paired_bootstrap(y, a, b, "auc")
    with pytest.raises(ConfigError, match="at least one resample"):
        compare.paired_bootstrap(y, a, b, resamples=0)
    for function in (compare.delong, compare.paired_bootstrap):
        with pytest.raises(ConfigError, match=r"level of an interval lies in \(0, 1\)"):
            function(y, a, b, level=95)
        with pytest.raises(DataError, match="80 labels but 79 scores"):
            function(y, a, b[1:])
        with pytest.raises(DataError, match="not finite"):
            function(y, a, np.where(y == 1, math.nan, b))
        with pytest.raises(DataError, match="are fake"):
            function(np.ones(80, int), a, b)
    with pytest.raises(DataError, match="80 clips but 1 groups"):
        compare.paired_bootstrap(y, a, b, groups=["x"])


def test_delong_of_71237_trials_takes_less_than_half_a_second():
    y, a, b = two_detectors(0, n=71237)
    start = time.process_time()
    compare.delong(y, a, b)
    assert time.process_time() - start < 0.5


def test_seeds_are_summarised_as_by_students_t():
    values = [0.91, 0.93, 0.90, 0.94, 0.92]
    found = summarise_values(values)
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert (found.mean, found.std) == pytest.approx((0.92, np.std(values, ddof=1)), abs=1e-12)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    assert (found.n, found.minimum, found.maximum, found.reason) == (5, 0.90, 0.94, None)
    assert found.high - found.mean == pytest.approx(2.776445 * found.std / math.sqrt(5), abs=1e-6)


def test_few_and_undefined_seeds_have_a_reason():
    one = summarise_values([0.9])
    assert (one.n, one.mean, one.std, one.low) == (1, 0.9, None, None) and "run more seeds" in one.reason
    some = summarise_values([0.9, None, 0.8, math.nan])
    assert some.n == 2 and some.mean == pytest.approx(0.85) and some.reason == "undefined in 2 of 4 runs"
    assert some.values == (0.9, None, 0.8, None)
    none = summarise_values([None, None])
    assert none.mean is None and none.reason == "undefined in 2 of 2 runs"
    json.dumps(none.to_dict(), allow_nan=False)


def test_runs_are_summarised_per_metric():
    found = summarise_seeds([{"auc": 0.9, "eer": 0.1}, {"auc": 0.8, "eer": None}], level=0.9)
    assert found["auc"].mean == pytest.approx(0.85) and found["auc"].level == 0.9
    assert found["eer"].n == 1 and "one run has no spread" in found["eer"].reason
    with pytest.raises(DataError, match=r"differ in the metrics \['eer'\]"):
        summarise_seeds([{"auc": 0.9}, {"auc": 0.8, "eer": 0.1}])
    for empty in (lambda: summarise_seeds([]), lambda: summarise_values([])):
        with pytest.raises(DataError, match="no runs"):
            empty()
    with pytest.raises(DataError, match="finite or missing"):
        summarise_values([0.9, math.inf])
    with pytest.raises(ConfigError, match="level"):
        summarise_values([0.9], level=1)
