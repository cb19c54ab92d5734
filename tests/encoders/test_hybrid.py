import numpy as np
import pytest
import torch

from avdetect.encoders import create_encoder
from avdetect.errors import ConfigError


def hybrid(*backbones, **settings):
    torch.manual_seed(0)
    return create_encoder("hybrid_tiny", size=64, backbones=backbones, **settings).eval()


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)


def test_each_branch_sees_the_crops_as_its_own_preprocess_makes_them(crops):
    encoder = hybrid("mobilenetv3_small", "ucf_tiny")
    seen = []
    for branch in encoder.branches:
        branch.embed = lambda x, embed=branch.embed: seen.append(x) or embed(x)
    with torch.inference_mode():
        encoder(encoder.preprocess(crops))
    assert len({branch.preprocess for branch in encoder.branches}) > 1
    for x, branch in zip(seen, encoder.branches, strict=True):
        torch.testing.assert_close(x, branch.preprocess(crops), atol=1e-5, rtol=1e-5)


def test_features_are_joined_in_order(crops):
    encoder = hybrid("mobilenetv3_small", "efficientnet_autoatt_tiny")
    x = encoder.preprocess(crops)
    with torch.inference_mode():
        joined = torch.cat([branch.embed(x) for branch in encoder.branches], dim=1)
        assert joined.shape == (2, 1024 + 256)
        assert torch.equal(encoder.embed(x), torch.relu(encoder.dense[1](joined)))


def test_a_branch_is_the_encoder_without_its_head():
    whole = create_encoder("mobilenetv3_small", size=64).eval()
    branch = hybrid("mobilenetv3_small").branches[0]
    assert whole.state_dict().keys() - branch.state_dict().keys() == {"classifier.weight", "classifier.bias"}
    kept = {key: value for key, value in whole.state_dict().items() if not key.startswith("classifier.")}
    branch.load_state_dict(kept)
    (x,) = whole.example_inputs()
    with torch.inference_mode():
        assert torch.equal(branch.embed(x), whole.embed(x))


def test_default_branches_and_sizes():
    with torch.device("meta"):
        encoder = create_encoder("hybrid", size=96)
    assert [branch.name for branch in encoder.branches] == ["densenet121", "resnet50", "efficientnet_b0"]
    assert {branch.preprocess.size for branch in encoder.branches} == {96}
    assert encoder.dense[1].in_features == 1024 + 2048 + 1280


def test_pretrained_goes_to_the_branches_and_must_be_known_there():
    with pytest.raises(ConfigError, match="no pretrained weights for efficientnet_autoatt_tiny"):
        hybrid("efficientnet_autoatt_tiny", pretrained=True)


def test_what_is_no_visual_encoder_of_single_frames_is_refused():
    for name in ("mel_cnn_tiny", "lipsync_tiny"):
        with pytest.raises(ConfigError, match="has no setting size"):
            hybrid(name)
    with pytest.raises(ConfigError, match=r"one frame at a time; ssim\(mobilenetv3_small\) is none"):
        hybrid("ssim(mobilenetv3_small)")
    with pytest.raises(ConfigError, match="no encoder 'resnet5'; did you mean resnet50"):
        hybrid("resnet5")
    with pytest.raises(ConfigError, match="hybrid_tiny needs at least one backbone"):
        hybrid()
