"""What every encoder of the registry must do."""

import json
import subprocess
import sys

import pytest
import torch

from avdetect.encoders import create_encoder, describe_encoder, list_encoders, load_encoder, save_encoder
from avdetect.errors import ConfigError, WeightsError
from avdetect.transforms.settings import Settings
from avdetect.weights import write_safetensors

# What `create_encoder(NAME)` has; "published" where the publication or its code has the same number.
PARAMETERS = {
    # -- EfficientNet, with and without attention (ISPL)
    "efficientnet_autoatt_b4": 17_550_466,  # published
    "efficientnet_autoatt_b0": 4_008_870,
    "efficientnet_autoatt_tiny": 601_318,
    # -- Xception
    # -- UCF
    # -- compact CNNs
    # -- backbones through timm, hybrid
    # -- ssim
    # -- audio
    "mel_cnn": 798_849,
    "mel_cnn_tiny": 112_465,
    # -- lip-sync
    "lipsync": 1_060_321,
    "lipsync_tiny": 219_025,
}
# Settings with which a network is quick; the default of its kind where it is not named.
SMALL_OF_KIND = {"visual": {"size": 96}, "audio": {"window_s": 1.0}, "lipsync": {}}
SMALL = {
    # -- compact CNNs
    # -- backbones through timm, hybrid
    # -- audio
    # -- lip-sync
}
# Run with `pytest -m slow`: a quicker network of the same family stands for them.
SLOW = {
    "efficientnet_autoatt_b4",
    "efficientnet_autoatt_b0",
}
KIND = {name: kind for kind in SMALL_OF_KIND for name in list_encoders(kind)}


def names(kind=None):
    return [
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in list_encoders(kind)
    ]


EVERY = pytest.mark.parametrize("name", names())


def small(name):
    torch.manual_seed(0)
    return create_encoder(name, **SMALL.get(name, SMALL_OF_KIND[KIND[name]]))


@pytest.mark.parametrize("name", list_encoders())
def test_card(name):
    card = describe_encoder(name)
    assert card.parameters == PARAMETERS[name]
    assert card.name == name and card.kind == KIND[name]
    assert card.paper and card.changes and card.embedding_dim > 0
    assert all(shape[0] == "N" for shape in card.input)
    assert json.loads(json.dumps(card.to_dict()))["preprocess"] == card.preprocess


@pytest.mark.parametrize("name", list_encoders())
def test_identity(name):
    with torch.device("meta"):
        encoder = create_encoder(name)
        again = create_encoder(name, **encoder.settings)
    assert encoder.name == name and encoder.kind == KIND[name]
    assert isinstance(encoder.preprocess, Settings)
    assert json.loads(json.dumps(encoder.settings)) == encoder.settings
    assert again.settings == encoder.settings and again.preprocess == encoder.preprocess
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in encoder.state_dict().items()
    }


@EVERY
def test_shapes_and_composition(name):
    encoder = small(name).eval()
    for batch in (3, 1):
        inputs = encoder.example_inputs(batch)
        with torch.inference_mode():
            embedding, logits = encoder.embed(*inputs), encoder(*inputs)
            assert embedding.shape == (batch, encoder.embedding_dim) and logits.shape == (batch,)
            assert torch.equal(encoder.classify(embedding), logits)
            assert torch.isfinite(logits).all()


@EVERY
def test_every_parameter_learns(name):
    encoder = small(name).train()
    encoder(*encoder.example_inputs(4)).square().sum().backward()
    idle = [
        key for key, p in encoder.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()
    ]
    assert not idle


@EVERY
def test_evaluation_is_deterministic_and_a_clip_does_not_depend_on_its_batch(name):
    encoder = small(name).eval()
    inputs = encoder.example_inputs(3)
    with torch.inference_mode():
        logits = encoder(*inputs)
        assert torch.equal(encoder(*inputs), logits)
        alone = torch.cat([encoder(*(x[i : i + 1] for x in inputs)) for i in range(3)])
    torch.testing.assert_close(alone, logits, atol=1e-4, rtol=1e-4)
    assert len(set(logits.tolist())) == 3, "the input makes no difference"


@EVERY
def test_saved_and_loaded_it_says_the_same(name, tmp_path):
    encoder = small(name)
    encoder.train()(*encoder.example_inputs(4))  # moves the batch-norm statistics
    encoder.eval()
    path = tmp_path / "weights.safetensors"
    save_encoder(encoder, path)
    inputs = encoder.example_inputs(2)
    with torch.inference_mode():
        expected = encoder(*inputs)
        for loaded in (
            load_encoder(path),
            load_encoder(path, name, encoder.settings),
            create_encoder(name, path),
        ):
            assert torch.equal(loaded(*inputs), expected)
            assert loaded.settings == encoder.settings and loaded.preprocess == encoder.preprocess
            assert not loaded.training


@EVERY
def test_exports(name):
    encoder = small(name).eval()
    inputs = encoder.example_inputs(2)
    program = torch.export.export(encoder, inputs)
    with torch.inference_mode():
        torch.testing.assert_close(program.module()(*inputs), encoder(*inputs), atol=1e-5, rtol=1e-4)


@EVERY
def test_mixed_precision_stays_close(name):
    encoder = small(name).eval()
    inputs = encoder.example_inputs(2)
    with torch.inference_mode():
        expected = encoder(*inputs)
        with torch.autocast("cpu", torch.bfloat16):
            reduced = encoder(*inputs)
    torch.testing.assert_close(reduced.float(), expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("name", names("visual"))
def test_attention_is_a_map_that_varies(name):
    encoder = small(name).eval()
    if not hasattr(encoder, "attention"):
        pytest.skip(f"{name} has no attention map")
    with torch.inference_mode():
        attention = encoder.attention(*encoder.example_inputs(2))
    side = encoder.preprocess.size // 8
    assert attention.shape == (2, 1, side, side)
    assert 0 <= attention.min() < attention.max() <= 1


@pytest.mark.parametrize("name", names("audio"))
def test_loudness_is_no_cue(name):
    encoder = small(name).eval()
    (audio,) = encoder.example_inputs(2)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(audio * 0.05), encoder(audio), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", names("audio"))
def test_any_duration_from_the_minimum_on(name):
    encoder = create_encoder(name).eval()
    with torch.inference_mode():
        for samples in (encoder.min_samples, 16000 + 7, 7 * 16000):
            assert torch.isfinite(encoder(torch.randn(1, samples))).all()
        assert torch.isfinite(encoder(torch.zeros(1, 16000))).all()
    with pytest.raises(
        ValueError, match=f"at least {encoder.min_samples} samples, not {encoder.min_samples - 1}"
    ):
        encoder(torch.randn(1, encoder.min_samples - 1))


@pytest.mark.parametrize("name", ["mel_cnn", "mel_cnn_tiny"])
def test_public_spectrogram(name):
    encoder = create_encoder(name)
    frames = 16000 // encoder.settings["hop_length"] + 1
    assert encoder.spectrogram(torch.randn(2, 16000)).shape == (2, encoder.settings["n_mels"], frames)


def test_listing_is_sorted_and_by_kind():
    assert list_encoders() == sorted(
        list_encoders("visual") + list_encoders("audio") + list_encoders("lipsync")
    )
    assert "lipsync" in list_encoders("lipsync") and "lipsync" not in list_encoders("visual")
    with pytest.raises(ConfigError, match="no kind of encoder 'video'; the kinds are visual, audio, lipsync"):
        list_encoders("video")


def test_listing_does_not_import_torch():
    code = "import sys, avdetect.encoders as e; e.list_encoders(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_public_classes():
    from avdetect.encoders import EfficientNetAutoAttB4, LipSync, MelCNN

    assert EfficientNetAutoAttB4().name == "efficientnet_autoatt_b4"
    assert MelCNN().name == "mel_cnn" and LipSync().name == "lipsync"
    import avdetect.encoders

    with pytest.raises(AttributeError, match="Nothing"):
        avdetect.encoders.Nothing  # noqa: B018


def test_unknown_names_and_settings_are_corrected():
    with pytest.raises(ConfigError, match="no encoder 'mel_cn'; did you mean mel_cnn or mel_cnn_tiny"):
        create_encoder("mel_cn")
    with pytest.raises(ConfigError, match="no encoder 'zzz'; the names are efficientnet"):
        create_encoder("zzz")
    with pytest.raises(ConfigError, match="mel_cnn has no setting drop; it knows channels, dense, dropout"):
        create_encoder("mel_cnn", drop=0.1)
    with pytest.raises(
        ConfigError, match="no pretrained weights for efficientnet_autoatt_tiny|no setting pretrained"
    ):
        create_encoder("efficientnet_autoatt_tiny", pretrained=True)


def test_weights_of_another_encoder_or_size_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    encoder = create_encoder("mel_cnn_tiny")
    save_encoder(encoder, path)
    with pytest.raises(WeightsError, match="holds weights of mel_cnn_tiny, not of mel_cnn"):
        create_encoder("mel_cnn", weights=path)
    with pytest.raises(
        WeightsError, match=r"do not fit mel_cnn_tiny: other shapes .*classifier.weight \(1, 128\)"
    ):
        load_encoder(path, settings={**encoder.settings, "dense": 64})
    write_safetensors({"a": torch.zeros(1)}, path, {})
    with pytest.raises(WeightsError, match="not written by this package's save_encoder"):
        load_encoder(path)


def test_where_nothing_was_published_that_is_said():
    for name in ("mel_cnn", "lipsync", "efficientnet_autoatt_tiny"):
        with pytest.raises(WeightsError, match=f"No checkpoint was published for {name}"):
            create_encoder(name).load_published({})
