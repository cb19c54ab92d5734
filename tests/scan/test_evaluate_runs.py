"""Runs of `avdetect evaluate`: killed and continued, from prepared clips, with options that do not fit."""

import json
import os
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
from typer.testing import CliRunner

from avdetect import cli
from avdetect.data import Manifest
from avdetect.data.prepare import prepare
from avdetect.errors import ConfigError, DataError
from avdetect.inference import load_bundle
from avdetect.media import ClipSettings
from avdetect.scan.clip_scores import Options
from avdetect.scan.evaluate import evaluate

ROOT = Path(__file__).resolve().parents[2]
FAST = {"workers": 0, "resamples": 30}
pytestmark = pytest.mark.usefixtures("unpainted")


def without(values: dict, *names: str) -> dict:
    return {key: value for key, value in values.items() if key not in names}


def test_prepared_clips_give_the_same_scores_without_their_files(voice_bundle, tmp_path, write_voices):
    manifest = write_voices(tmp_path / "set", "Voices", 0, count=8)
    fresh = evaluate(voice_bundle, [manifest], tmp_path / "one", **FAST)
    still = {"workers": 0, "progress": False}
    prepare(Manifest.read(manifest), tmp_path / "prepared", load_bundle(voice_bundle).clip, **still)
    for file in (tmp_path / "set").glob("00*.wav"):
        file.unlink()
    again = evaluate(voice_bundle, [manifest], tmp_path / "two", prepared=[tmp_path / "prepared"], **FAST)
    assert without(again["sets"]["Voices"], "unread") == without(fresh["sets"]["Voices"], "unread")
    prepare(Manifest.read(manifest), tmp_path / "other", ClipSettings(crop_size=64), **still)
    with pytest.raises(DataError, match="other clip settings than the bundle's .crop_size 64, not 224"):
        evaluate(voice_bundle, [manifest], tmp_path / "three", prepared=[tmp_path / "other"], **FAST)


def test_killed_and_restarted_it_ends_with_the_same_result(voice_bundle, tmp_path, write_voices):
    """A real process, killed while it scores; what it has written down is not done again."""
    manifest = write_voices(tmp_path / "set", "Long", 5, count=24, seconds=10)
    out, journal = tmp_path / "killed", tmp_path / "killed" / "journal.jsonl"
    command = ["evaluate", str(voice_bundle), "--data", str(manifest), "--out", str(out), "--workers", "0"]
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
    assert whole.count(b"\n") < 22, "it was through before it was killed"
    assert not (out / "metrics.json").exists()
    journal.write_bytes(whole + b'{"id": "torn by a power')
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 1 and "1 unreadable, 1 missing" in done.stdout
    lines = journal.read_bytes()
    assert lines.startswith(whole) and lines.count(b"\n") == 23  # 22 clips that can be read, and the bad one
    evaluate(voice_bundle, [manifest], tmp_path / "whole", workers=0)
    assert (out / "metrics.json").read_bytes() == (tmp_path / "whole" / "metrics.json").read_bytes()
    tables = [pd.read_parquet(folder / "scores.parquet") for folder in (out, tmp_path / "whole")]
    pd.testing.assert_frame_equal(*tables)


def test_a_journal_counts_for_the_same_file_and_detector_alone(voice_bundle, tmp_path, write_voices):
    manifest = write_voices(tmp_path / "set", "Voices", 0, count=6)
    evaluate(voice_bundle, [manifest], tmp_path / "out", **FAST)
    journal = tmp_path / "out" / "journal.jsonl"
    count = journal.read_text().count("\n")
    evaluate(voice_bundle, [manifest], tmp_path / "out", **FAST)
    assert journal.read_text().count("\n") == count + 1  # the unreadable one was tried again
    soundfile.write(tmp_path / "set" / "002.wav", np.random.default_rng(9).normal(0, 0.1, 30000), 16000)
    evaluate(voice_bundle, [manifest], tmp_path / "out", **FAST)
    assert journal.read_text().count("\n") == count + 3
    evaluate(voice_bundle, [manifest], tmp_path / "out", options=Options(trim_silence=True), **FAST)
    assert journal.read_text().count("\n") == count + 3 + 5
    card = json.loads((shutil.copytree(voice_bundle, tmp_path / "bundle") / "card.json").read_text())
    card["encoders"]["audio"]["preprocess"]["hop_s"] /= 2  # the same weights, other windows, other logits
    (tmp_path / "bundle" / "card.json").write_text(json.dumps(card))
    count = journal.read_text().count("\n")
    evaluate(tmp_path / "bundle", [manifest], tmp_path / "out", **FAST)
    assert journal.read_text().count("\n") == count + 5
    journal.write_text("{}\n" + journal.read_text())
    with pytest.raises(DataError, match=r"journal\.jsonl line 1 is damaged"):
        evaluate(voice_bundle, [manifest], tmp_path / "out", **FAST)


def test_two_evaluations_do_not_write_into_one_folder(voice_bundle, voices, tmp_path):
    from avdetect.scan.evaluate import _locked

    with _locked(tmp_path / "out"), pytest.raises(ConfigError, match="another evaluation is writing"):
        evaluate(voice_bundle, [voices], tmp_path / "out", **FAST)


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
def test_wrong_options_get_a_sentence(voice_bundle, voices, tmp_path, options, kind, sentence):
    data = options.pop("data", [voices])
    with pytest.raises(kind, match=sentence):
        evaluate(voice_bundle, data, tmp_path / "out", **{**FAST, **options})


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


def test_the_command_line_takes_several_manifests_after_one_data(voice_bundle, voices, others, tmp_path):
    command = [
        "evaluate",
        str(voice_bundle),
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


def test_a_detector_that_is_not_named_is_the_environments(
    voice_bundle, voices, others, tmp_path, monkeypatch
):
    """Without a folder all paths are manifests, and it is said whose figures these are."""
    monkeypatch.setenv("AVDETECT_BUNDLE", str(voice_bundle))
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
    assert f"avdetect: using the detector in {voice_bundle}" in done.stderr
    values = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(values["sets"]) == {"Voices", "Others"} and values["bundle"]["folder"] == str(voice_bundle)
