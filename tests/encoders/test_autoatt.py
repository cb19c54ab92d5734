import importlib.util
from pathlib import Path

import pytest
import torch

from avdetect.encoders import EfficientNetAutoAttB4, create_encoder
from avdetect.errors import WeightsError

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
FIXTURE = "icpr2020_EfficientNetAutoAttB4.npz"


@pytest.fixture(scope="module")
def published():
    if not (SHARED / "parity" / FIXTURE).is_file():
        pytest.skip(f"the outputs of the published network ({SHARED / 'parity' / FIXTURE}) are not at hand")
    spec = importlib.util.spec_from_file_location("fill", SHARED / "parity" / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    return fill.load(FIXTURE)


def test_equals_the_published_network(published, tmp_path):
    state, x, expected = published
    torch.save({"net": state, "epoch": 1}, tmp_path / "published.pth")
    encoder = EfficientNetAutoAttB4().load_published(tmp_path / "published.pth").eval()
    with torch.inference_mode():
        for ours, theirs in (
            (encoder(x), expected["logit"].squeeze(1)),
            (encoder.embed(x), expected["features"]),
            (encoder.attention(x), expected["attention"]),
        ):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_misfit_of_a_published_checkpoint_is_listed(published):
    state = dict(published[0])
    del state["efficientnet._conv_stem.weight"]
    state["efficientnet._fc.weight"] = torch.zeros(1)
    with pytest.raises(
        WeightsError, match="missing backbone.conv_stem.weight; unexpected efficientnet._fc.weight"
    ):
        EfficientNetAutoAttB4().load_published(state)


def test_published_layout_of_another_size_does_not_fit(published):
    with pytest.raises(WeightsError, match="do not fit efficientnet_autoatt_b0: .*other shapes"):
        create_encoder("efficientnet_autoatt_b0").load_published(published[0])


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
