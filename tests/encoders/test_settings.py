"""What `create_encoder` and files of weights may be given: a wrong setting is one sentence, never a traceback."""

import json

import pytest
import safetensors.torch

from avdetect.encoders import create_encoder, load_encoder, save_encoder
from avdetect.errors import ConfigError, WeightsError
from avdetect.weights import read_state


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("meso4", {"size": "abc"}, "meso4 has the setting size 'abc': it must be a whole number"),
        ("meso4", {"size": 2.5}, "must be a whole number"),
        ("meso4", {"size": True}, "must be a whole number"),
        ("meso4", {"size": -1}, "size -1: it cannot be negative"),
        ("meso4", {"size": 0}, "size of a visual input is 0"),
        ("meso4", {"dropout": float("nan")}, "dropout nan: it must be a number"),
        ("meso4", {"dropout": 1.5}, "meso4 cannot be made with dropout 1.5: dropout probability"),
        ("xception_tiny", {"siamese": "yes"}, "must be true or false"),
        ("xception_tiny", {"size": "abc"}, "must be a whole number or null"),
        ("aasist", {"channels": 3}, "must be a list of 2 whole numbers"),
        ("aasist", {"channels": [32]}, "must be a list of 2 whole numbers"),
        ("aasist", {"channels": [32, -1]}, "cannot be negative"),
        ("aasist", {"hop_s": 0.0}, "hop_s of an audio input is 0.0"),
        ("baseline_cnn", {"channels": []}, "baseline_cnn cannot be made with channels"),
        ("hybrid_tiny", {"backbones": "meso4"}, "must be a list of texts"),
        ("ssim(meso4)", {"visual_settings": 5}, "must be values by name or null"),
        ("meso4", {"name": "x"}, None),
    ],
)
def test_wrong_settings_are_one_sentence(name, settings, sentence):
    if sentence is None:  # a name of its own is the first argument, Python says so itself
        with pytest.raises(TypeError):
            create_encoder(name, **settings)
        return
    with pytest.raises(ConfigError, match=sentence):
        create_encoder(name, **settings)


def test_weights_that_look_like_a_path_are_taken_for_one():
    with pytest.raises(WeightsError, match="weights file no/such.pth does not exist"):
        create_encoder("aasist", weights="no/such.pth")
    with pytest.raises(ConfigError, match="weights is 5: it must be a path"):
        create_encoder("aasist", weights=5)


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({"name": "meso4"}, "was not written by this package"),
        ({"name": "meso4", "settings": 5, "preprocess": {}}, "metadata .* is damaged"),
        ({"name": ["meso4"], "settings": {}, "preprocess": {}}, "metadata .* is damaged"),
        ({"name": "meso4", "settings": {}, "preprocess": 5}, "metadata .* is damaged"),
        ({"name": "meso4", "settings": {"weights": "meso4.df"}, "preprocess": {}}, "no setting weights"),
        ({"name": "meso4", "settings": {"name": "x"}, "preprocess": {}}, "no setting name"),
        ({"name": "meso4", "settings": {"size": 64}, "preprocess": {"std": [0, 0, 0]}}, "std positive"),
        ({"name": "meso4", "settings": {"size": 64}, "preprocess": {"size": "a"}}, "must be a whole number"),
    ],
)
def test_tampered_metadata_is_refused(tmp_path, metadata, sentence):
    path = tmp_path / "w.safetensors"
    save_encoder(create_encoder("meso4", size=64), path)
    safetensors.torch.save_file(read_state(path), path, {"avdetect": json.dumps(metadata)})
    with pytest.raises((ConfigError, WeightsError), match=sentence):
        load_encoder(path)


def test_settings_given_with_weights_go_over_those_of_the_file(tmp_path):
    path = tmp_path / "w.safetensors"
    encoder = create_encoder("efficientnet_autoatt_tiny", size=64, attention_width=8)
    save_encoder(encoder, path)
    loaded = create_encoder("efficientnet_autoatt_tiny", weights=path, size=96)
    assert loaded.settings == encoder.settings | {"size": 96}
    assert loaded.preprocess.size == 96  # not 64, as the file has it

    voice = create_encoder("mel_cnn_tiny")
    voice.preprocess = type(voice.preprocess)(window_s=1.0, hop_s=0.5)  # as training may set it
    save_encoder(voice, path)
    assert load_encoder(path, settings=voice.settings).preprocess == voice.preprocess
