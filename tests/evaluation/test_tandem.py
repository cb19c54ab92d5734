import gzip
import math
import time
from pathlib import Path

import numpy as np
import pytest

from avdetect.errors import DataError
from avdetect.evaluation import tandem

GOLDEN = Path(__file__).resolve().parents[2].parent / "shared" / "golden"
needs_golden = pytest.mark.skipif(not GOLDEN.exists(), reason="golden scores (../shared/golden) are not here")


def trials(seed, n=60):
    """Rounded scores, so that many are equal."""
    rng = np.random.default_rng(seed)
    y = np.append([0, 1], rng.integers(0, 2, n - 2))
    asv = rng.normal(2, 1, 40).round(1), rng.normal(-1, 1, 50).round(1), rng.normal(1.5, 1, 45).round(1)
    return y, rng.normal(1.5 * y, 1).round(1), asv


def plain_costs(asv):
    """Miss, false acceptance and spoof acceptance at the EER threshold, by trying every threshold upwards."""
    target, nontarget, spoof = asv
    best = None
    for threshold in [-math.inf, *sorted({*target, *nontarget})]:  # accepted: score > threshold
        gap = abs(np.mean(target <= threshold) - np.mean(nontarget > threshold))
        if best is None or gap < best[0] - 1e-12:
            best = gap, threshold
    t = best[1]
    return np.mean(target < t), np.mean(nontarget >= t), np.mean(spoof >= t)


def plain_min_tdcf_2021(y, s, asv):
    miss, false_accept, spoof_accept = plain_costs(asv)
    c0 = 0.9405 * 1 * miss + 0.0095 * 10 * false_accept
    c1 = 0.9405 * 1 - c0
    c2 = 0.05 * 10 * spoof_accept
    costs = [
        c0 + c1 * np.mean(s[y == 0] >= t) + c2 * np.mean(s[y == 1] < t) for t in [math.inf, *sorted(set(s))]
    ]
    return min(costs) / (c0 + min(c1, c2))


@pytest.mark.parametrize("seed", range(8))
def test_cost_of_2021_equals_the_plain_formula(seed):
    y, s, asv = trials(seed)
    assert tandem.min_tdcf_2021(y, s, *asv) == pytest.approx(plain_min_tdcf_2021(y, s, asv), abs=1e-9)


def test_cost_of_2021_by_hand():
    # EER point of the verification as in the test of 2019: no target missed, 2/4 non-targets, 3/4 spoofs
    # pass.
    asv = [1, 3, 4, 5], [-2, -1, 1, 2], [1, 0, 3, 4]
    weights = tandem.tandem_weights_2021(*asv)
    assert weights == pytest.approx((0.0475, 0.893, 0.375))
    assert weights.default == pytest.approx(0.4225)
    y, s = [0] * 4 + [1] * 4, [1, 2, 3, 6, 4, 4.5, 5, 8]
    assert tandem.min_tdcf(y, s, weights) == pytest.approx((0.0475 + 0.893 / 4) / 0.4225)
    # From 5 on: one of four bona fide rejected, two of four spoofs passed.
    assert tandem.act_tdcf(y, s, 5, weights) == pytest.approx((0.0475 + 0.893 / 4 + 0.375 / 2) / 0.4225)
    # The threshold itself is called spoof: the bona fide 6 is rejected at 6, of the spoofs three pass.
    assert tandem.act_tdcf(y, s, 6, weights) == pytest.approx((0.0475 + 0.893 / 4 + 0.375 * 3 / 4) / 0.4225)
    assert tandem.act_tdcf(y, s, -9, weights) == pytest.approx(
        (0.0475 + 0.893) / 0.4225
    )  # worse than nothing


def test_useless_and_perfect_countermeasures():
    rng = np.random.default_rng(0)
    asv = rng.normal(2, 1, 500), rng.normal(-2, 1, 500), rng.normal(1, 1, 500)
    y = np.arange(100) % 2
    weights = tandem.tandem_weights_2021(*asv)
    assert tandem.min_tdcf(y, np.zeros(100), weights) == pytest.approx(1)
    assert tandem.min_tdcf(y, y, weights) == pytest.approx(weights.c0 / weights.default) != 0
    assert tandem.act_tdcf(y, y, 0.5, weights) == tandem.min_tdcf(y, y, weights)


def test_bayes_threshold_is_best_for_log_likelihood_ratios():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 200_000)
    ratio = 2 * (rng.normal(2.0 * y, 1) - 1)  # log N(x; 2, 1) - log N(x; 0, 1) = 2x - 2
    weights = tandem.TandemWeights(0.01, 0.9, 0.3)
    best = tandem.min_tdcf(y, ratio, weights)
    assert tandem.act_tdcf(y, ratio, weights.bayes_threshold, weights) == pytest.approx(best, rel=0.01)
    assert tandem.act_tdcf(y, ratio, weights.bayes_threshold + 1, weights) > 1.05 * best
    assert tandem.TandemWeights(0.1, 0.9, 0.0).bayes_threshold == math.inf
    assert tandem.TandemWeights(0.1, 0.0, 0.9).bayes_threshold == -math.inf


def test_each_attack_has_the_verification_of_its_own_spoofs():
    y, s, asv = trials(3, n=90)
    attacks = np.where(y == 1, np.array(["A1", "A2", "A3"])[np.arange(90) % 3], "-")
    owners = np.array(["A1", "A2"])[np.arange(45) % 2]
    found = tandem.min_tdcf_by_attack(y, s, attacks, *asv, owners)
    assert list(found) == ["A1", "A2", "A3"]
    for attack in ("A1", "A2"):
        chosen = (y == 0) | (attacks == attack)
        own = (*asv[:2], asv[2][owners == attack])
        assert found[attack]["value"] == pytest.approx(
            plain_min_tdcf_2021(y[chosen], s[chosen], own), abs=1e-9
        )
        assert found[attack]["n_fake"] == (attacks == attack).sum()
    assert found["A3"]["value"] is None and "scores of spoofed trials" in found["A3"]["reason"]
    alone = tandem.min_tdcf_by_attack(y[y == 1], s[y == 1], attacks[y == 1], *asv, owners)
    assert alone["A1"]["value"] is None and "are fake" in alone["A1"]["reason"]


def test_bad_input_is_refused():
    y, s, asv = trials(0)
    weights = tandem.tandem_weights_2021(*asv)
    with pytest.raises(DataError, match="high scores mean the same speaker"):
        tandem.min_tdcf(y, s, tandem.TandemWeights(0.1, -0.1, 0.3))
    with pytest.raises(DataError, match="high scores mean the same speaker"):
        tandem.min_tdcf(y, s, tandem.TandemWeights(0.0, 0.0, 0.3))
    with pytest.raises(DataError, match="high scores mean the same speaker"):
        tandem.act_tdcf(y, s, 0, tandem.TandemWeights(math.nan, 0.5, 0.3))
    with pytest.raises(DataError, match="not a number"):
        tandem.act_tdcf(y, s, math.nan, weights)
    with pytest.raises(DataError, match="All 60 clips are genuine"):
        tandem.act_tdcf(np.zeros(60, int), s, 0, weights)
    with pytest.raises(DataError, match="finite"):
        tandem.min_tdcf_2021(y, s, *asv[:2], [math.nan])
    with pytest.raises(DataError, match="45 verification scores but 1 attacks"):
        tandem.min_tdcf_by_attack(y, s, ["A"] * 60, *asv, ["A"])
    with pytest.raises(DataError, match="60 trials but 1 attacks"):
        tandem.min_tdcf_by_attack(y, s, ["A"], *asv, ["A"] * 45)


@needs_golden
def test_golden_scores_in_the_form_of_2021():
    with gzip.open(GOLDEN / "rawgat_st_mul_scores.txt.gz", "rt") as lines:
        rows = [line.split() for line in lines]
    with gzip.open(GOLDEN / "ASVspoof2019.LA.asv.eval.gi.trl.scores.txt.gz", "rt") as lines:
        verification = [line.split() for line in lines]
    y = np.array([row[2] == "spoof" for row in rows]).astype(int)
    s, attacks = -np.array([float(row[3]) for row in rows]), np.array([row[1] for row in rows])
    owner, claim = (np.array([row[k] for row in verification]) for k in (0, 1))
    values = np.array([float(row[2]) for row in verification])
    asv = [values[claim == kind] for kind in ("target", "nontarget", "spoof")]
    start = time.process_time()
    cost = tandem.min_tdcf_2021(y, s, *asv)
    assert time.process_time() - start < 0.5
    # C0, C1, C2 from the rates of the verification at its published EER threshold, -5.680051.
    miss, false_accept, spoof_accept = np.mean(asv[0] < -5.68005), *(np.mean(a >= -5.68006) for a in asv[1:])
    c0 = 0.9405 * miss + 0.095 * false_accept
    weights = tandem.tandem_weights_2021(*asv)
    assert weights == pytest.approx((c0, 0.9405 - c0, 0.5 * spoof_accept), abs=1e-3)
    fakes, genuine = np.sort(s[y == 1]), np.sort(s[y == 0])
    t = np.append(np.unique(s), math.inf)
    rejected = 1 - np.searchsorted(genuine, t, "left") / len(genuine)
    passed = np.searchsorted(fakes, t, "left") / len(fakes)
    expected = np.min(weights.c0 + weights.c1 * rejected + weights.c2 * passed) / weights.default
    assert cost == pytest.approx(expected, abs=1e-9)
    by_attack = tandem.min_tdcf_by_attack(y, s, attacks, *asv, owner[claim == "spoof"])
    assert list(by_attack) == [f"A{k:02d}" for k in range(7, 20)]
    assert all(weights.c0 < entry["value"] <= 1 for entry in by_attack.values())
