"""`avdetect compare`: which run is better, and how far seeds differ."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from avdetect.cli import app
from avdetect.errors import AvdetectError, ConfigError, DataError
from avdetect.evaluation.metrics import roc_auc
from avdetect.recipes.compare import compare_runs

CLIPS = 200


def write_run(folder, noise, seed=None, **changes):
    """A run whose scores follow the labels, `noise` blurring them."""
    folder.mkdir()
    rng = np.random.default_rng(round(100 * noise) + (seed or 0))
    label = np.arange(CLIPS) % 2
    table = pd.DataFrame({
        "key": [f"set/{i}.mp4" for i in range(CLIPS)], "label": label, "source": [f"s{i // 2}" for i in range(CLIPS)],
        "score": 1 / (1 + np.exp(-(2 * label - 1 + noise * rng.standard_normal(CLIPS)))),
    })  # fmt: skip
    table.assign(**changes).to_parquet(folder / "scores.parquet")
    if seed is not None:
        config = {"name": "dfdc_visual", "seed": seed, "train": {"lr": 1e-3}, "runs": str(folder.parent)}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder, table


def test_the_better_run_is_told(tmp_path):
    (good, scores), (bad, _) = write_run(tmp_path / "good", 0.8), write_run(tmp_path / "bad", 4.0)
    found = compare_runs([good, bad])
    assert found["runs"][0]["value"] == pytest.approx(roc_auc(scores["label"], scores["score"]))
    (pair,) = found["comparisons"]
    assert pair["difference"] < 0 and pair["high"] < 0 and pair["better"] == "b"
    shown = CliRunner().invoke(app, ["compare", str(good), str(bad)]).stdout
    assert f"{bad} less {good}: -0." in shown and shown.rstrip().endswith("worse")
    as_json = json.loads(CliRunner().invoke(app, ["compare", str(good), str(bad), "--json"]).stdout)
    assert as_json["comparisons"][0]["better"] == "b" and as_json["seeds"] == []


def test_runs_that_differ_in_their_seed_are_summed_up(tmp_path):
    runs = [write_run(tmp_path / f"run{seed}", 1.5, seed)[0] for seed in (1, 2, 3)]
    found = compare_runs(runs)
    (group,) = found["seeds"]
    values = [run["value"] for run in found["runs"]]
    assert group["seeds"] == [1, 2, 3] and group["mean"] == pytest.approx(np.mean(values))
    assert group["std"] == pytest.approx(np.std(values, ddof=1))
    assert "seeds 1, 2, 3: mean 0." in CliRunner().invoke(app, ["compare", *map(str, runs)]).stdout


def test_clips_that_one_run_could_not_judge_count_for_neither(tmp_path):
    whole, table = write_run(tmp_path / "whole", 1.0)
    part, _ = write_run(tmp_path / "part", 1.0, score=table["score"].where(np.arange(CLIPS) >= 20))
    found = compare_runs([whole, part])
    assert found["n"] == CLIPS - 20 and found["left_out"] == 20
    assert found["comparisons"][0]["difference"] == 0


def test_what_cannot_be_compared_is_said(tmp_path):
    one, table = write_run(tmp_path / "one", 1.0)
    other, _ = write_run(tmp_path / "other", 1.0, label=1 - table["label"])
    foreign, _ = write_run(tmp_path / "foreign", 1.0, key="else/" + table["key"])
    (tmp_path / "empty").mkdir()
    for runs, error, message in (
        ([one], ConfigError, "one run to compare"),
        ([one, one], ConfigError, "named twice"),
        ([one, tmp_path / "empty"], DataError, "empty holds no scores.parquet"),
        ([one, other], DataError, "give 200 clips other labels, such as set/0.mp4"),
        ([one, foreign], DataError, "no clips of both classes in common"),
    ):
        with pytest.raises(error, match=message):
            compare_runs(runs)
    with pytest.raises(AvdetectError, match="Unknown metric 'auc'"):
        compare_runs([one, other], "auc")
