"""The loss under degradation: paired, with intervals, and drawn."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from avdetect.errors import DataError
from avdetect.evaluation import metrics
from avdetect.evaluation.compare import paired_bootstrap
from avdetect.evaluation.robustness import CLEAN, affected, paired_report, plot_robustness, robustness_table
from avdetect.transforms.degrade import DEGRADATIONS

LIMITS = {name: {"real_below": 0.4, "fake_above": 0.6} for name in ("fused", "visual", "audio", "lipsync")}


def noisy(labels: np.ndarray, deviation: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 1 / (1 + np.exp(-(3 * labels - 1.5 + deviation * rng.standard_normal(len(labels)))))


@pytest.fixture(scope="module")
def clips() -> pd.DataFrame:
    n = 120
    labels = np.arange(n) % 2
    lips = np.where(np.arange(n) < 100, labels, np.nan).astype(float)
    return pd.DataFrame(
        {"key": [f"set/{i}.mp4" for i in range(n)], "source": [f"s{i // 4}" for i in range(n)]}
        | {
            "score": labels.astype(float),
            "visual": labels.astype(float),
            "audio": labels.astype(float),
            "lipsync": lips,
        }
    )


def condition(clips: pd.DataFrame, name: str, strength: float, deviation: float, **changed) -> pd.DataFrame:
    labels = (np.arange(len(clips)) % 2).astype(float)
    scores = {c: noisy(labels, deviation, i) for i, c in enumerate(("score", "visual", "audio", "lipsync"))}
    offset = np.where(labels == 0, 40.0, 400.0)
    columns = {"key": clips["key"], "degradation": name, "strength": strength, **scores, "offset_ms": offset}
    return pd.DataFrame(columns | changed)


@pytest.fixture(scope="module")
def scores(clips) -> pd.DataFrame:
    clean = condition(clips, CLEAN, np.nan, 1.0)
    lost = condition(clips, "h264", 45, 4.0)
    lost.loc[[0, 3], "visual"] = np.nan
    late = condition(clips, "offset", 120, 1.5)
    late["offset_ms"] += np.where(
        np.arange(len(clips)) % 4 == 0, 160.0, 0.0
    )  # of the genuine, every other follows
    # in another order than the clips: keys tell which is which
    return pd.concat([clean, condition(clips, "h264", 30, 1.5), lost.iloc[::-1], late], ignore_index=True)


@pytest.fixture(scope="module")
def table(clips, scores) -> pd.DataFrame:
    return robustness_table(clips, scores, LIMITS, resamples=200, seed=1)


def test_change_is_paired_and_agrees_with_the_paired_bootstrap(clips):
    labels = np.arange(len(clips)) % 2
    clean, degraded = noisy(labels, 1.0, 0), noisy(labels, 3.0, 5)
    report = paired_report(labels, clean, degraded, clips["source"], resamples=300, seed=4)
    for name in ("roc_auc", "eer"):
        measure = getattr(metrics, name)
        other = paired_bootstrap(
            labels, degraded, clean, name, clips["source"].to_numpy(), resamples=300, seed=4
        )
        entry = report[name]
        assert entry["value"] == measure(labels, degraded) and entry["clean"] == measure(labels, clean)
        assert entry["change"] == pytest.approx(other.difference)
        assert (entry["change_low"], entry["change_high"]) == pytest.approx((other.low, other.high))
        assert entry["low"] <= entry["value"] <= entry["high"]
    alone = metrics.binary_report(labels, degraded, clips["source"].to_numpy(), resamples=300, seed=4)
    assert report["roc_auc"]["low"] == pytest.approx(alone["roc_auc"]["low"])


def test_the_same_scores_lose_nothing_for_certain(clips):
    labels = np.arange(len(clips)) % 2
    scores = noisy(labels, 2.0, 0)
    entry = paired_report(labels, scores, scores, clips["source"], resamples=100)["roc_auc"]
    assert (
        entry["change"] == entry["change_low"] == entry["change_high"] == 0 and entry["low"] < entry["high"]
    )


def test_one_source_gives_no_interval():
    report = paired_report([0, 1], [0.1, 0.9], [0.8, 0.2], ["a", "a"])
    assert report["roc_auc"] == {"clean": 1, "value": 0, "change": -1} | dict.fromkeys(
        ("low", "high", "change_low", "change_high")
    )


def test_wrong_input_gets_a_sentence(clips, scores):
    with pytest.raises(DataError, match="3 clips but 2 sources"):
        paired_report([0, 1, 1], [0.1, 0.9, 0.9], [0.1, 0.9, 0.9], ["a", "b", None])
    with pytest.raises(DataError, match="the scores of the clean clips are missing"):
        robustness_table(clips, scores[scores["degradation"] != CLEAN], LIMITS)
    with pytest.raises(DataError, match="there is no curve to draw"):
        plot_robustness(pd.DataFrame({"degradation": [CLEAN], "roc_auc": [1.0]}), "roc_auc", "x.png")


def test_rows_are_of_the_scores_that_can_change(table):
    rows = table.groupby("degradation")["score"].agg(set)
    assert rows[CLEAN] == {"fused", "visual", "audio", "lipsync"}
    assert rows["h264"] == {"fused", "visual", "lipsync"} and rows["offset"] == {"fused", "audio", "lipsync"}
    assert affected(DEGRADATIONS["mp3"].part) == ("score", "audio", "lipsync")


def test_a_row_has_the_metrics_of_its_clips(table, clips, scores):
    row = table.set_index(["degradation", "strength", "score"]).loc[("h264", 45.0, "visual")]
    assert (row["n"], row["n_lost"], row["n_sources"], row["unit"]) == (118, 2, 30, "constant rate factor")
    now = scores[(scores["degradation"] == "h264") & (scores["strength"] == 45)].set_index("key")
    now = now.loc[clips["key"], "visual"].to_numpy()
    labels, there = np.arange(len(clips)) % 2, np.isfinite(now)
    clean = scores[scores["degradation"] == CLEAN]["visual"].to_numpy()
    assert row["roc_auc"] == metrics.roc_auc(labels[there], now[there])
    assert row["roc_auc_clean"] == metrics.roc_auc(
        labels[there], clean[there]
    )  # of the same clips, not of all
    assert row["eer_change"] == pytest.approx(row["eer"] - row["eer_clean"])
    assert row["roc_auc_change"] < 0 and row["roc_auc_change_high"] < 0
    assert row["genuine_called_fake"] == np.mean(now[there & (labels == 0)] > 0.6)
    assert row["fakes_found"] == np.mean(now[there & (labels == 1)] > 0.6)


def test_offset_that_follows_the_sound(table):
    row = table.set_index(["degradation", "strength", "score"]).loc[("offset", 120.0, "lipsync")]
    assert row["offset_kept"] == pytest.approx(0.5) and row["n"] == 100  # the others have no truth
    assert table[(table["degradation"] == "h264") & (table["score"] == "lipsync")]["offset_kept"].eq(1).all()


def test_a_score_that_is_gone_has_a_reason(clips, scores):
    mute = condition(clips, "mulaw", 8, 1.0, audio=np.nan)
    table = robustness_table(clips, pd.concat([scores, mute]), LIMITS, resamples=20)
    row = table.set_index(["degradation", "score"]).loc[("mulaw", "audio")]
    assert row["reason"] == "there is no scored clip" and row["n_lost"] == 120 and np.isnan(row["roc_auc"])
    one = clips.assign(lipsync=np.where(clips["lipsync"] == 0, 0.0, np.nan))
    table = robustness_table(one, scores, LIMITS, resamples=20)
    row = table.set_index(["degradation", "strength", "score"]).loc[("offset", 120.0, "lipsync")]
    assert row["reason"] == "there is no fake clip" and row["offset_kept"] == pytest.approx(0.5)


@pytest.mark.parametrize("metric", ["roc_auc", "eer"])
def test_curves_are_drawn(table, tmp_path, metric):
    path = plot_robustness(table, metric, tmp_path / "plots" / "x.png")
    with Image.open(path) as picture:
        assert picture.width > 700 and np.asarray(picture.convert("L")).std() > 10
