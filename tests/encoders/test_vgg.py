import logging

import numpy as np
import pytest
import torch
import torchvision

from avdetect.encoders import create_encoder, load_encoder, save_encoder
from avdetect.errors import WeightsError
from avdetect.transforms import IMAGENET_MEAN, IMAGENET_STD

DENSE = 24
CONVOLUTIONS = "1_1 1_2 2_1 2_2 3_1 3_2 3_3 4_1 4_2 4_3 5_1 5_2 5_3".split()
MEAN_RGB = (129.1863, 104.7624, 93.5940)


def torchvision_vgg(outputs):
    """torchvision's VGG-16, its dense layers made narrow."""
    torch.manual_seed(3)
    model = torchvision.models.VGG(torchvision.models.vgg16().features, num_classes=outputs)
    model.classifier[0] = torch.nn.Linear(512 * 7 * 7, DENSE)
    model.classifier[3] = torch.nn.Linear(DENSE, DENSE)
    model.classifier[6] = torch.nn.Linear(DENSE, outputs)
    with torch.no_grad():
        for layer in model.features:
            if isinstance(layer, torch.nn.Conv2d):
                layer.bias.uniform_(-0.1, 0.1)
    return model.eval()


@pytest.fixture(scope="module")
def reference():
    return torchvision_vgg(2622)


@pytest.fixture(scope="module")
def fc7(reference):
    """Preprocessed crops -> fc7, by torchvision."""

    def forward(x):
        with torch.inference_mode():
            pooled = reference.avgpool(reference.features(x)).flatten(1)
            return reference.classifier[:5](pooled)

    return forward


def vggface_state(reference, pattern):
    """The reference's weights under the names that a port of VGGFace uses."""
    layers = [layer for layer in reference.features if isinstance(layer, torch.nn.Conv2d)]
    named = dict(zip((pattern.format(name) for name in CONVOLUTIONS), layers, strict=True))
    named |= {f"fc{6 + i}": reference.classifier[3 * i] for i in range(3)}
    return {
        f"{name}.{key}": v.clone() for name, layer in named.items() for key, v in layer.state_dict().items()
    }


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=1e-4 * float(theirs.abs().max()), rtol=0)


def embed(encoder, crops):
    with torch.inference_mode():
        return encoder.eval().embed(encoder.preprocess(crops))


def test_preprocess_is_published_mean_subtraction(crops):
    with torch.device("meta"):
        preprocess = create_encoder("vgg16").preprocess
    expected = crops.astype(np.float32) - np.array(MEAN_RGB, np.float32)
    np.testing.assert_allclose(preprocess(crops).permute(0, 2, 3, 1).numpy(), expected, atol=1e-4)


def test_layout_of_vgg_face_dag(reference, fc7, crops, tmp_path, caplog):
    torch.save(vggface_state(reference, "conv{}"), tmp_path / "vgg_face_dag.pth")
    encoder = create_encoder("vgg16", dense=DENSE)
    own_head = encoder.classifier.weight.clone()
    with caplog.at_level(logging.WARNING, "avdetect"):
        assert encoder.load_published(tmp_path / "vgg_face_dag.pth") is encoder
    assert "vgg16: the published classifier fc8.weight, fc8.bias (2622, 24) is not used" in caplog.text
    assert torch.equal(encoder.classifier.weight, own_head)
    x = torch.from_numpy(crops - np.array(MEAN_RGB)).float().permute(0, 3, 1, 2)
    close(embed(encoder, crops), fc7(x))


def test_layout_of_the_torch_file_is_of_bgr(reference, fc7, crops):
    encoder = create_encoder("vgg16", dense=DENSE).load_published(vggface_state(reference, "conv_{}"))
    bgr = crops[..., ::-1] - np.array(MEAN_RGB[::-1])
    x = torch.from_numpy(bgr).float().permute(0, 3, 1, 2)
    close(embed(encoder, crops), fc7(x))


def test_layout_of_torchvision_brings_its_preprocessing(reference, fc7, crops, tmp_path):
    encoder = create_encoder("vgg16", dense=DENSE).load_published(reference.state_dict())
    assert (encoder.preprocess.mean, encoder.preprocess.std) == (IMAGENET_MEAN, IMAGENET_STD)
    x = (crops / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    features = fc7(torch.from_numpy(x).float().permute(0, 3, 1, 2))
    close(embed(encoder, crops), features)
    save_encoder(encoder, tmp_path / "own.safetensors")
    loaded = load_encoder(tmp_path / "own.safetensors")
    close(embed(loaded, crops), features)
    encoder.load_published(vggface_state(reference, "conv{}"))
    assert encoder.preprocess == create_encoder("vgg16", dense=DENSE).preprocess


def test_a_misfit_is_listed_and_changes_nothing(reference):
    encoder = create_encoder("vgg16", dense=DENSE)
    before, preprocess = encoder.features[0].weight.clone(), encoder.preprocess
    state = dict(reference.state_dict())
    del state["classifier.0.bias"]
    with pytest.raises(WeightsError, match="do not fit vgg16: missing fc6.bias"):
        encoder.load_published(state)
    state = vggface_state(reference, "conv{}")
    state["conv6_1.weight"] = state.pop("conv5_3.weight")
    with pytest.raises(WeightsError, match="missing features.28.weight; unexpected conv6_1.weight"):
        encoder.load_published(state)
    with pytest.raises(WeightsError, match=r"other shapes fc6.weight \(24, 25088\) instead of \(16, 25088\)"):
        create_encoder("vgg16", dense=16).load_published(reference.state_dict())
    assert torch.equal(encoder.features[0].weight, before) and encoder.preprocess == preprocess


def test_random_weights_let_the_input_through():
    torch.manual_seed(0)
    encoder = create_encoder("vgg16", size=64, dense=64).eval()
    with torch.inference_mode():
        spread = encoder.embed(*encoder.example_inputs(8)).std(dim=0).mean()
    assert 0.02 < spread < 5  # with torch's own initial values it is below 1e-4
