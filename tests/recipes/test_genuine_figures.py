"""Figures of the report of `genuine_only`, by hand."""

import numpy as np
import pandas as pd
import pytest

from avdetect.recipes.genuine import figures
from avdetect.recipes.genuine.context import partners
from avdetect.recipes.genuine.material import groups_of


def test_shares():
    some = figures.share([1, 0, 0, 0], ["a", "a", "b", "b"])
    assert some["value"] == 0.25 and some["low"] == 0.0 and some["high"] == 0.5 and some["n_groups"] == 2
    none = figures.share([0] * 20, [n // 2 for n in range(20)])
    assert (
        none["high"] == pytest.approx(1.959964**2 / (10 + 1.959964**2)) and none["low"] == 0.0
    )  # Wilson, n = 10
    assert figures.share([1, 0], ["a", "a"])["low"] is None
    assert figures.share([], [])["value"] is None


def test_rankings_leave_out_what_was_not_judged():
    labels, scores = [0] * 5 + [1] * 6, [-30.0, 1, 2, 3, 4, 2.5, 3.5, 5, 60, 7, np.nan]
    found = figures.ranking(labels, scores, range(11))
    assert found["value"] == pytest.approx(22 / 25)  # of 25 pairs 2.5 loses to 3 and 4, and 3.5 to 4
    assert found["n"] == 10 and "1 could not be judged" in found["note"]
    assert figures.ranking([0] * 5 + [1] * 4, range(9), range(9))["value"] is None


def test_the_mean_over_kinds_weighs_kinds_alike():
    genuine, good, bad = [0.0, 1, 2, 3, 4], [10.0] * 5, [-10.0] * 15
    kinds = [None] * 5 + ["good"] * 5 + ["bad"] * 15
    labels = [0] * 5 + [1] * 20
    found = figures.mean_over_kinds(labels, genuine + good + bad, kinds, range(25), "roc_auc")
    assert found["value"] == pytest.approx(0.5) and found["kinds"]["good"]["value"] == 1.0
    assert (found["low"], found["high"]) == (0.5, 0.5)
    few = figures.mean_over_kinds(
        labels[:10], (genuine + good)[:10], kinds[:9] + ["rare"], range(10), "roc_auc"
    )
    assert few["value"] is None  # no kind has five


def test_differences_and_calibration():
    labels, groups = [0] * 6 + [1] * 6, list(range(6)) * 2
    better, worse = [0.1] * 6 + [0.9] * 6, [0.1, 0.9] * 6
    found = figures.difference(labels, better, worse, groups, "roc_auc")
    assert (found["a"], found["b"], found["value"], found["better"]) == (1.0, 0.5, 0.5, "a")
    assert figures.difference(labels, better, [np.nan] * 12, groups, "roc_auc")["value"] is None
    assert figures.calibration_error(labels, better, groups)["value"] == pytest.approx(0.1)
    assert figures.calibration_error([0, 0], [0.1, 0.2], [1, 2])["value"] is None


def test_goals():
    figure = figures.share([1, 0], [1, 2])
    assert figures.met(figure, (">=", 0.5)) and not figures.met(figure, ("<=", 0.4))
    assert not figures.met(figure, ("<", 0.5)) and figures.met(figure, ("<", 0.6))
    assert figures.met(figure, None) is None and figures.met(figures.no_figure("none"), (">=", 0)) is None


def test_groups_are_speakers_only_where_there_are_several():
    table = pd.DataFrame(
        {
            "dataset": ["A"] * 5 + ["B"] * 2 + ["C"],
            "subject": [f"s{n % 5}" for n in range(5)] + ["x", "y", None],
            "source": [f"r{n}" for n in range(7)] + [None],
            "key": [f"k{n}" for n in range(8)],
        }
    )
    expected = [f"A:s{n}" for n in range(5)] + ["B:r5", "B:r6", "clip:k7"]
    assert groups_of(table).tolist() == expected


def test_partners_are_other_people():
    table = pd.DataFrame(
        {
            "subject": ["a", "a", "b"],
            "source": ["1", "2", "3"],
            "key": list("xyz"),
            "file": ["fa", "fb", "fc"],
        }
    )
    assert partners(table, 0) | {2: ""} == {0: "fc", 1: "fc", 2: ""} and partners(table, 0)[2] in ("fa", "fb")
