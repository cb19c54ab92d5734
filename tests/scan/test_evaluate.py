"""`avdetect evaluate` on a small set of voices, with a detector of random weights: what it measures."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from avdetect.data import Manifest
from avdetect.errors import DataError
from avdetect.evaluation import metrics
from avdetect.inference import Detector, load_bundle, save_bundle
from avdetect.scan.clip_scores import Options
from avdetect.scan.evaluate import evaluate, evaluate_scorefile

ROOT = Path(__file__).resolve().parents[2]
FAST = {"workers": 0, "resamples": 30}
pytestmark = pytest.mark.usefixtures("unpainted")
CLIPS = 24


@pytest.fixture(scope="module")
def done(voice_bundle, voices, others, tmp_path_factory):
    """Two sets evaluated with everything switched on."""
    out = tmp_path_factory.mktemp("out")
    values = evaluate(
        voice_bundle,
        [voices, others],
        out,
        by=["quality"],
        options=Options(trim_silence=True),
        export="asvspoof",
        **FAST,
    )
    return out, values


def test_scores_are_those_of_prediction(done, voice_bundle, voices):
    scores = pd.read_parquet(done[0] / "scores.parquet").set_index(["test_set", "key"])
    detector = Detector.load(voice_bundle)
    for name in ("002.wav", "003.wav"):
        row = scores.loc[("Voices", f"Voices/{name}")]
        verdict = detector.predict(voices.parent / name)
        assert row["score"] == verdict.score == row["audio"] and row["decided_by"] == "audio"


def test_metrics_are_of_the_test_split_alone(done):
    out, values = done
    assert json.loads((out / "metrics.json").read_text()) == values
    assert set(values["sets"]) == {"Voices", "Others"} and values["split"] == "test"
    result = values["sets"]["Voices"]
    table = pd.read_parquet(out / "scores.parquet")
    mine = table[table["test_set"] == "Voices"]
    assert len(mine) == result["n_clips"] == CLIPS and set(mine["split"]) == {"test"}
    scored = mine[mine["score"].notna()]
    auc = result["clips"]["fused"]["overall"]["roc_auc"]["value"]
    assert auc == metrics.roc_auc(scored["label"], scored["score"])
    assert values["matrix"]["fused"]["Voices"]["roc_auc"]["value"] == auc
    assert set(result["groups"]["quality"]) == {"high", "low", "not known"}
    assert [g["group"] for g in result["fairness"]["quality"]["groups"]]
    assert {"clip_mean_logit", "clip_max", "frame"} <= set(result["frames"]["audio"])
    assert values["bundle"]["selected_on"] == "validation" and values["bundle"]["trained_on"] == [
        "Elsewhere  audio"
    ]


def test_unreadable_clips_are_rows_with_a_reason_and_never_scored(done):
    out, values = done
    result = values["sets"]["Voices"]
    assert (result["n_unreadable"], result["n_missing"]) == (1, 1)
    table = pd.read_parquet(out / "scores.parquet")
    lost = table[(table["test_set"] == "Voices") & (table["status"] != "ok")].set_index("status")
    assert lost["score"].isna().all() and lost["audio"].isna().all() and lost["audio_logit"].isna().all()
    assert "bad.wav" in lost.loc["unreadable", "error"] and "gone.wav" in lost.loc["missing", "error"]
    unscored = result["clips"]["fused"]["unscored"]
    assert unscored["n"] == 2 and set(unscored["reasons"]) == {
        "the file could not be read", "the file is not there",
    }  # fmt: skip
    assert result["clips"]["fused"]["overall"]["n"] == CLIPS - 2


def test_voices_are_measured_with_and_without_silence(done):
    clips = done[1]["sets"]["Voices"]["clips"]
    table = pd.read_parquet(done[0] / "scores.parquet").dropna(subset=["score"])
    assert (table["audio_trimmed"] != table["audio"]).mean() > 0.5
    assert clips["audio, trimmed"]["overall"]["n"] == clips["audio"]["overall"]["n"] == CLIPS - 2


def test_score_files_rise_with_bona_fide(done):
    out, values = done
    said = values["exported"]["files"]["Voices"]
    lines = [line.split() for line in (out / said["file"]).read_text().splitlines()]
    assert len(lines) == said["clips"] == CLIPS - 2 and said["left_out"] == 2
    table = pd.read_parquet(out / "scores.parquet")
    table = table[table["test_set"] == "Voices"].set_index("path")
    assert all(float(score) == -table.loc[f"{name}.wav", "score_logit"] for name, score in lines)


def test_the_exported_file_evaluated_alone_gives_the_same_order(done, voices, tmp_path):
    out, values = done
    file = out / values["exported"]["files"]["Voices"]["file"]
    again = evaluate_scorefile(file, [voices], tmp_path / "o", resamples=30)
    mine, theirs = (v["sets"]["Voices"]["clips"]["fused"]["overall"] for v in (values, again))
    assert theirs["roc_auc"] == mine["roc_auc"] and theirs["eer"] == mine["eer"]
    assert theirs["log_loss"]["value"] is None and not again["sets"]["Voices"]["calibrated"]
    assert again["sets"]["Voices"]["clips"]["fused"]["unscored"]["reasons"] == {"not in the score file": 2}
    assert any("only their order is measured" in text for text in again["warnings"])
    assert (tmp_path / "o" / "evaluation.html").exists()


def test_a_file_of_probabilities_is_measured_as_such(voices, tmp_path):
    lines = "".join(f"{k:03d}.wav;{0.25 + 0.5 * (k % 2)}\n" for k in range(CLIPS)) + "stranger.wav;0.5\n"
    (tmp_path / "p.txt").write_text(lines)
    values = evaluate_scorefile(tmp_path / "p.txt", [voices], tmp_path / "o", resamples=30)
    result = values["sets"]["Voices"]
    assert result["calibrated"] and result["clips"]["fused"]["overall"]["accuracy"]["value"] == 1.0
    assert any("3 of 25 lines" in text for text in values["warnings"])
    (tmp_path / "q.txt").write_text("nobody.wav;0.5\n")
    with pytest.raises(DataError, match="has no clip of"):
        evaluate_scorefile(tmp_path / "q.txt", [voices], tmp_path / "o2")


def test_plots_and_page_are_there_and_need_nothing_from_outside(done):
    out, _ = done
    plots = {path.relative_to(out / "plots").as_posix() for path in (out / "plots").rglob("*.png")}
    expected = (
        "roc precision_recall det calibration recalibration score_histogram coverage_risk confusion_matrix"
    )
    expected = [*expected.split(), "verdicts", "methods", "group_quality", "embeddings_audio", "spectrograms"]
    assert plots == {"matrix.png"} | {
        f"{name}/{plot}.png" for name in ("Voices", "Others") for plot in expected
    }
    page = (out / "evaluation.html").read_text()
    assert page.count("data:image/png;base64,") == len(plots)
    assert (
        not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
        and "<script" not in page
        and not re.search(r"url\((?!#)", page)
    )
    for text in ("Voices", "Others", "bad.wav", "Every test set", "brown"):
        assert text in page
    assert "Content-Security-Policy" in page


@pytest.mark.slow
def test_workers_give_the_same_numbers(voice_bundle, voices, done, tmp_path):
    values = evaluate(voice_bundle, [voices], tmp_path / "out", workers=2, resamples=30)
    columns = ["key", "score", "score_logit", "audio_logit", "status"]
    tables = [pd.read_parquet(folder / "scores.parquet") for folder in (tmp_path / "out", done[0])]
    theirs = tables[1][tables[1]["test_set"] == "Voices"].reset_index(drop=True)
    pd.testing.assert_frame_equal(tables[0][columns], theirs[columns], rtol=1e-5)
    assert values["sets"]["Voices"]["n_clips"] == CLIPS


def test_what_was_trained_on_is_told(voice_bundle, tmp_path, voices):
    run = tmp_path / "run"
    run.mkdir()
    seen = Manifest.read(voices).table.assign(split="train")
    Manifest(seen).write(run / "manifest.csv")
    from avdetect.weights import sha256_file

    card = {
        **load_bundle(voice_bundle).card,
        "manifest_sha256": sha256_file(run / "manifest.csv"),
        "datasets": ["Voices"],
    }
    loaded = load_bundle(voice_bundle)
    loaded.card = {k: v for k, v in card.items() if k in ("name", "manifest_sha256", "datasets")}
    save_bundle(loaded, run / "bundle")
    values = evaluate(run / "bundle", [voices], tmp_path / "out", **FAST)
    assert sum("trained or chosen on" in text for text in values["warnings"]) == 2  # clips, sources
    (run / "manifest.csv").unlink()
    values = evaluate(run / "bundle", [voices], tmp_path / "out", **FAST)
    assert any("its training manifest is not beside the bundle" in text for text in values["warnings"])
    values = evaluate(run / "bundle", [voices], tmp_path / "out", split="train", **FAST)
    assert any("it is there to be learned or chosen on" in text for text in values["warnings"])


def test_the_shortcut_audit_stands_in_metrics_and_page(voice_bundle, tmp_path, write_voices):
    manifest = write_voices(tmp_path / "set", "Voices", 0, count=6)
    entry = {
        "auc": {"value": 0.91, "low": 0.85, "high": 0.96},
        "direction": "fakes are longer",
        "flagged": True,
    }
    audit = {"shortcuts": {"duration": entry}, "joined": entry | {"flagged": False}}
    (manifest.parent / "audit.json").write_text(json.dumps(audit))
    values = evaluate(voice_bundle, [manifest], tmp_path / "out", **FAST)
    (told,) = [text for text in values["warnings"] if "duration alone" in text]
    assert told in (tmp_path / "out" / "evaluation.html").read_text()
    (manifest.parent / "audit.json").write_text("[]")
    with pytest.raises(DataError, match="cannot be read as a shortcut audit"):
        evaluate(voice_bundle, [manifest], tmp_path / "out", **FAST)


@pytest.mark.slow
def test_an_audio_visual_detector_scores_as_its_recipe_did(smoke_run, tmp_path):
    values = evaluate(smoke_run / "bundle", [smoke_run / "manifest.csv"], tmp_path / "out", **FAST)
    mine = pd.read_parquet(tmp_path / "out" / "scores.parquet").set_index("key")
    theirs = pd.read_parquet(smoke_run / "scores.parquet").set_index("key").loc[mine.index]
    for column in ("score", "visual", "audio", "lipsync"):
        np.testing.assert_allclose(mine[column], theirs[column].astype(float), rtol=1e-4)
    assert values["warnings"] and not any("trained or chosen on" in text for text in values["warnings"])


def test_what_a_detector_was_chosen_on_is_never_guessed():
    from avdetect.scan.test_sets import selected_on

    assert selected_on({"selected_on": "validation"}) == "validation"
    assert selected_on({}) == "not recorded on the detector's card"
