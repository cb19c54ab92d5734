"""EfficientNet-Lite0 with attention: starts from the features of ImageNet as they were published."""

import pytest
import timm
import torch

from avdetect.encoders import create_encoder, load_encoder, save_encoder
from avdetect.encoders.visual.efficientnet import fix_same_padding, published_to_own
from avdetect.errors import WeightsError

NAME = "efficientnet_autoatt_lite0"
PARTS = ("_conv_stem", "_bn0", "_conv_head", "_bn1", "_fc")
LAYERS = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")


@pytest.fixture(scope="module")
def published():
    """A network of timm, and its random weights under the keys of efficientnet_lite_pytorch."""
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0", bn_eps=1e-3).eval()
    fix_same_padding(model, 224)
    depths = [len(stage) for stage in model.blocks]
    names = [f"_blocks.{k}.{layer}" for k in range(sum(depths)) for layer in LAYERS] + list(PARTS)
    own = {"backbone.classifier": "_fc"}
    for name in names:
        own[published_to_own(f"efficientnet.{name}.weight", depths).removesuffix(".weight")] = name
    state = {}
    for key, value in model.state_dict().items():
        layer, _, parameter = f"backbone.{key}".rpartition(".")
        if parameter == "running_mean":
            value.normal_(std=0.1)
        state[f"{own[layer]}.{parameter}"] = value
    return model, state


def test_starts_with_the_published_features(published, tmp_path):
    model, state = published
    torch.save(state, tmp_path / "lite0.pth")
    encoder = create_encoder(NAME, size=96).load_published(tmp_path / "lite0.pth").eval()
    assert encoder.preprocess.size == 96  # the checkpoint has no say in it
    x = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        attention = encoder.attention(x)
        assert attention.shape == (2, 1, 12, 12) and attention.min() > 0.9
        encoder.attention_conv[-1].bias.fill_(40.0)  # a map of ones
        theirs = model.forward_features(x).mean((2, 3))
        torch.testing.assert_close(encoder.embed(x), theirs, atol=1e-5, rtol=1e-5)


def test_pixels_are_fed_as_the_publishers_did():
    encoder = create_encoder(NAME, size=8)
    grey = torch.full((1, 8, 8, 3), 191, dtype=torch.uint8).numpy()
    torch.testing.assert_close(encoder.preprocess(grey), torch.full((1, 3, 8, 8), (191 - 127) / 128))


def test_comes_back_from_a_file(tmp_path):
    encoder = create_encoder(NAME, size=64).eval()
    save_encoder(encoder, tmp_path / "own.safetensors")
    again = load_encoder(tmp_path / "own.safetensors").eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(encoder(x), again(x))
    assert again.preprocess == encoder.preprocess


def test_another_layout_is_named(published):
    state = dict(published[1])
    del state["_conv_stem.weight"]
    with pytest.raises(WeightsError, match="missing backbone.conv_stem.weight"):
        create_encoder(NAME).load_published(state | {"_blocks.99._bn0.weight": torch.zeros(1)})
