"""Xception: the convolutional part and the encoders, against the published networks."""

import importlib.util
from pathlib import Path

import pytest
import timm
import torch

from avdetect.encoders import Xception, create_encoder, load_encoder, save_encoder
from avdetect.errors import ConfigError, WeightsError
from avdetect.transforms import VisualPreprocess

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
NEEDS_SHARED = pytest.mark.skipif(not (SHARED / "parity").is_dir(), reason="the reference files are not here")


def reference(name):
    spec = importlib.util.spec_from_file_location("fill", SHARED / "parity" / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    return fill.load(name)


@pytest.fixture(scope="module")
def ispl():
    return reference("icpr2020_Xception.npz")


@NEEDS_SHARED
def test_equals_the_published_network(ispl, tmp_path):
    state, x, expected = ispl
    torch.save({"net": state, "epoch": 1}, tmp_path / "published.pth")
    encoder = create_encoder("xception").load_published(tmp_path / "published.pth").eval()
    assert encoder.preprocess == VisualPreprocess(224)
    assert set(expected) == {"logit", "features"}
    with torch.inference_mode():
        torch.testing.assert_close(encoder(x)[:, None], expected["logit"], atol=1e-4, rtol=0)
        torch.testing.assert_close(encoder.embed(x), expected["features"], atol=1e-4, rtol=0)


@NEEDS_SHARED
def test_without_the_unused_classes_of_imagenet(ispl):
    """A checkpoint may hold `fc` or not, as the network never calls it; nothing else may be missing."""
    state = {key: value for key, value in ispl[0].items() if not key.startswith("xception.fc.")}
    encoder = create_encoder("xception").load_published(state)
    assert torch.equal(encoder.classifier.weight, state["xception.last_linear.weight"])
    del state["xception.block12.rep.1.conv1.weight"]
    state["xception.block13.rep.1.conv1.weight"] = torch.zeros(1)
    with pytest.raises(
        WeightsError,
        match="missing backbone.block12.rep.1.conv1.weight; unexpected xception.block13.rep.1.conv1.weight",
    ):
        encoder.load_published(state)


@NEEDS_SHARED
def test_siamese_layout(ispl):
    """No reference of `XceptionST`: the features are Xception's, batch norm and linear layer follow."""
    state, x, expected = ispl
    head = torch.nn.Sequential(torch.nn.BatchNorm1d(2048), torch.nn.Linear(2048, 1)).eval()
    head[0].running_mean.normal_()
    published = {f"feat_ext.{key}": value for key, value in state.items()}
    published |= {f"classifier.{key}": value for key, value in head.state_dict().items()}
    encoder = create_encoder("xception_st").load_published(published).eval()
    with torch.inference_mode():
        torch.testing.assert_close(encoder(x), head(expected["features"]).squeeze(1), atol=1e-4, rtol=0)
    with pytest.raises(WeightsError, match="missing classifier.0.weight.*unexpected classifier.weight"):
        encoder.load_published(state)


@NEEDS_SHARED
def test_deepfakebench_layout(ispl, tmp_path):
    """Their detector's Xception is UCF's encoder, with another prefix."""
    ucf, x, _ = reference("deepfakebench_ucf.npz")
    state = {k.replace("encoder_f.", "backbone."): v for k, v in ucf.items() if k.startswith("encoder_f.")}
    encoder = create_encoder("xception").load_published(state).eval()
    assert encoder.preprocess == VisualPreprocess(256, mean=(0.5,) * 3, std=(0.5,) * 3)
    with torch.inference_mode():
        logits = encoder(x)
        last = [state[f"backbone.last_linear.{name}"] for name in ("weight", "bias")]
        real, fake = torch.nn.functional.linear(encoder.embed(x), *last).unbind(dim=1)
        torch.testing.assert_close(logits, fake - real, atol=1e-4, rtol=0)

        save_encoder(encoder, tmp_path / "saved.safetensors")
        loaded = load_encoder(tmp_path / "saved.safetensors")
        again = create_encoder("xception", **encoder.settings)
        assert loaded.preprocess == again.preprocess == encoder.preprocess
        assert torch.equal(loaded(x), logits)
    assert encoder.load_published(ispl[0]).preprocess == VisualPreprocess(224)


@NEEDS_SHARED
def test_backbone_with_a_projection_has_the_keys_of_the_published_one():
    state = reference("deepfakebench_ucf.npz")[0]
    theirs = {k.removeprefix("encoder_c."): v.shape for k, v in state.items() if k.startswith("encoder_c.")}
    del theirs["last_linear.weight"], theirs["last_linear.bias"]
    with torch.device("meta"):
        backbone = Xception(adjust_channel=512)
        assert {key: value.shape for key, value in backbone.state_dict().items()} == theirs
        assert backbone(torch.zeros(2, 3, 256, 256)).shape == (2, 512, 8, 8)
        assert Xception().features(torch.zeros(2, 3, 224, 224)).shape == (2, 2048, 7, 7)


def test_has_the_layers_of_timm():
    torch.manual_seed(0)
    theirs, ours = timm.create_model("legacy_xception").eval(), Xception().eval()
    state = theirs.state_dict()
    for key in ("fc.weight", "fc.bias"):
        del state[key]
    ours.load_state_dict(state)
    x = torch.randn(2, 3, 97, 97)
    with torch.inference_mode():
        torch.testing.assert_close(
            torch.relu(ours(x)), torch.relu(theirs.forward_features(x)), atol=1e-4, rtol=1e-4
        )


def test_pretrained_takes_the_weights_of_timm(monkeypatch):
    source = timm.create_model("legacy_xception")
    asked = {}
    monkeypatch.setattr(timm, "create_model", lambda name, **k: asked.update(k, name=name) or source)
    encoder = create_encoder("xception", pretrained=True)
    assert asked == {"name": "legacy_xception", "pretrained": True}
    assert torch.equal(encoder.backbone.conv4.pointwise.weight, source.conv4.pointwise.weight)
    assert encoder.settings["pretrained"] is False  # what is loaded again gets its own weights


def test_the_shortcut_is_not_changed_by_the_block():
    """A ReLU in place at the start of a block would clip the input that is added at its end."""
    block = Xception(entry=(4, 4, 4, 4, 4), middle=1, last=(4, 4, 4)).block4.eval()
    torch.nn.init.zeros_(block.rep[-1].weight)  # the branch adds nothing
    x = torch.randn(1, 4, 8, 8)
    with torch.inference_mode():
        assert torch.equal(block(x.clone()), x)


def test_siamese_and_dropout_are_settings_of_the_tiny_one_too():
    encoder = create_encoder("xception_tiny", siamese=True, dropout=0.5).train()
    (x,) = encoder.example_inputs(4)
    assert x.shape[-1] == 112 and len(encoder.classifier) == 2
    embedding = torch.randn(8, encoder.embedding_dim)
    assert not torch.equal(encoder.classify(embedding), encoder.classify(embedding))
    encoder.eval()
    assert torch.equal(encoder.classify(embedding), encoder.classify(embedding))


def test_what_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="xception has no layout 'keras'; it knows ispl, deepfakebench"):
        create_encoder("xception", layout="keras")
    with pytest.raises(ConfigError, match="no pretrained weights for xception_tiny"):
        create_encoder("xception_tiny", pretrained=True)
    with pytest.raises(WeightsError, match="No checkpoint was published for xception_tiny"):
        create_encoder("xception_tiny").load_published({})
