"""From a run's bundle to one that is handed out."""

import json
import shutil

import pytest
import torch
import yaml
from typer.testing import CliRunner

from avdetect.cli import app
from avdetect.errors import ConfigError, WeightsError
from avdetect.inference import load_bundle, release, save_bundle
from avdetect.inference.card_text import card_text
from avdetect.inference.release import pack_bundle, read_release
from avdetect.weights import read_state

SAID = {
    "name": "released",
    "licence": "research use only",
    "terms": "For research alone.",
    "data": ["Nothing at all (nobody's terms)."],
    "training": ["python -m avdetect.recipes.dfdc_fusion seed=0"],
    "known_failures": ["It knows nothing."],
    "warnings": ["Small weights."],
    "measured": [{"what": "offset found", "clips": "9 clips", "value": 0.5, "low": 0.25, "high": 0.75}],
}


def write(path, **changes):
    values = {key: value for key, value in (SAID | changes).items() if value is not None}
    path.write_text(yaml.safe_dump(values))
    return path


def shape_of_parameters(encoder):
    return {name: tuple(value.shape) for name, value in encoder.state_dict().items()}


@pytest.fixture(scope="module")
def packed(untrained_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    return pack_bundle(untrained_folder, folder / "bundle", write(folder / "card.yaml"))


def test_half_the_size_and_the_same_logits(packed, untrained_folder):
    before, after = load_bundle(untrained_folder), load_bundle(packed.folder)
    size = {
        folder: sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        for folder in (untrained_folder, packed.folder)
    }
    assert size[packed.folder] < 0.56 * size[untrained_folder]
    assert packed.size_bytes == sum(file.stat().st_size for file in packed.folder.iterdir())
    torch.manual_seed(1)
    for name, encoder in before.encoders.items():
        inputs = encoder.example_inputs(4)
        with torch.inference_mode():
            change = (after.encoders[name](*inputs) - encoder(*inputs)).abs().max().item()
        assert change < 0.02, name
        assert 0 < packed.logit_change[name] < 0.02
        assert {value.dtype for value in after.encoders[name].parameters()} == {torch.float32}
        assert shape_of_parameters(encoder) == shape_of_parameters(after.encoders[name])


def test_on_disk_kernels_are_half_and_statistics_are_not(packed):
    state = read_state(packed.folder / "visual.safetensors")
    dtypes = {name: value.dtype for name, value in state.items()}
    assert all(dtypes[name] == torch.float32 for name in dtypes if "running_" in name)
    assert sum(value.numel() for value in state.values() if value.dtype == torch.float16) > 0.95 * sum(
        value.numel() for value in state.values()
    )
    assert {value.dtype for value in read_state(packed.folder / "fusion.safetensors").values()} == {
        torch.float32
    }


def test_the_card_says_what_the_file_said_and_what_the_run_knew(packed, untrained):
    card = load_bundle(packed.folder).card
    assert {key: card[key] for key in SAID} == SAID
    assert card["metrics"] == untrained.card["metrics"] and card["seed"] == 0
    assert card["logit_change"] == packed.logit_change


def test_warnings_of_the_run_stay(untrained_folder, tmp_path):
    card = json.loads((shutil.copytree(untrained_folder, tmp_path / "run") / "card.json").read_text())
    (tmp_path / "run" / "card.json").write_text(json.dumps(card | {"warnings": ["drawn faces"]}))
    pack_bundle(tmp_path / "run", tmp_path / "out", write(tmp_path / "card.yaml"))
    assert load_bundle(tmp_path / "out").card["warnings"] == ["drawn faces", "Small weights."]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"licence": None}, "licence must be a sentence"),
        ({"terms": "  "}, "terms must be a sentence"),
        ({"known_failures": []}, "known_failures must be a list of sentences"),
        ({"data": "one"}, "data must be a list of sentences"),
        ({"warnings": [3]}, "warnings must be a list of sentences"),
        ({"licenses": "x"}, "'licenses', which is none of name, licence"),
        ({"measured": [SAID["measured"][0] | {"low": 0.6}]}, "with low <= value <= high"),
        ({"measured": [{"what": "x", "value": 1}]}, "every entry of measured needs what, clips"),
        ({"measured": [SAID["measured"][0] | {"high": float("nan")}]}, "with low <= value <= high"),
    ],
)
def test_a_card_that_leaves_something_out_is_refused(changes, sentence, tmp_path):
    with pytest.raises(ConfigError, match=sentence):
        read_release(write(tmp_path / "card.yaml", **changes))


@pytest.mark.parametrize(
    ("text", "sentence"), [("- a\n", "must hold names"), ("a: [", "cannot be read"), (None, "cannot be read")]
)
def test_a_file_that_is_no_card_is_refused(text, sentence, tmp_path):
    if text is not None:
        (tmp_path / "card.yaml").write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        read_release(tmp_path / "card.yaml")


def test_what_was_not_tested_is_not_released(untrained_folder, tmp_path):
    card = json.loads((shutil.copytree(untrained_folder, tmp_path / "run") / "card.json").read_text())
    (tmp_path / "run" / "card.json").write_text(json.dumps(card | {"metrics": None}))
    with pytest.raises(WeightsError, match="was not measured: run the recipe's test stage"):
        pack_bundle(tmp_path / "run", tmp_path / "out", write(tmp_path / "card.yaml"))


def test_too_large_a_detector_is_refused_and_the_old_one_stays(untrained_folder, tmp_path, monkeypatch):
    save_bundle(load_bundle(untrained_folder), tmp_path / "out")
    before = (tmp_path / "out" / "card.json").read_bytes()
    monkeypatch.setattr(release, "MOST_BYTES", 1_000_000)
    command = ["bundle", "pack", str(untrained_folder), str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*command, "--card", str(write(tmp_path / "card.yaml"))])
    assert isinstance(done.exception, WeightsError)
    assert "MB and may take 1 MB: train smaller encoders" in str(done.exception)
    assert (tmp_path / "out" / "card.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.yaml", "out"]


def test_the_command_packs_and_shows(untrained_folder, tmp_path):
    out = tmp_path / "out"
    command = [
        "bundle",
        "pack",
        str(untrained_folder),
        str(out),
        "--card",
        str(write(tmp_path / "card.yaml")),
    ]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0 and "MB; largest change of a logit by rounding: visual" in done.stdout
    shown = CliRunner().invoke(app, ["bundle", "show", str(out)])
    text = " ".join(shown.stdout.split())
    for words in (
        "released, made", "research use only For research alone.", "Nothing at all (nobody's terms).",
        "Face efficientnet_autoatt_tiny", "Voice mel_cnn_tiny", "Lip-sync lipsync, 2.", "- It knows nothing.",
        "All together: AUC 0.750 [0.500, 0.900], EER 0.250 [0.100, 0.400] (3 fake and 4 genuine clips)",
        "Lip-sync: not measured, all clips are genuine (0 fake and 4 genuine clips)", "seed=0",
        "offset found: 0.500 [0.250, 0.750] (9 clips)", "fake above 0.60, real below 0.40, else uncertain",
    ):  # fmt: skip
        assert words in text, words
    assert max(map(len, shown.stdout.splitlines())) <= 100 or len(str(out)) > 80
    card = json.loads(CliRunner().invoke(app, ["bundle", "show", str(out), "--json"]).stdout)
    assert card == json.loads((out / "card.json").read_text())


def test_a_plain_runs_card_is_shown_with_its_gaps(untrained_folder):
    text = " ".join(CliRunner().invoke(app, ["bundle", "show", str(untrained_folder)]).stdout.split())
    assert "Known failures not recorded on the card" in text and "Warnings none" in text
    assert "Data Nothing video train" in text and "Not judged nothing is left out" in text


def test_the_card_tells_what_is_not_judged(untrained_folder, tmp_path):
    card = json.loads((untrained_folder / "card.json").read_text())
    card["novelty"] = {"views": {"face": {}, "sound": {}}, "smallest_face_px": 31.6}
    shutil.copytree(untrained_folder, tmp_path / "b")
    (tmp_path / "b" / "card.json").write_text(json.dumps(card))
    lines = card_text(tmp_path / "b").splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("Not judged"))
    assert [line[16:] for line in lines[at : at + 3]] == [
        "faces unlike those that it learnt from",
        "sounds unlike those that it learnt from",
        "faces of less than 32 pixels",
    ]


def test_a_card_without_encoders_cannot_be_shown(untrained_folder, tmp_path):
    card = json.loads((untrained_folder / "card.json").read_text())
    del card["encoders"]
    (tmp_path / "card.json").write_text(json.dumps(card))
    done = CliRunner().invoke(app, ["bundle", "show", str(tmp_path)])
    assert isinstance(done.exception, WeightsError) and "does not describe a detector" in str(done.exception)
