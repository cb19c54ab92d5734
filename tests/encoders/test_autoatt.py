"""EfficientNet, with and without attention and Siamese head: against the published networks."""

import importlib.util
from pathlib import Path

import pytest
import torch

from avdetect.encoders import (
    EfficientNetAutoAttB4,
    EfficientNetB4,
    create_encoder,
    load_encoder,
    save_encoder,
)
from avdetect.errors import ConfigError, WeightsError
from avdetect.transforms import VisualPreprocess

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
NEEDS_SHARED = pytest.mark.skipif(not (SHARED / "parity").is_dir(), reason="the reference files are not here")
PUBLISHED = {
    "efficientnet_b4": "icpr2020_EfficientNetB4.npz",
    "efficientnet_autoatt_b4": "icpr2020_EfficientNetAutoAttB4.npz",
    "efficientnet_autoatt_b4_st": "icpr2020_EfficientNetAutoAttB4ST.npz",
}


def reference(name):
    spec = importlib.util.spec_from_file_location("fill", SHARED / "parity" / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    return fill.load(PUBLISHED[name])


@pytest.fixture(scope="module")
def with_attention():
    return reference("efficientnet_autoatt_b4")


@pytest.fixture(scope="module")
def plain():
    return reference("efficientnet_b4")


def as_deepfakebench(state):
    """The same backbone in the layout of that project, with a head of two outputs: real, fake."""
    renamed = {f"backbone.{k}": v for k, v in state.items() if not k.startswith("classifier.")}
    renamed["backbone.last_layer.weight"] = torch.randn(2, 1792) * 0.05
    renamed["backbone.last_layer.bias"] = torch.tensor([0.3, -0.2])
    return renamed


@NEEDS_SHARED
@pytest.mark.parametrize("name", PUBLISHED)
def test_equals_the_published_network(name, tmp_path):
    state, x, expected = reference(name)
    torch.save({"net": state, "epoch": 1}, tmp_path / "published.pth")
    encoder = create_encoder(name).load_published(tmp_path / "published.pth").eval()
    with torch.inference_mode():
        ours = {"logit": encoder(x)[:, None], "features": encoder.embed(x)}
        if name == "efficientnet_autoatt_b4":
            ours["attention"] = encoder.attention(x)
    assert set(expected) == set(ours)
    for key, theirs in expected.items():
        torch.testing.assert_close(ours[key], theirs, atol=1e-4, rtol=0)


@NEEDS_SHARED
def test_misfit_of_a_published_checkpoint_is_listed(with_attention):
    state = dict(with_attention[0])
    del state["efficientnet._conv_stem.weight"]
    state["efficientnet._fc.weight"] = torch.zeros(1)
    with pytest.raises(
        WeightsError, match="missing backbone.conv_stem.weight; unexpected efficientnet._fc.weight"
    ):
        EfficientNetAutoAttB4().load_published(state)


@NEEDS_SHARED
def test_published_layout_of_another_network_does_not_fit(with_attention, plain):
    with pytest.raises(WeightsError, match="do not fit efficientnet_autoatt_b0: .*other shapes"):
        create_encoder("efficientnet_autoatt_b0").load_published(with_attention[0])
    with pytest.raises(
        WeightsError, match="unexpected efficientnet.attconv.weight, efficientnet.attconv.bias"
    ):
        EfficientNetB4().load_published(with_attention[0])
    with pytest.raises(WeightsError, match="missing attention_conv.0.weight, attention_conv.0.bias"):
        EfficientNetAutoAttB4().load_published(plain[0])
    with pytest.raises(WeightsError, match="missing classifier.0.weight.*unexpected classifier.weight"):
        create_encoder("efficientnet_b4_st").load_published(plain[0])


@NEEDS_SHARED
def test_siamese_layout_without_attention(plain):
    """No reference of `EfficientNetB4ST`: the features are its B4's, batch norm and linear layer follow."""
    state, x, expected = plain
    head = torch.nn.Sequential(torch.nn.BatchNorm1d(1792), torch.nn.Linear(1792, 1)).eval()
    head[0].running_mean.normal_()
    published = {f"feat_ext.{key}": value for key, value in state.items()}
    published |= {f"classifier.{key}": value for key, value in head.state_dict().items()}
    encoder = create_encoder("efficientnet_b4_st").load_published(published).eval()
    with torch.inference_mode():
        torch.testing.assert_close(encoder(x), head(expected["features"]).squeeze(1), atol=1e-4, rtol=0)


@NEEDS_SHARED
def test_deepfakebench_layout(plain, tmp_path):
    state, x, _ = plain
    published = as_deepfakebench(state)
    encoder = EfficientNetB4().load_published(published).eval()
    assert encoder.preprocess == VisualPreprocess(256, mean=(0.5,) * 3, std=(0.5,) * 3)
    with torch.inference_mode():
        # their first convolution has no padding
        stem = torch.nn.functional.conv2d(x, state["efficientnet._conv_stem.weight"], stride=2)
        torch.testing.assert_close(encoder.backbone.conv_stem(x), stem)
        logits = encoder(x)
        last = [published[f"backbone.last_layer.{name}"] for name in ("weight", "bias")]
        two = torch.nn.functional.linear(encoder.embed(x), *last)
        torch.testing.assert_close(torch.sigmoid(logits), two.softmax(dim=1)[:, 1], atol=1e-5, rtol=0)

        save_encoder(encoder, tmp_path / "saved.safetensors")
        loaded = load_encoder(tmp_path / "saved.safetensors")
        again = create_encoder("efficientnet_b4", **encoder.settings)
        assert loaded.preprocess == again.preprocess == encoder.preprocess
        assert torch.equal(loaded(x), logits)

        ispl = encoder.load_published(state)  # and back: nothing of the other layout may stay
        assert ispl.preprocess == VisualPreprocess(224) and ispl.settings["layout"] == "ispl"
        torch.testing.assert_close(ispl(x), plain[2]["logit"].squeeze(1), atol=1e-4, rtol=0)


@NEEDS_SHARED
def test_a_checkpoint_that_does_not_fit_changes_nothing(plain):
    encoder = create_encoder("efficientnet_b4_st")
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    with pytest.raises(WeightsError, match="missing classifier.0.weight"):
        encoder.load_published(as_deepfakebench(plain[0]))
    assert encoder.preprocess == VisualPreprocess(224) and encoder.backbone.conv_stem.pad == (0, 1, 0, 1)
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_attention_of_a_width_is_read_from_the_published_layout():
    encoder = create_encoder("efficientnet_autoatt_b0", attention_width=2)
    names = ["conv0", "conv1", "conv_out"]
    assert [encoder._own_key(f"efficientnet.attconv.{name}.bias", "ispl") for name in names] == [
        f"attention_conv.{index}.bias" for index in (0, 2, 4)
    ]
    assert {f"attention_conv.{index}.bias" for index in (0, 2, 4)} <= set(encoder.state_dict())


def test_unknown_layout_and_missing_pretrained_weights_are_refused():
    with pytest.raises(
        ConfigError, match="efficientnet_b4 has no layout 'keras'; it knows ispl, deepfakebench"
    ):
        create_encoder("efficientnet_b4", layout="keras")
    with pytest.raises(
        ConfigError, match="efficientnet_autoatt_b4 has no layout 'deepfakebench'; it knows ispl"
    ):
        create_encoder("efficientnet_autoatt_b4", layout="deepfakebench")
    with pytest.raises(ConfigError, match="no pretrained weights for efficientnet_tiny"):
        create_encoder("efficientnet_tiny", pretrained=True)
    with pytest.raises(WeightsError, match="No checkpoint was published for efficientnet_tiny"):
        create_encoder("efficientnet_tiny").load_published({})


def test_siamese_head_judges_normalised_features():
    encoder = create_encoder("efficientnet_autoatt_tiny", siamese=True).train()
    (x,) = encoder.example_inputs(6)
    encoder(x).sum().backward()
    batch_norm, linear = encoder.classifier
    assert batch_norm.num_batches_tracked == 1 and linear.weight.grad is not None
    encoder.eval()
    embedding = torch.randn(3, encoder.embedding_dim)
    with torch.inference_mode():
        assert torch.equal(encoder.classify(embedding), linear(batch_norm(embedding)).squeeze(1))
    assert sum(p.numel() for p in encoder.classifier.parameters()) == 3 * 256 + 1


def test_attention_multiplies_the_features():
    encoder = create_encoder("efficientnet_autoatt_tiny").eval()
    (x,) = encoder.example_inputs(1)
    with torch.inference_mode():
        before = encoder.embed(x)
        encoder.attention_conv[-1].bias.fill_(-1e4)  # a map of zeros leaves nothing of the image
        assert torch.allclose(encoder.embed(x), encoder.embed(torch.zeros_like(x)))
        assert not torch.allclose(encoder.embed(x), before)


def test_attention_width_adds_convolutions():
    count = [
        sum(p.numel() for p in create_encoder("efficientnet_autoatt_tiny", attention_width=n).parameters())
        for n in (0, 1, 2)
    ]
    assert count[1] - count[0] == count[2] - count[1] == 48 * 48 * 9 + 48


def test_dropout_settings_reach_the_network():
    encoder = create_encoder("efficientnet_autoatt_b0", dropout=0.0, drop_path=0.0).train()
    for module in encoder.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(encoder(x), encoder(x))
        encoder.dropout.p = 0.5
        assert not torch.equal(encoder(x), encoder(x))
    rates = [
        m.drop_prob for m in create_encoder("efficientnet_autoatt_b0").modules() if hasattr(m, "drop_prob")
    ]
    assert rates == sorted(rates) and 0.15 < rates[-1] < 0.2
    assert create_encoder("efficientnet_autoatt_tiny").dropout.p == 0.2
    assert create_encoder("efficientnet_autoatt_tiny", siamese=True).dropout.p == 0.0
