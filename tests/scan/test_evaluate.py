"""`avdetect evaluate` on a small set of voices, with a detector of random weights."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from avdetect import cli
from avdetect.data import Manifest
from avdetect.data.prepare import prepare
from avdetect.encoders import create_encoder
from avdetect.errors import ConfigError, DataError
from avdetect.evaluation import Calibration, metrics
from avdetect.evidence import feature_dims
from avdetect.fusion import FusionHead
from avdetect.inference import Bundle, Detector, load_bundle, save_bundle
from avdetect.media import ClipSettings
from avdetect.scan.clip_scores import Options
from avdetect.scan.evaluate import evaluate, evaluate_scorefile

ROOT = Path(__file__).resolve().parents[2]
CLIPS = 24
FAST = {"workers": 0, "resamples": 30}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    encoders = {"audio": create_encoder("mel_cnn_tiny").eval()}
    band = {"real_below": 0.4, "fake_above": 0.6}
    made = Bundle(
        encoders, FusionHead(feature_dims(encoders)).eval(), ClipSettings(),
        {name: Calibration("platt", 30.0, 0.0) for name in ("fused", "audio")},
        {name: band for name in ("fused", "audio")},
        {"name": "voices", "datasets": ["Elsewhere"], "warnings": [], "training_data": ["Elsewhere  audio"],
         "selected_on": "validation"},
    )  # fmt: skip
    save_bundle(made, tmp_path_factory.mktemp("bundle") / "bundle")
    return next(tmp_path_factory.getbasetemp().glob("bundle*/bundle"))


@pytest.fixture(autouse=True)
def unpainted(monkeypatch):
    """Pictures take most of the time: only the module's own fixture, made before this one, draws them."""
    monkeypatch.setattr("avdetect.scan.evaluate.draw_all", lambda *_: {})


def write_set(folder: Path, name: str, seed: int, count: int = CLIPS, seconds: float = 1.0) -> Path:
    """Noise of two colours with silence before it; two files that cannot be read, one that is not there."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(count):
        label = k % 2
        noise = rng.normal(0, 0.2, round(16000 * seconds))
        sound = np.concatenate([np.zeros(4000), np.cumsum(noise) / 10 if label else noise])
        soundfile.write(folder / f"{k:03d}.wav", sound / np.abs(sound).max() / 2, 16000)
        rows.append({
            "path": f"{k:03d}.wav", "label": label, "audio_label": label, "split": "test" if k > 1 else "train",
            "source": f"s{k // 2}", "method": "brown" if label else None, "dataset": name,
            "quality": "high" if k % 4 < 2 else "low", "fancy": f"f{k % 3}",
        })  # fmt: skip
    for k, content in (("bad", b"no sound"), ("gone", None)):
        if content is not None:
            (folder / f"{k}.wav").write_bytes(content)
        rows.append({"path": f"{k}.wav", "label": 1, "split": "test", "source": k, "dataset": name})
    Manifest(pd.DataFrame(rows), root=folder).check().write(folder / "manifest.csv")
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def voices(tmp_path_factory) -> Path:
    return write_set(tmp_path_factory.mktemp("sets") / "voices", "Voices", 0)


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Path:
    return write_set(tmp_path_factory.mktemp("sets") / "others", "Others", 1)


@pytest.fixture(scope="module")
def done(bundle, voices, others, tmp_path_factory):
    """Two sets evaluated with everything switched on."""
    out = tmp_path_factory.mktemp("out")
    values = evaluate(
        bundle,
        [voices, others],
        out,
        by=["quality"],
        options=Options(trim_silence=True),
        export="asvspoof",
        **FAST,
    )
    return out, values


def without(values: dict, *names: str) -> dict:
    return {key: value for key, value in values.items() if key not in names}


def test_scores_are_those_of_prediction(done, bundle, voices):
    scores = pd.read_parquet(done[0] / "scores.parquet").set_index(["test_set", "key"])
    detector = Detector.load(bundle)
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


def test_prepared_clips_give_the_same_scores_without_their_files(bundle, tmp_path):
    manifest = write_set(tmp_path / "set", "Voices", 0, count=8)
    fresh = evaluate(bundle, [manifest], tmp_path / "one", **FAST)
    still = {"workers": 0, "progress": False}
    prepare(Manifest.read(manifest), tmp_path / "prepared", load_bundle(bundle).clip, **still)
    for file in (tmp_path / "set").glob("00*.wav"):
        file.unlink()
    again = evaluate(bundle, [manifest], tmp_path / "two", prepared=[tmp_path / "prepared"], **FAST)
    assert without(again["sets"]["Voices"], "unread") == without(fresh["sets"]["Voices"], "unread")
    prepare(Manifest.read(manifest), tmp_path / "other", ClipSettings(crop_size=64), **still)
    with pytest.raises(DataError, match="other clip settings than the bundle's .crop_size 64, not 224"):
        evaluate(bundle, [manifest], tmp_path / "three", prepared=[tmp_path / "other"], **FAST)


def test_killed_and_restarted_it_ends_with_the_same_result(bundle, tmp_path):
    """A real process, killed while it scores; what it has written down is not done again."""
    manifest = write_set(tmp_path / "set", "Long", 5, count=40, seconds=20)
    out, journal = tmp_path / "killed", tmp_path / "killed" / "journal.jsonl"
    command = ["evaluate", str(bundle), "--data", str(manifest), "--out", str(out), "--workers", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "avdetect", *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )
    while not journal.exists() or journal.read_bytes().count(b"\n") < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    first = journal.read_bytes()
    whole = first[: first.rfind(b"\n") + 1]
    assert whole.count(b"\n") < 38, "it was through before it was killed"
    assert not (out / "metrics.json").exists()
    journal.write_bytes(whole + b'{"id": "torn by a power')
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 1 and "1 unreadable, 1 missing" in done.stdout
    lines = journal.read_bytes()
    assert lines.startswith(whole) and lines.count(b"\n") == 39  # 38 clips that can be read, and the bad one
    evaluate(bundle, [manifest], tmp_path / "whole", workers=0)
    assert (out / "metrics.json").read_bytes() == (tmp_path / "whole" / "metrics.json").read_bytes()
    tables = [pd.read_parquet(folder / "scores.parquet") for folder in (out, tmp_path / "whole")]
    pd.testing.assert_frame_equal(*tables)


def test_a_journal_counts_for_the_same_file_and_detector_alone(bundle, tmp_path):
    manifest = write_set(tmp_path / "set", "Voices", 0, count=6)
    evaluate(bundle, [manifest], tmp_path / "out", **FAST)
    journal = tmp_path / "out" / "journal.jsonl"
    count = journal.read_text().count("\n")
    evaluate(bundle, [manifest], tmp_path / "out", **FAST)
    assert journal.read_text().count("\n") == count + 1  # the unreadable one was tried again
    soundfile.write(tmp_path / "set" / "002.wav", np.random.default_rng(9).normal(0, 0.1, 30000), 16000)
    evaluate(bundle, [manifest], tmp_path / "out", **FAST)
    assert journal.read_text().count("\n") == count + 3
    evaluate(bundle, [manifest], tmp_path / "out", options=Options(trim_silence=True), **FAST)
    assert journal.read_text().count("\n") == count + 3 + 5
    card = json.loads((shutil.copytree(bundle, tmp_path / "bundle") / "card.json").read_text())
    card["encoders"]["audio"]["preprocess"]["hop_s"] /= 2  # the same weights, other windows, other logits
    (tmp_path / "bundle" / "card.json").write_text(json.dumps(card))
    count = journal.read_text().count("\n")
    evaluate(tmp_path / "bundle", [manifest], tmp_path / "out", **FAST)
    assert journal.read_text().count("\n") == count + 5
    journal.write_text("{}\n" + journal.read_text())
    with pytest.raises(DataError, match=r"journal\.jsonl line 1 is damaged"):
        evaluate(bundle, [manifest], tmp_path / "out", **FAST)


@pytest.mark.slow
def test_workers_give_the_same_numbers(bundle, voices, done, tmp_path):
    values = evaluate(bundle, [voices], tmp_path / "out", workers=2, resamples=30)
    columns = ["key", "score", "score_logit", "audio_logit", "status"]
    tables = [pd.read_parquet(folder / "scores.parquet") for folder in (tmp_path / "out", done[0])]
    theirs = tables[1][tables[1]["test_set"] == "Voices"].reset_index(drop=True)
    pd.testing.assert_frame_equal(tables[0][columns], theirs[columns], rtol=1e-5)
    assert values["sets"]["Voices"]["n_clips"] == CLIPS


def test_what_was_trained_on_is_told(bundle, tmp_path, voices):
    run = tmp_path / "run"
    run.mkdir()
    seen = Manifest.read(voices).table.assign(split="train")
    Manifest(seen).write(run / "manifest.csv")
    from avdetect.weights import sha256_file

    card = {
        **load_bundle(bundle).card,
        "manifest_sha256": sha256_file(run / "manifest.csv"),
        "datasets": ["Voices"],
    }
    loaded = load_bundle(bundle)
    loaded.card = {k: v for k, v in card.items() if k in ("name", "manifest_sha256", "datasets")}
    save_bundle(loaded, run / "bundle")
    values = evaluate(run / "bundle", [voices], tmp_path / "out", **FAST)
    assert sum("trained or chosen on" in text for text in values["warnings"]) == 2  # clips, sources
    (run / "manifest.csv").unlink()
    values = evaluate(run / "bundle", [voices], tmp_path / "out", **FAST)
    assert any("its training manifest is not beside the bundle" in text for text in values["warnings"])
    values = evaluate(run / "bundle", [voices], tmp_path / "out", split="train", **FAST)
    assert any("it is there to be learned or chosen on" in text for text in values["warnings"])


def test_the_shortcut_audit_stands_in_metrics_and_page(bundle, tmp_path):
    manifest = write_set(tmp_path / "set", "Voices", 0, count=6)
    entry = {
        "auc": {"value": 0.91, "low": 0.85, "high": 0.96},
        "direction": "fakes are longer",
        "flagged": True,
    }
    audit = {"shortcuts": {"duration": entry}, "joined": entry | {"flagged": False}}
    (manifest.parent / "audit.json").write_text(json.dumps(audit))
    values = evaluate(bundle, [manifest], tmp_path / "out", **FAST)
    (told,) = [text for text in values["warnings"] if "duration alone" in text]
    assert told in (tmp_path / "out" / "evaluation.html").read_text()
    (manifest.parent / "audit.json").write_text("[]")
    with pytest.raises(DataError, match="cannot be read as a shortcut audit"):
        evaluate(bundle, [manifest], tmp_path / "out", **FAST)


@pytest.mark.parametrize(
    ("options", "kind", "sentence"),
    [
        ({"split": "dev"}, ConfigError, "unknown split 'dev': choose of train, val, test, all"),
        ({"split": "val"}, DataError, "has no clip in the split val .it has 24 test, 2 train."),
        ({"export": "csv"}, ConfigError, "unknown layout of score files 'csv'"),
        ({"by": ["shoe_size"]}, ConfigError, "no manifest column is called 'shoe_size'"),
        ({"audit": "no/such.json"}, DataError, "no/such.json cannot be read"),
        ({"data": []}, ConfigError, "nothing to evaluate on"),
    ],
)
def test_wrong_options_get_a_sentence(bundle, voices, tmp_path, options, kind, sentence):
    data = options.pop("data", [voices])
    with pytest.raises(kind, match=sentence):
        evaluate(bundle, data, tmp_path / "out", **{**FAST, **options})


def test_two_evaluations_do_not_write_into_one_folder(bundle, voices, tmp_path):
    from avdetect.scan.evaluate import _locked

    with _locked(tmp_path / "out"), pytest.raises(ConfigError, match="another evaluation is writing"):
        evaluate(bundle, [voices], tmp_path / "out", **FAST)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--scores", "x.txt", "--trim-silence"), "with --scores no media are read"),
        (("BUNDLE", "--layout", "asvspoof"), "--layout belongs to --scores"),
    ],
)
def test_the_command_line_says_what_goes_together(voices, arguments, sentence):
    done = CliRunner().invoke(cli.app, ["evaluate", *arguments, "--data", str(voices)])
    assert isinstance(done.exception, ConfigError) and sentence in str(done.exception)


def test_the_command_line_takes_several_manifests_after_one_data(bundle, voices, others, tmp_path):
    command = [
        "evaluate",
        str(bundle),
        "--data",
        str(voices),
        str(others),
        "--workers",
        "0",
        "--by",
        "quality, ",
    ]
    done = CliRunner().invoke(cli.app, [*command, "--out", str(tmp_path / "out")])
    assert done.exit_code == 1, done.exception  # clips that cannot be read
    values = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(values["sets"]) == {"Voices", "Others"} and "quality" in values["sets"]["Others"]["groups"]
    assert "Others: 24 clips, 1 unreadable, 1 missing" in done.stdout


def test_a_detector_that_is_not_named_is_the_environments(bundle, voices, others, tmp_path, monkeypatch):
    """Without a folder all paths are manifests, and it is said whose figures these are."""
    monkeypatch.setenv("AVDETECT_BUNDLE", str(bundle))
    command = [
        "evaluate",
        "--data",
        str(voices),
        str(others),
        "--workers",
        "0",
        "--out",
        str(tmp_path / "out"),
    ]
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 1, done.exception  # clips that cannot be read
    assert f"avdetect: using the detector in {bundle}" in done.stderr
    values = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(values["sets"]) == {"Voices", "Others"} and values["bundle"]["folder"] == str(bundle)


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
