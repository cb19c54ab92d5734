import json
import time

import numpy as np
import pandas as pd
import pytest

from avdetect.errors import ConfigError, DataError
from avdetect.evaluation import fairness, metrics

# Group F: 5 genuine of which 1 is called fake, 5 fakes of which 4 are found.
# Group M: 4 genuine of which 2 are called fake, 6 fakes of which 3 are found.
LABELS = [0] * 5 + [1] * 5 + [0] * 4 + [1] * 6
SCORES = (
    [0.1, 0.2, 0.3, 0.4, 0.9]
    + [0.5, 0.6, 0.7, 0.8, 0.2]
    + [0.1, 0.2, 0.5, 0.9]
    + [0.6, 0.7, 0.8, 0.1, 0.2, 0.49]
)
GENDER = ["F"] * 10 + ["M"] * 10


def clips(seed, n=2000):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    columns = {"gender": rng.choice(["F", "M"], n), "skin_tone": rng.choice(["dark", "light"], n)}
    p = 1 / (1 + np.exp(-rng.normal(2.0 * y - 1 + 0.5 * (columns["gender"] == "M"), 1)))
    return y, p, columns


def test_aiface_metrics_by_hand():
    found = fairness.aiface_fairness(LABELS, SCORES, GENDER)
    assert found["F_FPR"] == pytest.approx(100 * (2 / 4 - 1 / 5))
    assert found["F_OAE"] == pytest.approx(100 * (8 / 10 - 5 / 10))
    assert found["F_DP"] == pytest.approx(0, abs=1e-12)  # 5 of 10 called fake in both
    assert found["F_MEO"] == pytest.approx(100 * (4 / 5 - 3 / 6))  # TPR, as large as the gap of FPR
    assert found["groups"] == ["F", "M"] and found["left_out"] == {} and found["reason"] is None


def plain_aiface(y, p, groups):
    """The benchmark's formulas, group by group, from a table of counts."""
    rows = []
    for name in sorted(set(groups)):
        inside = [
            (bool(score >= 0.5), bool(label))
            for label, score, group in zip(y, p, groups, strict=True)
            if group == name
        ]
        tp, fp = inside.count((True, True)), inside.count((True, False))
        tn, fn = inside.count((False, False)), inside.count((False, True))
        if tp + fn and tn + fp:
            rows.append([
                fp / (fp + tn), (tp + tn) / len(inside), (tp + fp) / len(inside), (tn + fn) / len(inside),
                fn / (fn + tp), tp / (tp + fn), tn / (tn + fp),
            ])  # fmt: skip
    fpr, acc, positive, negative, fnr, tpr, tnr = (
        100 * (max(column) - min(column)) for column in zip(*rows, strict=True)
    )
    return {"F_FPR": fpr, "F_OAE": acc, "F_DP": max(positive, negative), "F_MEO": max(fpr, fnr, tpr, tnr)}


@pytest.mark.parametrize("seed", range(6))
def test_aiface_metrics_equal_the_plain_formulas(seed):
    rng = np.random.default_rng(seed)
    y, p = rng.integers(0, 2, 300), rng.random(300).round(1)
    groups = rng.choice(["0", "1", "2", "3", "4", "5"], 300)
    y[groups == "5"] = 1  # a group of fakes alone takes no part
    found = fairness.aiface_fairness(y, p, groups)
    for name, value in plain_aiface(y, p, groups).items():
        assert found[name] == pytest.approx(value, abs=1e-9), name
    assert list(found["left_out"]) == ["5"] and "one class" in found["left_out"]["5"]


def test_one_usable_group_has_a_reason():
    found = fairness.aiface_fairness([0, 1, 1], [0.1, 0.9, 0.4], ["a", "a", "b"])
    assert found["F_FPR"] is found["F_OAE"] is found["F_DP"] is found["F_MEO"] is None
    assert found["reason"].startswith("1 of 2 groups have both classes")


def test_intersections_have_the_metrics_of_their_clips():
    y, p, columns = clips(0)
    report = fairness.group_report(y, p, columns, resamples=50)
    assert [entry["group"] for entry in report["groups"]] == [
        {"gender": g, "skin_tone": s} for g in "FM" for s in ("dark", "light")
    ]
    values = {}
    for entry in report["groups"]:
        inside = np.all([columns[name] == value for name, value in entry["group"].items()], axis=0)
        yy, pp = y[inside], p[inside]
        expected = {
            "accuracy": metrics.accuracy(yy, pp), "false_positive_rate": np.mean(pp[yy == 0] >= 0.5),
            "true_positive_rate": np.mean(pp[yy == 1] >= 0.5), "positive_rate": np.mean(pp >= 0.5),
            "roc_auc": metrics.roc_auc(yy, pp),
        }  # fmt: skip
        assert (entry["n"], entry["n_fake"], entry["n_real"]) == (len(yy), yy.sum(), (1 - yy).sum())
        for name, value in expected.items():
            found = entry["metrics"][name]
            assert found["value"] == pytest.approx(value, abs=1e-9), name
            assert found["low"] < value < found["high"] and found["reason"] is None
            values.setdefault(name, []).append(value)
    for name, of_groups in values.items():
        assert report["difference"][name] == pytest.approx(max(of_groups) - min(of_groups), abs=1e-9)
        assert report["ratio"][name] == pytest.approx(min(of_groups) / max(of_groups), abs=1e-9)
    assert report["overall"]["roc_auc"] == pytest.approx(metrics.roc_auc(y, p), abs=1e-9)
    assert report["aiface"]["F_FPR"] == pytest.approx(100 * report["difference"]["false_positive_rate"])
    assert report["warnings"] == [] and report["n_unknown"] == 0
    json.dumps(report, allow_nan=False)
    table = fairness.group_table(report)
    assert len(table) == 4 and table["accuracy"].tolist() == values["accuracy"]
    assert report == fairness.group_report(y, p, pd.DataFrame(columns), resamples=50)


def test_intervals_are_as_wide_as_theory_says_and_wider_for_clusters():
    y, p, columns = clips(1)
    gender = {"gender": columns["gender"]}
    entry = fairness.group_report(y, p, gender)["groups"][0]
    for name, n in (("accuracy", entry["n"]), ("false_positive_rate", entry["n_real"])):
        found = entry["metrics"][name]
        width = 2 * 1.96 * np.sqrt(found["value"] * (1 - found["value"]) / n)
        assert found["high"] - found["low"] == pytest.approx(width, rel=0.12), name
    repeated = {"gender": np.repeat(columns["gender"], 5)}
    sources = np.repeat(np.arange(len(y)), 5)
    clustered, single = (
        fairness.group_report(np.repeat(y, 5), np.repeat(p, 5), repeated, s, resamples=300)["groups"][0]
        for s in (sources, None)
    )
    assert clustered["n_sources"] == entry["n"] and single["n_sources"] == 5 * entry["n"]
    for name in fairness.GROUP_METRICS:
        wide, narrow = (e["metrics"][name]["high"] - e["metrics"][name]["low"] for e in (clustered, single))
        assert 1.8 < wide / narrow < 2.8, name


def test_small_groups_are_said_to_be_too_small():
    y, p, columns = clips(2, n=400)
    race = np.where(np.arange(400) < 10, "rare", "common")
    y[:10] = [0] * 8 + [1] * 2
    report = fairness.group_report(y, p, {"race": race}, min_size=10, resamples=20)
    rare = report["groups"][1]
    assert rare["group"] == {"race": "rare"} and rare["n"] == 10
    assert rare["metrics"]["accuracy"]["value"] is not None
    for name, what in (("false_positive_rate", "8 genuine clips"), ("true_positive_rate", "2 fake clips"),
                       ("roc_auc", "2 fake clips")):  # fmt: skip
        assert rare["metrics"][name] == {
            "value": None, "low": None, "high": None, "reason": f"too small: {what}, 10 are needed"
        }  # fmt: skip
        assert report["difference"][name] is None and report["ratio"][name] is None
    assert report["difference"]["accuracy"] is not None
    assert report["warnings"] == [
        "race rare: 2 fake and 8 genuine clips, 10 of each are needed for every metric"
    ]
    smaller = fairness.group_report(y, p, {"race": race}, min_size=11, resamples=20)
    assert smaller["groups"][1]["metrics"]["accuracy"]["reason"] == "too small: 10 clips, 11 are needed"
    assert smaller["warnings"] == ["race rare: only 10 clips, too small to be judged (11 are needed)"]
    everyone = fairness.group_report(y, p, {"race": race}, min_size=500, resamples=20)
    assert set(everyone["overall"].values()) == {None}


def test_groups_of_one_source_have_no_interval():
    y, p, _ = clips(3, n=100)
    report = fairness.group_report(
        y, p, {"g": ["a"] * 50 + ["b"] * 50}, ["s"] * 50 + list(range(50)), min_size=5
    )
    found = report["groups"][0]["metrics"]["accuracy"]
    assert found["value"] is not None and found["low"] is None and "one source" in found["reason"]
    assert report["groups"][1]["metrics"]["accuracy"]["low"] is not None


def test_clips_of_unknown_group_are_left_out_and_counted():
    y, p, columns = clips(4, n=300)
    gender = pd.Series(columns["gender"], dtype=object)
    gender[:7] = None
    columns["skin_tone"] = pd.array(np.where(columns["skin_tone"] == "dark", 6, 1), dtype="Int64")
    columns["skin_tone"][5:9] = pd.NA
    report = fairness.group_report(y, p, {"gender": gender, "skin_tone": columns["skin_tone"]}, resamples=20)
    assert report["n_unknown"] == 9 and report["n"] == 291
    assert report["groups"][0]["group"] == {"gender": "F", "skin_tone": "1"}
    with pytest.raises(DataError, match=r"No clip has a value in all of \['g'\]"):
        fairness.group_report(y, p, {"g": [None] * 300})


def test_bad_input_is_refused():
    y, p, columns = clips(0, n=50)
    with pytest.raises(DataError, match="name at least one"):
        fairness.group_report(y, p, {})
    with pytest.raises(DataError, match="50 clips but 3 rows"):
        fairness.group_report(y, p, {"g": ["a", "b", "c"]})
    with pytest.raises(DataError, match="not finite"):
        fairness.group_report(y, np.full(50, np.nan), columns)
    with pytest.raises(DataError, match="50 clips but 2 groups"):
        fairness.aiface_fairness(y, p, ["a", "b"])
    with pytest.raises(DataError, match="1 of 50 clips have no group"):
        fairness.aiface_fairness(y, p, [None] + ["a"] * 49)
    for wrong in ({"min_size": 0}, {"resamples": 0}):
        with pytest.raises(ConfigError, match="start at 1"):
            fairness.group_report(y, p, columns, **wrong)


def test_aiface_metrics_of_71237_images_take_less_than_half_a_second():
    y, p, columns = clips(0, n=71237)
    start = time.process_time()
    fairness.aiface_fairness(y, p, columns["gender"])
    assert time.process_time() - start < 0.5
