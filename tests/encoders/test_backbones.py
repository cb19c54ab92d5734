import logging

import pytest
import timm
import torch
import torchvision

from avdetect.encoders import create_encoder
from avdetect.encoders.visual.backbones import TIMM_NAMES, Backbone
from avdetect.errors import ConfigError, WeightsError
from avdetect.transforms import IMAGENET_MEAN, IMAGENET_STD


def randomised(model):
    """Parameters and statistics that differ from a fresh network's."""
    generator = torch.Generator().manual_seed(1)
    for name, value in model.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            value.copy_(0.1 * torch.randn(value.shape, generator=generator))
        elif name.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    return model.eval()


@pytest.mark.parametrize("name", TIMM_NAMES)
def test_preprocess_is_that_of_the_weights_of_timm(name):
    with torch.device("meta"):
        encoder = create_encoder(name)
    half = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    expected = half if name == "vit_b16" else (IMAGENET_MEAN, IMAGENET_STD)
    assert (encoder.preprocess.mean, encoder.preprocess.std) == expected and encoder.preprocess.size == 224


@pytest.mark.parametrize("name", ["resnet50", "densenet121"])
def test_published_imagenet_network_gives_its_features(name, caplog):
    theirs = randomised(getattr(torchvision.models, name)())
    encoder = create_encoder(name, size=64).eval()
    own_head = encoder.classifier.weight.clone()
    with caplog.at_level(logging.WARNING, "avdetect"):
        assert encoder.load_published(theirs.state_dict()) is encoder
    layer = "fc" if name == "resnet50" else "classifier"
    assert f"{name}: the published classifier {layer}.weight, {layer}.bias (1000, " in caplog.text
    setattr(theirs, layer, torch.nn.Identity())
    # in double precision: fifty layers of sums in another order differ by more than the bound in single
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.double().embed(x), theirs.double()(x), atol=1e-4, rtol=1e-4)
    assert torch.equal(encoder.float().classifier.weight, own_head)


def test_timm_layout_is_read_from_a_file_and_a_misfit_is_listed(tmp_path):
    theirs = randomised(timm.create_model("mobilenetv3_small_100"))
    torch.save(theirs.state_dict(), tmp_path / "mobilenet.pth")
    encoder = create_encoder("mobilenetv3_small", size=64).eval().load_published(tmp_path / "mobilenet.pth")
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        features = theirs.forward_head(theirs.forward_features(x), pre_logits=True)
        torch.testing.assert_close(encoder.embed(x), features)
    state = {key.replace("conv_stem", "stem"): value for key, value in theirs.state_dict().items()}
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    with pytest.raises(
        WeightsError, match="missing backbone.conv_stem.weight; unexpected backbone.stem.weight"
    ):
        encoder.load_published(state)
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_vit_takes_whole_patches_only():
    with torch.device("meta"):
        assert create_encoder("vit_b16", size=64).backbone.pos_embed.shape == (1, 17, 768)
    for size in (100, 0):
        with pytest.raises(ConfigError, match=f"a size that is a multiple of 16, not {size}"):
            create_encoder("vit_b16", size=size)


def test_an_unknown_backbone_is_refused():
    with pytest.raises(ConfigError, match="no backbone 'alexnet'; the names are efficientnet_b0, "):
        Backbone(name="alexnet")


def test_pretrained_is_asked_of_timm_once(monkeypatch):
    asked = []
    create = timm.create_model

    def record(name, pretrained, **options):
        asked.append((name, pretrained))
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", record)
    encoder = create_encoder("mobilenetv3_small", pretrained=True)
    create_encoder("mobilenetv3_small", **encoder.settings)
    assert asked == [("mobilenetv3_small_100", True), ("mobilenetv3_small_100", False)]


def test_dropout_is_that_of_the_settings():
    encoder = create_encoder("mobilenetv3_small", size=32, dropout=0.0).train()
    embedding = torch.randn(4, 1024)
    with torch.inference_mode():
        assert torch.equal(encoder.classify(embedding), encoder.classify(embedding))
        encoder = create_encoder("mobilenetv3_small", size=32, dropout=0.5).train()
        assert not torch.equal(encoder.classify(embedding), encoder.classify(embedding))
