import gzip
import math
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from avdetect.errors import DataError
from avdetect.evaluation import metrics, tandem
from avdetect.evaluation.bootstrap import WeightedMetrics, draw_groups

GOLDEN = Path(__file__).resolve().parents[2].parent / "shared" / "golden"
needs_golden = pytest.mark.skipif(not GOLDEN.exists(), reason="golden scores (../shared/golden) are not here")


def sample(seed, n=60, ties=False):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    y[:2] = 0, 1
    p = 1 / (1 + np.exp(-rng.normal(1.2 * y - 0.6, 1.0)))
    return y, np.round(p, 1) if ties else p


def brute_eer(y, s):
    """Every distinct score as a threshold, and none called fake; the highest of equally good thresholds."""
    best = None
    for threshold in [math.inf, *sorted(set(s), reverse=True)]:
        fp = int(np.sum(s[y == 0] >= threshold))
        fn = int(np.sum(s[y == 1] < threshold))
        n0, n1 = int(np.sum(y == 0)), int(np.sum(y == 1))
        gap = abs(fp * n1 - fn * n0)
        if best is None or gap < best[0]:
            best = gap, (fp / n0 + fn / n1) / 2, threshold
    return best[1:]


def brute_auc(y, s):
    pairs = [(f > g) + 0.5 * (f == g) for f in s[y == 1] for g in s[y == 0]]
    return sum(pairs) / len(pairs)


def brute_ece(y, p, bins):
    total = 0.0
    for k in range(bins):
        inside = [i for i in range(len(p)) if min(int(p[i] * bins), bins - 1) == k]
        if inside:
            total += abs(sum(p[i] for i in inside) - sum(y[i] for i in inside))
    return total / len(p)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_metrics_equal_their_references(seed, ties):
    y, p = sample(seed, ties=ties)
    called = p >= 0.4
    exact = {"abs": 1e-9, "rel": 0}
    assert metrics.roc_auc(y, p) == pytest.approx(brute_auc(y, p), **exact)
    assert metrics.average_precision(y, p) == pytest.approx(sk.average_precision_score(y, p), **exact)
    assert metrics.eer_threshold(y, p) == pytest.approx(brute_eer(y, p), **exact)
    clipped = np.clip(p, 2**-52, 1 - 2**-52)
    loss = -np.mean([math.log(q if k else 1 - q) for k, q in zip(y, clipped, strict=True)])
    assert metrics.log_loss(y, p) == pytest.approx(loss, **exact)
    assert metrics.brier(y, p) == pytest.approx(sk.brier_score_loss(y, p), **exact)
    assert metrics.ece(y, p, bins=7) == pytest.approx(brute_ece(y, p, 7), **exact)
    assert metrics.accuracy(y, p, 0.4) == pytest.approx(sk.accuracy_score(y, called), **exact)
    assert metrics.precision(y, p, 0.4) == pytest.approx(sk.precision_score(y, called), **exact)
    assert metrics.recall(y, p, 0.4) == pytest.approx(sk.recall_score(y, called), **exact)
    assert metrics.f1(y, p, 0.4) == pytest.approx(sk.f1_score(y, called), **exact)
    assert metrics.false_positive_rate(y, p, 0.4) == pytest.approx(np.mean(called[y == 0]), **exact)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_bootstrap_kernel_equals_the_metrics_of_repeated_clips(seed, ties):
    y, p = sample(seed, ties=ties)
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 4, (20, len(y)))
    weights[:, :2] = 1  # both classes stay
    kernel = WeightedMetrics(y, p, 0.5, metrics.ECE_BINS)(weights)
    for row, counts in enumerate(weights):
        yy, pp = np.repeat(y, counts), np.repeat(p, counts)
        for name in metrics.METRICS:
            expected = getattr(metrics, name)(yy, pp)
            assert kernel[name][row] == pytest.approx(expected, abs=1e-9, nan_ok=True), name


def test_accuracy_counts_the_threshold_itself_as_fake():
    assert metrics.confusion([0, 0, 1, 1], [0.2, 0.5, 0.5, 0.49]) == {"tn": 1, "fp": 1, "fn": 1, "tp": 1}


def test_undefined_precision_is_nan_and_none_in_the_report():
    y, p = [0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4]
    assert math.isnan(metrics.precision(y, p))
    assert metrics.f1(y, p) == 0
    report = metrics.binary_report(y, p, resamples=50)
    assert report["precision"] == {"value": None, "low": None, "high": None}
    assert report["recall"]["value"] == 0


def test_extreme_probabilities_give_a_finite_log_loss():
    assert metrics.log_loss([0, 1], [1.0, 0.0]) == pytest.approx(-math.log(2**-52))


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [0.1, float("nan")], "1 of 2 scores are not finite"),
        ([0, 1], [0.1, None], "1 of 2 scores are not finite"),
        ([0, 1], [0.1, float("inf")], "1 of 2 scores are not finite"),
        ([0, 1], pd.array([0.1, None], dtype="Float64"), "1 of 2 scores are not finite"),
        ([0, 1, 1], [0.1, 0.2], "3 labels but 2 scores"),
        ([], [], "empty"),
        ([0, 2], [0.1, 0.2], "found 2"),
        ([0, None], [0.1, 0.2], "found None"),
        ([1, 1], [0.1, 0.2], "All 2 clips are fake"),
        ([0, 0], [0.1, 0.2], "All 2 clips are genuine"),
    ],
)
@pytest.mark.parametrize(
    "metric", [metrics.roc_auc, metrics.average_precision, metrics.eer, metrics.binary_report]
)
def test_bad_input_is_refused_with_its_reason(metric, labels, scores, message):
    with pytest.raises(DataError, match=message):
        metric(labels, scores)


@pytest.mark.parametrize(
    "metric", [metrics.log_loss, metrics.brier, metrics.ece, metrics.binary_report, metrics.reliability]
)
def test_logits_are_not_taken_for_probabilities(metric):
    with pytest.raises(DataError, match=r"Scores run from -2 to 3, P\(fake\) lies in \[0, 1\]"):
        metric([0, 1], [-2.0, 3.0])


def test_ranking_metrics_take_logits():
    assert metrics.roc_auc([0, 1], [-2.0, 3.0]) == 1
    assert metrics.roc_auc([0, 1], [3.0, -2.0]) == 0


def test_report_has_values_of_the_single_metrics_and_intervals_around_them():
    y, p = sample(3, n=200)
    report = metrics.binary_report(y, p, resamples=400)
    for name in metrics.METRICS:
        assert report[name]["value"] == pytest.approx(getattr(metrics, name)(y, p), abs=1e-12)
        assert report[name]["low"] < report[name]["high"]
        if name != "ece":
            assert report[name]["low"] < report[name]["value"] < report[name]["high"]
    assert (report["n"], report["n_fake"], report["n_real"]) == (200, y.sum(), 200 - y.sum())
    assert report["n_groups"] == 200 and report["bootstrap"]["clustered"] is False
    assert report["confusion"] == metrics.confusion(y, p)
    assert report == metrics.binary_report(y, p, resamples=400)
    assert report["roc_auc"] != metrics.binary_report(y, p, resamples=400, seed=1)["roc_auc"]


def correlated(seed, n_groups=30, per_group=8):
    """Clips of one source share most of their error and carry labels in turn."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), per_group)
    y = np.repeat(rng.permutation(np.arange(n_groups) % 2), per_group)
    logit = y + np.repeat(rng.normal(size=n_groups), per_group) + 0.3 * rng.normal(size=len(y))
    return y, 1 / (1 + np.exp(-logit)), groups


def test_clustered_interval_is_wider_and_covers_the_truth():
    truth = 0.5 * math.erfc(-1 / math.sqrt(2 * 1.09) / math.sqrt(2))  # P(fake logit > genuine logit)
    hits = {True: 0, False: 0}
    widths = {True: 0.0, False: 0.0}
    runs = 60
    for seed in range(runs):
        y, p, groups = correlated(seed)
        for clustered in (True, False):
            auc = metrics.binary_report(y, p, groups if clustered else None, seed=seed, resamples=300)[
                "roc_auc"
            ]
            hits[clustered] += auc["low"] <= truth <= auc["high"]
            widths[clustered] += auc["high"] - auc["low"]
    assert widths[True] > 1.8 * widths[False]
    assert hits[True] / runs >= 0.83
    assert hits[False] / runs <= 0.7


def test_the_interval_of_the_calibration_error_is_freed_from_its_bias():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=400)
    y = (rng.uniform(size=400) < p).astype(int)  # perfectly calibrated: the true error is 0
    ece = metrics.binary_report(y, p)["ece"]
    assert ece["value"] > 0.02 and ece["low"] < 0.01


def test_resamples_with_one_class_are_redrawn_and_counted():
    groups = ["a", "a", "b", "b"]
    report = metrics.binary_report([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9], groups, resamples=500)
    assert 300 < report["bootstrap"]["redrawn"] < 700  # half of all rows are bad: one redraw each on average
    assert any("only 2 independent sources" in warning for warning in report["warnings"])
    labels, codes = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])
    for counts, _ in draw_groups(labels, codes, 100, 30, np.random.default_rng(0)):
        assert (counts == 1).all()


def test_one_source_has_no_interval():
    report = metrics.binary_report([0, 1, 0, 1], [0.1, 0.6, 0.4, 0.9], ["a"] * 4)
    assert report["roc_auc"] == {"value": 1.0, "low": None, "high": None}
    assert report["bootstrap"] is None
    assert "one source" in report["warnings"][0]


def test_perfect_separation_is_not_sold_as_certainty():
    y = np.arange(60) % 2
    report = metrics.binary_report(y, 0.1 + 0.8 * y)
    assert report["roc_auc"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert any("separated in every resample" in warning for warning in report["warnings"])


def test_equal_scores_are_not_called_separated():
    report = metrics.binary_report(np.arange(60) % 2, np.full(60, 0.3))
    assert report["roc_auc"] == {"value": 0.5, "low": 0.5, "high": 0.5} and report["warnings"] == []


@pytest.mark.parametrize("sign", [1, -1])
def test_scores_of_inverted_polarity_are_noticed(sign):
    y = np.arange(200) % 2
    report = metrics.binary_report(
        y, 0.5 + sign * (0.2 * y - 0.1) + np.random.default_rng(0).uniform(-0.2, 0.2, 200)
    )
    assert any("are inverted" in warning for warning in report["warnings"]) == (sign < 0)


@pytest.mark.parametrize(
    ("groups", "message"), [(["a", None], "1 of 2 clips have no group"), (["a"], "2 clips but 1 groups")]
)
def test_bad_groups_are_refused(groups, message):
    with pytest.raises(DataError, match=message):
        metrics.binary_report([0, 1], [0.1, 0.9], groups)


def test_report_of_5000_clips_takes_less_than_5_seconds():
    rng = np.random.default_rng(0)
    y, p = sample(0, n=5000)
    start = time.perf_counter()
    metrics.binary_report(y, p, rng.integers(0, 900, 5000))
    assert time.perf_counter() - start < 5


def test_clip_score_is_the_mean_of_frame_logits():
    clips, logits = metrics.aggregate_mean_logit(["b", "a", "b", "b"], [1.0, -2.0, 2.0, 6.0])
    assert list(clips) == ["b", "a"]
    assert logits == pytest.approx([3.0, -2.0])
    with pytest.raises(DataError, match="finite"):
        metrics.aggregate_mean_logit(["a", "b"], [1.0, float("nan")])
    with pytest.raises(DataError, match="2 frame keys but 1 logits"):
        metrics.aggregate_mean_logit(["a", "b"], [1.0])


def read_golden():
    with gzip.open(GOLDEN / "rawgat_st_mul_scores.txt.gz", "rt") as lines:
        rows = [line.split() for line in lines]
    with gzip.open(GOLDEN / "ASVspoof2019.LA.asv.eval.gi.trl.scores.txt.gz", "rt") as lines:
        asv = [line.split() for line in lines]
    labels = np.array([row[2] == "spoof" for row in rows]).astype(int)
    claims, verification = np.array([row[1] for row in asv]), np.array([float(row[2]) for row in asv])
    parts = [verification[claims == claim] for claim in ("target", "nontarget", "spoof")]
    return labels, -np.array([float(row[3]) for row in rows]), np.array([row[1] for row in rows]), parts


@needs_golden
def test_golden_scores_of_asvspoof_2019():
    labels, scores, attacks, asv = read_golden()
    assert len(labels) == 71237
    start = time.perf_counter()
    eer = metrics.eer(labels, scores)
    tdcf = tandem.min_tdcf_2019(labels, scores, *asv)
    assert time.perf_counter() - start < 0.5
    assert 100 * eer == pytest.approx(1.060135, abs=1e-6)
    assert tdcf == pytest.approx(0.033539, abs=1e-6)
    assert tandem.asv_operating_point(*asv[:2]) == pytest.approx((0.02457784, -5.680051), abs=1e-6)
    expected = {
        7: 0.3429, 8: 0.5297, 9: 0.0815, 10: 0.3905, 11: 0.2852, 12: 0.3429, 13: 0.3022, 14: 0.2852,
        15: 0.2682, 16: 0.8149, 17: 1.7452, 18: 3.0898, 19: 0.7096,
    }  # fmt: skip
    for number, value in expected.items():
        chosen = (labels == 0) | (attacks == f"A{number:02d}")
        assert 100 * metrics.eer(labels[chosen], scores[chosen]) == pytest.approx(value, abs=1e-4), number


def test_tandem_cost_by_hand():
    # Verification rejects all up to 1, one target and three non-targets: both error rates are 1/4 there;
    # at its threshold, counted from 1 upwards, no target is missed, 2/4 non-targets and 3/4 spoofs pass.
    target, nontarget, spoof = [1, 3, 4, 5], [-2, -1, 1, 2], [1, 0, 3, 4]
    assert tandem.asv_operating_point(target, nontarget) == (0.25, 1.0)
    # Best: 1/4 of bona fide speech rejected, no spoof let through.
    c1, c2 = 0.9405 - 0.0095 * 10 * 0.5, 10 * 0.05 * 0.75
    labels, scores = (
        [0] * 4 + [1] * 4,
        [1, 2, 3, 6, 4, 4.5, 5, 8],
    )
    cost = tandem.min_tdcf_2019(labels, scores, target, nontarget, spoof)
    assert cost == pytest.approx(c1 / 4 / c2, abs=1e-12)


def test_tandem_cost_of_useless_and_perfect_countermeasures():
    rng = np.random.default_rng(0)
    asv = rng.normal(5, 1, 500), rng.normal(-5, 1, 500), rng.normal(4, 1, 500)
    y = np.arange(100) % 2
    assert tandem.min_tdcf_2019(y, y, *asv) == pytest.approx(0, abs=1e-12)
    assert tandem.min_tdcf_2019(y, np.zeros(100), *asv) == pytest.approx(1)
    with pytest.raises(DataError, match="high scores mean the same speaker"):
        tandem.min_tdcf_2019(y, y, *asv[:2], rng.normal(-20, 1, 500))
    with pytest.raises(DataError, match="finite"):
        tandem.min_tdcf_2019(y, y, *asv[:2], [])


def test_each_method_is_measured_against_all_genuine_clips():
    y, p = sample(1, n=90)
    methods = np.where(np.arange(90) % 3 == 0, "swap", "voice").astype(object)
    methods[5] = None
    y[5] = 1
    found = metrics.by_method(metrics.eer, y, p, methods)
    assert set(found) == {"swap", "unknown", "voice"}
    chosen = (y == 0) | (methods == "swap")
    assert found["swap"]["value"] == brute_eer(y[chosen], p[chosen])[0]
    assert (found["unknown"]["n_fake"], found["unknown"]["n_real"]) == (1, (y == 0).sum())
    alone = metrics.by_method(metrics.eer, [1, 1], [0.1, 0.9], ["a", "b"])
    assert alone["a"] == {"value": None, "n_fake": 1, "n_real": 0, "reason": alone["a"]["reason"]}
    assert "All 1 clips are fake" in alone["a"]["reason"]
    undefined = metrics.by_method(metrics.precision, [0, 1], [0.1, 0.2], ["-", "a"])["a"]
    assert undefined["value"] is None and "undefined" in undefined["reason"]
    assert metrics.by_method(metrics.eer, [0, 0], [0.1, 0.2], ["-", "-"]) == {}
    with pytest.raises(DataError, match="2 clips but 1 methods"):
        metrics.by_method(metrics.eer, [0, 1], [0.1, 0.2], ["a"])


@pytest.mark.parametrize("labels", [[True, False], [1.0, 0.0], pd.array([1, 0], dtype="Int64")])
def test_labels_of_any_numeric_kind_are_taken(labels):
    assert metrics.roc_auc(labels, np.array([1, 0])) == 1
    with pytest.raises(DataError, match="found nan"):
        metrics.roc_auc([0.0, math.nan], [0.1, 0.2])


def test_metrics_of_71237_trials_take_less_than_half_a_second():
    y, p = sample(0, n=71237)
    methods = np.array([f"A{k % 13}" for k in range(71237)])
    for call in (
        lambda: [getattr(metrics, name)(y, p) for name in metrics.METRICS],
        lambda: metrics.operating_report(y, p),
        lambda: metrics.by_method(metrics.eer, y, p, methods),
    ):
        start = time.process_time()
        call()
        assert time.process_time() - start < 0.5
