"""Detectors on disk: what is damaged is named, what is there is found."""

import json
import shutil

import numpy as np
import pytest

from avdetect import Detector
from avdetect.errors import WeightsError
from avdetect.inference import find_bundle, load_bundle, save_bundle
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


def test_the_newest_below_runs_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AVDETECT_BUNDLE", raising=False)
    with pytest.raises(WeightsError, match="avdetect.recipes.dfdc_fusion"):
        find_bundle()
    for name in ("a", "b"):
        folder = tmp_path / "runs" / "r" / name / "bundle"
        folder.mkdir(parents=True)
        (folder / "card.json").write_text("{}")
    assert find_bundle().parts[-2] == "b"
    monkeypatch.setenv("AVDETECT_BUNDLE", "elsewhere")
    assert str(find_bundle()) == "elsewhere"
    assert str(find_bundle("named")) == "named"
