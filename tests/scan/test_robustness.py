"""A detector under degradation, from the command line to the table; killed and continued."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from avdetect import cli
from avdetect.data import Manifest
from avdetect.data.guard import open_test_data
from avdetect.data.prepare import PreparedSet
from avdetect.errors import ConfigError, DataError
from avdetect.inference import Detector, load_bundle
from avdetect.scan import robustness
from avdetect.scan.robustness import measure_robustness, parse_conditions, show
from avdetect.transforms.degrade import DEGRADATIONS, degrade

FEW = "h264:40,sound_noise:0,offset:-200:200"


def quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def measured(smoke_run, smoke_bundle, tmp_path_factory):
    """The smoke detector on the test clips of its demo set."""
    out = tmp_path_factory.mktemp("robust") / "out"
    data = smoke_run / "manifest.csv"
    table, unread = measure_robustness(
        smoke_bundle, data, out, parse_conditions(FEW), quiet, workers=0, resamples=50
    )
    assert unread == 0
    return out, table


def test_what_is_asked_for():
    assert len(parse_conditions(None)) == sum(len(entry.strengths) for entry in DEGRADATIONS.values())
    chosen = parse_conditions("h264:23:40, mulaw,h264:23")
    assert [(entry.name, strength) for entry, strength in chosen] == [
        ("h264", 23),
        ("h264", 40),
        ("mulaw", 8),
    ]
    for text, sentence in (
        ("fog", "unknown degradation 'fog'"),
        ("jpeg:high", "'jpeg:high': strengths are numbers, as in jpeg:90"),
        ("jpeg:0", r"must lie in \[1, 100\]"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            parse_conditions(text)


def test_clean_scores_are_the_detectors_own(measured, smoke_bundle, smoke_run):
    scores = pd.read_parquet(measured[0] / "scores.parquet")
    clean = scores[scores["degradation"] == "clean"].set_index("key")
    tested = pd.read_parquet(smoke_run / "scores.parquet").set_index("key")
    assert set(clean.index) == set(tested.index)
    for name in ("score", "visual", "audio", "lipsync"):
        np.testing.assert_allclose(clean[name], tested.loc[clean.index, name].astype(float), atol=1e-4)


def test_degraded_scores_are_of_the_degraded_clip(measured, smoke_bundle, smoke_run):
    """One clip judged as a whole; what the degradation leaves alone was not run again, and is the same."""
    out, _ = measured
    manifest = Manifest.read(smoke_run / "manifest.csv").where("split == 'test'")
    with open_test_data():
        prepared = PreparedSet.open(out / "prepared", manifest)
        row = prepared.table.iloc[0]
        clip = prepared.load(row)
    detector = Detector(load_bundle(smoke_bundle))
    scores = pd.read_parquet(out / "scores.parquet")
    for name, strength in (("h264", 40.0), ("sound_noise", 0.0), ("offset", 200.0)):
        verdict = detector.judge(degrade(clip, name, strength, row["key"], seed=0)).verdict
        mine = scores[
            (scores["degradation"] == name) & (scores["strength"] == strength) & (scores["key"] == row["key"])
        ]
        assert mine["score"].item() == pytest.approx(verdict.score, abs=1e-5)
        for modality in ("visual", "audio", "lipsync"):
            told = verdict.modalities[modality].score
            assert mine[modality].item() == pytest.approx(
                np.nan if told is None else told, abs=1e-5, nan_ok=True
            )


def test_the_folder_has_table_and_curves(measured):
    out, table = measured
    written = json.loads((out / "robustness.json").read_text())
    assert written["split"] == "test" and len(written["rows"]) == len(table)
    assert len(written["bundle"]["sha256"]) == 64 and written["data"].endswith("manifest.csv")
    assert written["degradations"]["offset"]["unit"].startswith("ms")
    assert len(pd.read_csv(out / "robustness.csv")) == len(table)
    assert {path.name for path in (out / "plots").iterdir()} == {"auc.png", "eer.png"}
    assert set(table["degradation"]) == {"clean", "h264", "sound_noise", "offset"}
    assert json.loads(show(table, True).splitlines()[0])["degradation"] == "clean"
    assert "genuine called fake" in show(table, False)


def test_a_killed_run_goes_on_and_ends_the_same(measured, smoke_bundle, smoke_run, tmp_path, monkeypatch):
    out, table = measured
    shutil.copytree(out / "prepared", tmp_path / "out" / "prepared")
    judged = []

    def dying(clip, name, strength, key, seed):
        judged.append((name, strength))
        if len(judged) > 8:
            raise KeyboardInterrupt
        return degrade(clip, name, strength, key, seed)

    options = {"workers": 0, "resamples": 50}
    request = (smoke_bundle, smoke_run / "manifest.csv", tmp_path / "out", parse_conditions(FEW), quiet)
    monkeypatch.setattr(robustness, "degrade", dying)
    with pytest.raises(KeyboardInterrupt):
        measure_robustness(*request, **options)
    assert not (tmp_path / "out" / "robustness.csv").exists()
    again = []
    monkeypatch.setattr(robustness, "degrade", lambda *args: (again.append(args[1:3]), degrade(*args))[1])
    resumed, _ = measure_robustness(*request, **options)
    assert ("h264", 40.0) not in again and len(again) == 3 * (table["n"].max())
    pd.testing.assert_frame_equal(resumed, table)
    with pytest.raises(ConfigError, match=r"results of another request \(seed differ"):
        measure_robustness(*request, **options, seed=1)


def test_scores_of_a_file_that_has_changed_since_are_not_reused(measured, smoke_bundle, smoke_run, tmp_path):
    table = Manifest.read(smoke_run / "manifest.csv").where("split == 'test'").table
    table = table.groupby("label").head(2)
    for name, root, path in zip("abcd", table["root"], table["path"], strict=True):
        shutil.copy(Path(root) / path, tmp_path / f"{name}.mp4")
    rows = pd.DataFrame({"path": [f"{name}.mp4" for name in "abcd"], "label": table["label"].to_numpy()})
    rows.assign(split="test", source=list("abcd")).to_csv(tmp_path / "m.csv", index=False)
    request = (smoke_bundle, tmp_path / "m.csv", tmp_path / "out", parse_conditions("mulaw"), quiet)
    measure_robustness(*request, workers=0, resamples=20)
    shutil.copy(tmp_path / "d.mp4", tmp_path / "a.mp4")
    with pytest.raises(ConfigError, match=r"results of another request \(clips differ"):
        measure_robustness(*request, workers=0, resamples=20)


def test_data_that_cannot_be_measured_gets_a_sentence(smoke_bundle, smoke_run, tmp_path):
    conditions = parse_conditions("mulaw")
    with pytest.raises(
        DataError, match="has no dev split, only test, train, val: choose another, or --split all"
    ):
        measure_robustness(smoke_bundle, smoke_run / "manifest.csv", tmp_path, conditions, quiet, split="dev")
    one_class = tmp_path / "fakes.csv"
    Manifest.read(smoke_run / "manifest.csv").where("label == 1").write(one_class)
    with pytest.raises(DataError, match="one class alone"):
        measure_robustness(smoke_bundle, one_class, tmp_path / "o", conditions, quiet, workers=0)


def test_the_command(measured, smoke_bundle, smoke_run, run_python, tmp_path):
    out, table = measured
    command = ("-m", "avdetect", "robustness", str(smoke_bundle), "--data", str(smoke_run / "manifest.csv"))
    done = run_python(*command, "--out", str(out), "--degrade", "h264:40", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["degradation"] for row in rows} == {"clean", "h264"}
    unnamed = (*command[:3], *command[4:], "--out", str(out), "--degrade", "h264:40", "--json")
    again = CliRunner().invoke(cli.app, unnamed[2:], env={"AVDETECT_BUNDLE": str(smoke_bundle)})
    assert again.stdout == done.stdout and f"using the detector in {smoke_bundle}" in again.stderr
