"""The detector that ships with the package. Without it the package is not whole: nothing here is skipped."""

import json
import time
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import pytest
import torch

from avdetect import Detector
from avdetect.data.demo.miniature import Miniature
from avdetect.data.formats.dfdc import DEMO_DATASET
from avdetect.inference import find_bundle, load_bundle
from avdetect.inference.card_text import card_text
from avdetect.inference.novelty import DOUBTFUL
from avdetect.inference.release import MOST_BYTES, read_release
from avdetect.inference.verdict import LABELS, to_text, validate
from avdetect.weights import read_state

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes" / "genuine_only"
MODALITIES = ("visual", "audio", "lipsync")
MOST = {"visual": 12_000_000, "audio": 4_000_000, "lipsync": 4_000_000}
PORTRAIT = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"  # the README's example


@pytest.fixture(scope="module")
def folder() -> Path:
    return find_bundle("builtin")


@pytest.fixture(scope="module")
def card(folder):
    return json.loads((folder / "card.json").read_text())


@pytest.fixture(scope="module")
def detector(folder):
    return Detector(load_bundle(folder))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, drawn = tmp_path_factory.mktemp("media"), Miniature()
    return SimpleNamespace(
        talking=drawn.video(folder / "talking.mp4", 0, seconds=3.0),
        silent=drawn.video(folder / "silent.mp4", 1, sound=False),
        voice=drawn.speech(folder / "voice.wav", 2, fake=False, seconds=3.0),
        portrait=PORTRAIT,
    )


@pytest.fixture(scope="module")
def verdicts(detector, files):
    return {name: detector.predict(path) for name, path in vars(files).items()}


def test_it_loads_in_a_moment_and_judges_all_three_parts(folder):
    started = time.process_time()
    bundle = load_bundle(folder)
    # a tenth of a second on an idle machine; the bound leaves room for a busy one
    assert time.process_time() - started < 3
    assert tuple(bundle.encoders) == MODALITIES
    assert set(bundle.calibration) == set(bundle.thresholds) == {"fused", *MODALITIES}


def test_the_card_hides_nothing(folder, card):
    assert "research" in card["licence"] and card["terms"] and card["selected_on"] == "validation"
    assert len(card["known_failures"]) >= 3 and card["warnings"] and card["data"] and card["novelty"]
    assert DEMO_DATASET not in card["datasets"] and not any("drawn" in text for text in card["warnings"])
    assert card["metrics"]["split"] == "test"
    for name in ("fused", *MODALITIES):
        report = card["metrics"]["clips"][name]
        for metric in ("roc_auc", "eer"):
            figure = report[metric]
            assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1, (name, metric)
        assert report["bootstrap"]["clustered"] and report["n_fake"] and report["n_real"]
    text = " ".join(card_text(folder).split())
    for sentence in (card["terms"], *card["known_failures"], *card["data"], *card["warnings"]):
        assert " ".join(sentence.split()) in text


def test_the_recipe_tells_how_it_was_made(card):
    said = read_release(RECIPE / "card.yaml")
    warnings = said.pop("warnings")
    assert {key: value for key, value in card.items() if key in said} == said
    assert card["warnings"][-len(warnings) :] == warnings  # the run's own stand before those of the file
    readme = " ".join((RECIPE / "README.md").read_text().split())
    assert any("genuine_only" in line for line in card["training"])
    for command in card["training"]:
        assert " ".join(command.split()) in readme, command


def test_it_is_small_and_its_kernels_are_half(folder, card):
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    weights = {f"{name}.safetensors" for name in (*MODALITIES, "fusion", "novelty")}
    assert set(sizes) == weights | {"card.json"}
    assert sum(sizes.values()) <= MOST_BYTES
    for name, most in MOST.items():
        assert sizes[f"{name}.safetensors"] <= most, name
        assert card["logit_change"][name] < 0.05, name
        state = read_state(folder / f"{name}.safetensors")
        halved = sum(value.numel() for value in state.values() if value.dtype == torch.float16)
        assert halved > 0.9 * sum(value.numel() for value in state.values()), name


def test_the_command_line_uses_it_and_says_so(files, verdicts, tmp_path, run_python):
    """Exit code 0, JSON by its schema, and in another process the same as in this one."""
    paths = [str(path) for path in vars(files).values()]
    done = run_python("-m", "avdetect", "predict", *paths, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "using the built-in detector" in done.stderr and "`avdetect bundle show`" in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["path"] for line in lines] == paths
    for line, verdict in zip(lines, verdicts.values(), strict=True):
        validate(line)
        assert line["label"] in LABELS and (line["score"] is not None or line["reason"])
        expected = verdict.to_dict()
        assert without_times(line) == without_times(expected)


def without_times(verdict):
    return {key: value for key, value in verdict.items() if key != "timing_s"}


def test_every_verdict_tells_licence_and_limits(card, verdicts):
    for verdict in verdicts.values():
        text = " ".join(to_text(verdict, width=200).split())
        assert f"licence of its weights: {card['licence']}" in text
        assert set(card["warnings"]) <= set(verdict.warnings)


@pytest.mark.parametrize("name", ["talking", "silent"])
def test_a_drawn_face_is_not_judged_with_certainty(verdicts, name):
    """It learnt from photographed people: of anything else it says that it cannot tell."""
    verdict = verdicts[name]
    # a voice that was called synthetic is all that could be called fake: it is one
    assert verdict.label in ("uncertain", "unknown") or verdict.manipulated == ["audio"], verdict
    assert name != "silent" or verdict.label != "fake"


def test_a_photograph_of_a_face_is_judged(verdicts):
    verdict = verdicts["portrait"]
    assert verdict.kind == "image" and len(verdict.faces) == 1
    assert verdict.modalities["audio"].reason and verdict.modalities["lipsync"].reason


def test_drawn_faces_are_refused_or_doubted(verdicts):
    for name in ("talking", "silent"):
        verdict, face = verdicts[name], verdicts[name].modalities["visual"]
        assert (face.score is None and face.reason) or DOUBTFUL["visual"] in verdict.warnings
