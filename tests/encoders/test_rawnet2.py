import importlib.util
from pathlib import Path

import pytest
import torch

from avdetect.encoders import create_encoder
from avdetect.encoders.audio.rawnet2 import ScaledBlock
from avdetect.errors import WeightsError

SHARED = Path(__file__).resolve().parents[2].parent / "shared"


@pytest.fixture(scope="module")
def published():
    if not (SHARED / "parity").is_dir():
        pytest.skip("the reference files are not here")
    spec = importlib.util.spec_from_file_location("fill", SHARED / "parity" / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    return fill.load("RawNet2.npz")


def test_equals_the_published_network(published, tmp_path):
    state, x, expected = published
    torch.save(state, tmp_path / "published.pth")
    encoder = create_encoder("rawnet2").load_published(tmp_path / "published.pth").eval()
    with torch.inference_mode():
        embedding = encoder.embed(x)
        torch.testing.assert_close(embedding, expected["embedding"], atol=1e-4, rtol=0)
        # the published network puts out the logarithm of the softmax
        log_softmax = torch.log_softmax(encoder.class_logits(embedding), dim=1)
        torch.testing.assert_close(log_softmax, expected["logits"], atol=1e-4, rtol=0)
        fake = expected["logits"][:, 0].exp()
        torch.testing.assert_close(torch.sigmoid(encoder(x)), fake, atol=1e-5, rtol=0)


def test_misfit_of_a_published_checkpoint_is_listed(published):
    state = dict(published[0])
    state["block2.0.conv3.weight"] = state.pop("block2.0.conv_downsample.weight")
    with pytest.raises(
        WeightsError, match="missing blocks.2.shortcut.weight; unexpected block2.0.conv3.weight"
    ):
        create_encoder("rawnet2").load_published(state)


def test_what_the_published_code_does_not_use_stays_frozen():
    with torch.device("meta"):
        encoder = create_encoder("rawnet2")
    frozen = {key for key, p in encoder.named_parameters() if not p.requires_grad}
    assert frozen == {f"blocks.{i}.norm1.{part}" for i in range(1, 6) for part in ("weight", "bias")}


def test_a_block_scales_each_map_by_what_it_holds():
    torch.manual_seed(0)
    block, x = ScaledBlock(4, 6, first=True).eval(), torch.randn(2, 4, 90)
    with torch.no_grad():
        block.scale.weight.zero_()
        block.scale.bias.fill_(50.0)  # a scale of 1
        full = block(x)
        block.scale.bias.fill_(0.0)  # of a half
        torch.testing.assert_close(block(x), full / 2)
    assert full.shape == (2, 6, 30)


def test_polarity_is_spoof_over_bona_fide():
    encoder = create_encoder("rawnet2", hidden=8, layers=1, dense=8).eval()
    with torch.inference_mode():
        encoder.classifier.weight.zero_()
        encoder.classifier.bias.copy_(torch.tensor([2.0, -1.0]))  # certain of spoof
        torch.testing.assert_close(encoder.classify(torch.randn(2, 8)), torch.full((2,), 3.0))
