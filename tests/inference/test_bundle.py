"""Detectors on disk: what is damaged is named, what is there is found."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avdetect import Detector
from avdetect.errors import WeightsError
from avdetect.inference import card as cards
from avdetect.inference import choose_bundle, find_bundle, load_bundle, save_bundle
from avdetect.inference.scoring import fused_logits


@pytest.fixture
def copy(smoke_bundle, tmp_path):
    shutil.copytree(smoke_bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


def test_card_says_what_the_detector_is(smoke_bundle):
    card = json.loads((smoke_bundle / "card.json").read_text())
    assert card["schema"] == "avdetect.bundle/1" and card["licence"]
    assert {line.split("  ")[2] for line in card["training_data"]} == {"train", "val"}  # never the test split
    assert set(card["encoders"]) == {"visual", "audio", "lipsync"}
    assert set(card["calibration"]) == set(card["thresholds"]) == {"fused", "visual", "audio", "lipsync"}
    assert {"value", "low", "high"} <= set(card["metrics"]["clips"]["fused"]["roc_auc"])
    assert not list(smoke_bundle.rglob("*.p*t*h"))  # no pickles


def test_saved_again_it_says_the_same(smoke_bundle, tmp_path, demo_clips):
    bundle = load_bundle(smoke_bundle)
    save_bundle(bundle, tmp_path / "again")
    verdicts = [
        Detector.load(folder).predict(demo_clips[0]).to_dict()
        for folder in (smoke_bundle, tmp_path / "again")
    ]
    for verdict in verdicts:
        del verdict["timing_s"], verdict["bundle"]
    assert verdicts[0] == verdicts[1]


def test_prediction_equals_the_recipes_own_score(smoke_run, demo_clips):
    """Training and prediction read media and join modalities in one way."""
    import pandas as pd

    scores = pd.read_parquet(smoke_run / "scores.parquet").set_index("key")["score"]
    detector = Detector.load(smoke_run / "bundle")
    names = {key.rsplit("/", 1)[1]: score for key, score in scores.items()}
    tested = [clip for clip in demo_clips if clip.name in names][:2]
    assert tested
    for clip in tested:
        assert detector.predict(clip).score == pytest.approx(names[clip.name], abs=1e-4)


def test_one_modality_alone_speaks_with_its_own_calibration(smoke_bundle, tmp_path, demo_clips):
    from PIL import Image

    from avdetect.media import frames_at

    ((_, frame),) = frames_at(demo_clips[0], [0.5])
    Image.fromarray(frame).save(tmp_path / "face.png")
    verdict = Detector.load(smoke_bundle).predict(tmp_path / "face.png")
    assert verdict.kind == "image" and verdict.score == verdict.modalities["visual"].score is not None
    assert verdict.modalities["audio"].score is None and verdict.modalities["audio"].reason


def test_nothing_judged_is_not_a_number(smoke_bundle):
    from avdetect.evidence import Evidence

    logits = fused_logits(load_bundle(smoke_bundle).fusion, [Evidence([], None, None)])
    assert all(np.isnan(values).all() for values in logits.values())


def test_a_changed_file_is_refused(copy):
    weights = copy / "audio.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(WeightsError, match=r"audio.safetensors is not the file .*SHA-256 differs"):
        load_bundle(copy)


def test_a_missing_file_is_named(copy):
    (copy / "fusion.safetensors").unlink()
    with pytest.raises(WeightsError, match="lacks fusion.safetensors"):
        load_bundle(copy)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "not valid JSON"),
        ("[]", "not of schema"),
        ('{"schema": "avdetect.bundle/1"}', "does not describe"),
    ],
)
def test_a_broken_card_is_named(copy, text, sentence):
    (copy / "card.json").write_text(text)
    with pytest.raises(WeightsError, match=sentence):
        load_bundle(copy)


def test_a_folder_without_a_card_is_no_bundle(tmp_path):
    with pytest.raises(WeightsError, match="no card.json"):
        load_bundle(tmp_path)


def test_named_then_environment_then_builtin(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cards, "BUILTIN_FOLDER", tmp_path / "shipped")
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "card.json").write_text(
        json.dumps({"schema": cards.SCHEMA, "name": "b", "licence": "l"})
    )
    _a_run_in(tmp_path, "a")
    monkeypatch.delenv("AVDETECT_BUNDLE", raising=False)
    assert find_bundle() == find_bundle("builtin") == tmp_path / "shipped"  # never silently one below ./runs
    monkeypatch.setenv("AVDETECT_BUNDLE", "elsewhere")
    assert str(find_bundle()) == "elsewhere" and find_bundle("builtin") == tmp_path / "shipped"
    assert str(find_bundle("named")) == "named"
    assert find_bundle(Path("builtin")) == Path("builtin")  # a path is a folder, whatever its name
    monkeypatch.setenv("AVDETECT_BUNDLE", "latest")
    assert find_bundle().parts[-2] == "a"


def test_the_latest_below_runs_must_be_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        WeightsError, match="no trained detector is below ./runs.*avdetect.recipes.dfdc_fusion"
    ):
        find_bundle("latest")
    _a_run_in(tmp_path, "a")
    os.utime(_a_run_in(tmp_path, "b"), (2_000_000_000, 2_000_000_000))
    _a_run_in(tmp_path, "c")
    assert find_bundle("latest").parts[-2] == "b"


def _a_run_in(folder, name):
    path = folder / "runs" / "r" / name / "bundle" / "card.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    return path


def test_an_installation_without_the_builtin_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "BUILTIN_FOLDER", tmp_path)
    monkeypatch.delenv("AVDETECT_BUNDLE", raising=False)
    for load in (Detector.load, lambda: Detector.load("builtin")):
        with pytest.raises(WeightsError, match="lacks the built-in detector .* install avdetect again"):
            load()


def test_a_detector_that_was_not_named_introduces_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "BUILTIN_FOLDER", tmp_path)
    monkeypatch.delenv("AVDETECT_BUNDLE", raising=False)
    (tmp_path / "card.json").write_text(
        json.dumps({"schema": cards.SCHEMA, "name": "b-1", "licence": "research"})
    )
    said = []
    assert choose_bundle(None, said.append) == choose_bundle("builtin", said.append) == tmp_path
    assert len(said) == 2 and "built-in detector b-1 (licence of its weights: research)" in said[1]
    monkeypatch.setenv("AVDETECT_BUNDLE", "elsewhere")
    choose_bundle(None, said.append)
    assert said[2:] == ["using the detector in elsewhere"]
    choose_bundle("named", said.append)
    assert len(said) == 3


def test_a_write_that_fails_leaves_the_old_bundle_and_no_rest(untrained, untrained_folder, tmp_path):
    shutil.copytree(untrained_folder, tmp_path / "bundle")
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_bundle(replace(untrained, card={"seed": float("nan")}), tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert load_bundle(tmp_path / "bundle").card["name"] == "untrained"


def test_showing_a_card_does_not_import_torch(untrained_folder):
    code = (
        "import sys; from typer.testing import CliRunner; from avdetect.cli import app\n"
        f"assert CliRunner().invoke(app, ['bundle', 'show', {str(untrained_folder)!r}]).exit_code == 0\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
