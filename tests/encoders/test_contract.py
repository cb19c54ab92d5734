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
    "efficientnet_b4": 17_550_409,  # published
    "efficientnet_b4_st": 17_553_993,
    "efficientnet_tiny": 601_269,
    "efficientnet_autoatt_b4": 17_550_466,  # published
    "efficientnet_autoatt_b4_st": 17_554_050,
    "efficientnet_autoatt_b0": 4_008_870,
    "efficientnet_autoatt_lite0": 3_372_330,
    "efficientnet_autoatt_tiny": 601_318,
    "resnet_autoatt_small": 3_583_082,
    # -- Xception
    "xception": 20_809_001,
    "xception_st": 20_813_097,
    "xception_tiny": 212_665,
    # -- UCF
    "ucf": 46_830_234,
    "ucf_tiny": 169_026,
    # -- compact CNNs
    "meso4": 27_977,  # published
    "mesoinception4": 28_615,  # published
    "baseline_cnn": 422_401,  # with 960 statistics the 423,361 of the reference project, see test_compact.py
    "custom_cnn": 1_693_929,
    # -- backbones through timm, hybrid
    "efficientnet_b0": 4_008_829,
    "mobilenetv3_small": 1_518_881,
    "resnet50": 23_510_081,
    "densenet121": 6_954_881,
    "vit_b16": 85_799_425,
    "vgg16": 134_264_641,
    "hybrid": 35_584_061,
    "hybrid_tiny": 2_200_966,
    # -- ssim: below
    # -- audio
    "mel_cnn": 798_849,
    "mel_cnn_tiny": 112_465,
    "spectrum_cnn": 330_769,
    "aasist": 297_866,  # published
    "aasist_l": 85_306,  # published
    "rawnet2": 17_621_410,  # published
    "lfcc_lcnn": 269_729,
    # -- lip-sync
    "lipsync": 1_060_321,
    "lipsync_tiny": 219_025,
    "lipsync_small": 897_046,
    "lipsync_wide": 1_919_302,
    "syncnet": 13_631_616 + 38,  # published, and the head that was not
    "syncnet_tiny": 156_918,
}
# Settings with which a network is quick; the default of its kind where it is not named.
SMALL_OF_KIND = {"visual": {"size": 96}, "audio": {"window_s": 1.0}, "lipsync": {}}
SMALL = {
    # -- compact CNNs
    # -- backbones through timm, hybrid
    "mobilenetv3_small": {"size": 64},
    "vgg16": {"size": 64, "dense": 64},
    "hybrid_tiny": {"size": 64},
    # -- audio
    "rawnet2": {"window_s": 1.0, "hidden": 64, "dense": 64},
    # -- lip-sync
}
# Run with `pytest -m slow`: a quicker network of the same family stands for them.
SLOW = {
    "efficientnet_b4",
    "efficientnet_b4_st",
    "efficientnet_autoatt_b4_st",
    "xception",
    "xception_st",
    "efficientnet_autoatt_b4",
    "efficientnet_autoatt_b0",
    "efficientnet_autoatt_lite0",
    "ucf",
    "aasist",
    "syncnet",
}
SLOW |= {"efficientnet_b0", "resnet50", "densenet121", "vit_b16", "vgg16", "hybrid"}
KIND = {name: kind for kind in SMALL_OF_KIND for name in list_encoders(kind)}


def ssim_parameters(name):
    """`ssim(NAME)`: the network's features, four convolutions with batch norm, two scalars, the dense head."""
    with torch.device("meta"):
        inner = create_encoder(name)
    unused = (*inner.head_prefixes, *inner.training_only)
    removed = sum(p.numel() for key, p in inner.named_parameters() if key.startswith(unused))
    maps = 9 * (1 * 16 + 16 * 32 + 32 * 64 + 64 * 64) + 2 * (16 + 32 + 64 + 64)
    head = (inner.embedding_dim + 64 + 2) * 128 + 128 + 128 + 1
    return PARAMETERS[name] - removed + maps + head


for inner_name in [name for name in list_encoders("visual") if name in PARAMETERS]:
    small_inner = dict(SMALL.get(inner_name, SMALL_OF_KIND["visual"]))
    PARAMETERS[f"ssim({inner_name})"] = ssim_parameters(inner_name)
    SMALL[f"ssim({inner_name})"] = {"size": small_inner.pop("size"), "visual_settings": small_inner}
    if inner_name != "mobilenetv3_small":
        SLOW.add(f"ssim({inner_name})")


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
        key
        for key, p in encoder.named_parameters()
        if p.requires_grad and (p.grad is None or not torch.isfinite(p.grad).all())
    ]
    # a method's own training uses these; its test proves that they learn
    assert idle == [key for key, _ in encoder.named_parameters() if key.startswith(encoder.training_only)]


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


@pytest.mark.parametrize("name", [n for n in names("visual") if "autoatt" in str(n) and "ssim" not in str(n)])
def test_attention_is_a_map_that_varies(name):
    encoder = small(name).eval()
    with torch.inference_mode():
        attention = encoder.attention(*encoder.example_inputs(2))
    side = encoder.preprocess.size // 8
    assert attention.shape == (2, 1, side, side)
    assert 0 <= attention.min() < attention.max() <= 1


# Published networks that take the waveform at the level that it has: without that, their weights do not fit.
LEVEL_MATTERS = {"aasist", "aasist_l", "rawnet2"}


@pytest.mark.parametrize("name", [name for name in list_encoders("audio") if name not in LEVEL_MATTERS])
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
    with pytest.raises(ConfigError, match="no encoder 'mes04'; did you mean meso4"):
        create_encoder("mes04")
    with pytest.raises(ConfigError, match="no encoder 'mel_cn'; did you mean mel_cnn or mel_cnn_tiny"):
        create_encoder("mel_cn")
    with pytest.raises(ConfigError, match=r"no encoder 'zzz'; the names are .*mel_cnn, .* and ssim\(NAME\)"):
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
