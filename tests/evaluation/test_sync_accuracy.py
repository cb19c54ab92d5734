"""Offset accuracy against counts by hand and against a plain bootstrap."""

import numpy as np
import pytest

from avdetect.errors import DataError
from avdetect.evaluation.sync_accuracy import offset_accuracy


def test_offsets_within_k_frames_are_counted_and_those_not_found_are_wrong():
    found, truth = [0, 1, -2, 7, np.nan, -5], [0, 0, 0, 6, 0, -5]
    result = offset_accuracy(found, truth)
    assert result.accuracy == pytest.approx(4 / 6)  # 0, 1, 7 and -5
    assert (result.count, result.not_found, result.groups) == (6, 1, 6)
    assert offset_accuracy(found, truth, within=0).accuracy == pytest.approx(2 / 6)
    assert offset_accuracy(found, truth, within=2).accuracy == pytest.approx(5 / 6)


def test_the_interval_is_the_bootstrap_over_groups():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(12), rng.integers(3, 20, 12))
    skill = rng.uniform(0.3, 1.0, 12)
    truth = rng.integers(-9, 10, len(groups))
    found = truth + np.where(rng.random(len(groups)) < skill[groups], 0, 5)
    result = offset_accuracy(found, truth, groups, resamples=4000)
    right, drawn = found == truth, []
    for _ in range(4000):
        picked = np.concatenate([np.flatnonzero(groups == g) for g in rng.integers(0, 12, 12)])
        drawn.append(right[picked].mean())
    assert (result.low, result.high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.015)
    alone = offset_accuracy(found, truth, resamples=4000)
    assert alone.high - alone.low < 0.7 * (
        result.high - result.low
    )  # speakers differ: clips are not independent


def test_one_group_has_no_interval():
    result = offset_accuracy([0, 3], [0, 0], ["anna", "anna"])
    assert result.accuracy == 0.5 and np.isnan([result.low, result.high]).all()


@pytest.mark.parametrize(
    ("found", "truth", "groups", "what"),
    [
        ([], [], None, "one at least"),
        ([1, 2], [1], None, "as many offsets"),
        ([1, 2], [1, 2], ["a"], "as many offsets"),
        ([1], [np.nan], None, "not a number"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(found, truth, groups, what):
    with pytest.raises(DataError, match=what):
        offset_accuracy(found, truth, groups)
