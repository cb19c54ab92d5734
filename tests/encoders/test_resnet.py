import pytest
import torch

from avdetect.encoders import create_encoder, load_encoder, save_encoder
from avdetect.errors import ConfigError, WeightsError


def test_map_has_an_eighth_of_the_side_and_multiplies_the_features():
    encoder = create_encoder("resnet_autoatt_small", size=96).eval()
    (x,) = encoder.example_inputs(2)
    with torch.inference_mode():
        embedding, logits = encoder.embed_with_map(x)
        assert logits.shape == (2, 1, 12, 12)
        assert torch.equal(encoder.attention(x), torch.sigmoid(logits))
        assert torch.equal(encoder.embed(x), embedding)
        encoder.attention_conv.bias.fill_(-1e4)  # a map of zeros leaves nothing of the image
        assert torch.allclose(encoder.embed(x), encoder.embed(torch.zeros_like(x)))
        assert not torch.allclose(encoder.embed(x), embedding)


def test_blocks_start_as_their_shortcuts():
    encoder = create_encoder("resnet_autoatt_small").eval()
    block = encoder.backbone.stages[1][1]  # same width and side: the shortcut is the identity
    x = torch.rand(1, 96, 6, 6)
    with torch.inference_mode():
        assert torch.equal(block(x), x)
    assert encoder.backbone.stages[0][0](torch.rand(1, 24, 7, 7)).shape == (1, 48, 4, 4)


def test_other_widths_and_depths_are_stored_with_the_weights(tmp_path):
    encoder = create_encoder("resnet_autoatt_small", size=64, stem=8, widths=[8, 16, 24], depths=[1, 1, 2])
    save_encoder(encoder.eval(), tmp_path / "w.safetensors")
    again = load_encoder(tmp_path / "w.safetensors")
    (x,) = encoder.example_inputs(1)
    assert again.embedding_dim == 24 and again.preprocess.size == 64
    with torch.inference_mode():
        assert torch.equal(again(x), encoder(x))


@pytest.mark.parametrize(
    "settings",
    [
        {"widths": (8, 8, 8)},
        {"widths": (8, 8), "depths": (1, 1)},
        {"widths": (8, 8, 8), "depths": (1, 0, 1)},
    ],
)
def test_misfitting_stages_are_refused(settings):
    with pytest.raises(
        ConfigError, match="resnet_autoatt_small cannot be made of stem 24, widths .* 3 or more stages"
    ):
        create_encoder("resnet_autoatt_small", **settings)


def test_nothing_was_published():
    with pytest.raises(WeightsError, match="No checkpoint was published for resnet_autoatt_small"):
        create_encoder("resnet_autoatt_small").load_published({})
