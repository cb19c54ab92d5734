"""Encoders as folders of the Hugging Face Hub. Nothing is asked of the network: the Hub is told to be offline."""

import json
import subprocess
import sys

import pytest
import torch

from avdetect.encoders import Encoder, MelCNN, create_encoder
from avdetect.errors import WeightsError


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def encoder():
    encoder = create_encoder("mel_cnn_tiny", dense=64, window_s=2.0)
    encoder(*encoder.example_inputs(4))  # moves the batch-norm statistics
    return encoder.eval()


@pytest.mark.parametrize("name", ["mel_cnn_tiny", "efficientnet_autoatt_tiny", "lipsync_tiny"])
def test_round_trip(name, tmp_path):
    encoder = create_encoder(name)
    encoder(*encoder.example_inputs(4))
    encoder.eval().save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    loaded = Encoder.from_pretrained(tmp_path)
    assert type(loaded) is type(encoder) and not loaded.training
    assert loaded.settings == encoder.settings and loaded.preprocess == encoder.preprocess
    inputs = encoder.example_inputs(2)
    with torch.inference_mode():
        assert torch.equal(loaded(*inputs), encoder(*inputs))


def test_settings_travel_and_the_class_is_checked(encoder, tmp_path):
    encoder.save_pretrained(tmp_path)
    loaded = MelCNN.from_pretrained(str(tmp_path))
    assert loaded.embedding_dim == 64 and loaded.preprocess.window_s == 2.0
    other = type(create_encoder("lipsync_tiny"))
    with pytest.raises(
        WeightsError, match="holds mel_cnn_tiny, which is no LipSync; use Encoder.from_pretrained"
    ):
        other.from_pretrained(tmp_path)


def test_the_card_says_what_the_caller_knows(encoder, tmp_path):
    from huggingface_hub import ModelCard

    encoder.save_pretrained(
        tmp_path, license="cc-by-4.0", training_data="Ten recordings.", metrics={"AUC on ten others": 0.75}
    )
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.license == "cc-by-4.0" and card.data.library_name == "avdetect"
    assert card.data.pipeline_tag == "audio-classification" and "mel_cnn_tiny" in card.data.tags
    parameters = f"{sum(p.numel() for p in encoder.parameters()):,}"
    for words in (
        "Ten recordings.",
        "| AUC on ten others | 0.75 |",
        "positive means *fake*",
        parameters,
        "(N, 32000)",
        '"window_s": 2.0',
        "Intended use",
        "Encoder.from_pretrained",
        "fewer channels",
    ):
        assert words in card.text, words
    assert "{{" not in card.text


def test_what_is_not_known_is_said_and_an_edited_card_stays(encoder, tmp_path):
    encoder.save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.count("Not stated") == 3 and "license:" not in text.split("---")[1]
    (tmp_path / "README.md").write_text("my own words")
    encoder.save_pretrained(tmp_path, license="mit")
    assert (tmp_path / "README.md").read_text() == "my own words"


def test_damage_and_disagreement(encoder, tmp_path):
    encoder.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())

    def refused(message, **changes):
        (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
        with pytest.raises(WeightsError, match=message):
            Encoder.from_pretrained(tmp_path)

    refused(
        "config.json .* does not belong to its model.safetensors: they differ in settings",
        settings={"dense": 32},
    )
    refused("they differ in preprocess", preprocess={**config["preprocess"], "sample_rate": 8000})
    refused("holds weights of mel_cnn_tiny, not of mel_cnn", name="mel_cnn")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="config.json of .* is damaged"):
        Encoder.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"license": "mit", "metrics": 3}')
    with pytest.raises(WeightsError, match="no config.json of an avdetect encoder"):
        Encoder.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(WeightsError, match="damaged"):
        Encoder.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="model.safetensors does not exist"):
        Encoder.from_pretrained(tmp_path)


def test_a_pickle_is_never_read(encoder, tmp_path):
    encoder.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(encoder.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="model.safetensors does not exist"):
        Encoder.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["somebody/unknown", "/no/such/folder", "a b"])
def test_neither_folder_nor_repository(name, tmp_path):
    with pytest.raises(WeightsError, match="neither a folder of save_pretrained nor a repository") as caught:
        Encoder.from_pretrained(name, cache_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_push_sends_the_folder(encoder, monkeypatch):
    """What huggingface_hub's client is asked for; no server takes part."""
    sent = {}

    class Api:
        def __init__(self, token=None):
            sent["token"] = token

        def create_repo(self, repo_id, private, exist_ok):
            sent["private"] = private
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, *, repo_id, folder_path, commit_message, revision, **others):
            loaded = Encoder.from_pretrained(folder_path)
            sent.update(repo=repo_id, revision=revision, loaded=loaded.name, message=commit_message)
            sent["card"] = (folder_path / "README.md").read_text()
            return "https://hub/commit"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    address = encoder.push_to_hub(
        "me/voices", private=True, token="t", branch="new", commit_message="First", license="mit"
    )
    assert address == "https://hub/commit"
    card = sent.pop("card")
    assert 'Encoder.from_pretrained("me/voices")' in card and "license: mit" in card
    assert sent == {
        "token": "t",
        "private": True,
        "repo": "me/voices",
        "revision": "new",
        "loaded": "mel_cnn_tiny",
        "message": "First",
    }


def test_the_base_class_does_not_import_the_hub():
    code = (
        "import sys, avdetect.encoders.base, avdetect.encoders.audio.mel_cnn;"
        "sys.exit('huggingface_hub' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("content", [b"[]", b"5", b"null", b"\xff{}"])
def test_a_config_that_is_no_object_is_refused(encoder, tmp_path, content):
    encoder.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(WeightsError, match="config.json of .* is damaged"):
        Encoder.from_pretrained(tmp_path)
