"""Freezing, learning rates by layer, optimisers, schedules: what learns, and how fast."""

import pytest
import torch
from torch import nn

from avdetect.encoders import create_encoder
from avdetect.errors import ConfigError
from avdetect.training import FitSettings
from avdetect.training.optim import build_optimizer, depth_groups, freeze, schedule_factor, train_mode
from avdetect.training.tasks import _SyncPasses


class Net(nn.Module):
    """Three layers with norms and a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.stem_norm = nn.BatchNorm1d(4)
        self.blocks = nn.Sequential(
            nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)),
            nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)),
        )
        self.classifier = nn.Linear(4, 1)

    def forward(self, x):
        return self.classifier(self.blocks(self.stem_norm(self.stem(x))))


def trainable(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def rates(model, **settings):
    """Learning rate by parameter name, as the optimiser will have it."""
    fit = FitSettings(lr=1.0, **settings)
    optimizer, scales = build_optimizer(model, fit)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: scale
        for group, scale in zip(optimizer.param_groups, scales, strict=True)
        for parameter in group["params"]
    }


def test_frozen_parts_by_prefix_end_at_a_dot():
    model = Net()
    frozen = freeze(model, FitSettings(freeze=("stem", "blocks.0")))
    assert trainable(model) == {
        "stem_norm.weight", "stem_norm.bias", "blocks.1.0.weight", "blocks.1.0.bias", "blocks.1.1.weight",
        "blocks.1.1.bias", "classifier.weight", "classifier.bias",
    }  # fmt: skip
    assert len(frozen) == 6


def test_frozen_features_leave_the_head():
    model = Net()
    freeze(model, FitSettings(freeze_features=True))
    assert trainable(model) == {"classifier.weight", "classifier.bias"}


def test_norms_of_frozen_parts_gather_no_statistics():
    model = Net()
    freeze(model, FitSettings(freeze=("stem", "stem_norm", "blocks.0")))
    train_mode(model)
    assert not model.stem_norm.training and not model.blocks[0][2].training
    assert model.blocks[1][1].training and model.blocks[1][2].training
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model(torch.randn(16, 4))
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {f"blocks.1.1.{key}" for key in ("running_mean", "running_var", "num_batches_tracked")}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"freeze": ("body",)},
            "'body', but Net has no such part: choose of stem, stem_norm, blocks, classifier",
        ),
        (
            {"freeze": ("blocks.7.0",)},
            "'blocks.7.0', but Net has no such part: choose of blocks.0, blocks.1$",
        ),
        ({"lr_scale": {"neck": 0.1}}, "lr_scale names 'neck'"),
        ({"freeze": ("stem", "stem_norm", "blocks", "classifier")}, "everything of Net is frozen"),
    ],
)
def test_wrong_parts_get_a_sentence(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        fit = FitSettings(**settings)
        model = Net()
        freeze(model, fit)
        build_optimizer(model, fit)


def test_rates_decay_from_the_head_down():
    found = rates(Net(), layer_decay=0.5)
    assert found["classifier.weight"] == 1.0
    assert found["blocks.1.0.weight"] == found["blocks.1.1.bias"] == 0.5
    assert found["blocks.0.0.weight"] == 0.25
    assert found["stem.weight"] == found["stem_norm.weight"] == 0.125


def test_rates_scale_by_the_longest_prefix():
    found = rates(Net(), lr_scale={"blocks": 0.1, "blocks.1": 0.5}, layer_decay=0.5)
    assert found["blocks.0.0.weight"] == pytest.approx(0.025)
    assert found["blocks.1.0.weight"] == pytest.approx(0.25)
    assert found["stem.weight"] == 0.125


@pytest.mark.parametrize("name", ["efficientnet_autoatt_tiny", "mel_cnn_tiny", "lipsync_tiny"])
def test_depth_groups_hold_every_parameter_once(name):
    encoder = create_encoder(name)
    groups = depth_groups(encoder)
    named = [key for group in groups for key in group]
    assert sorted(named) == sorted(key for key, _ in encoder.named_parameters())
    assert all(key.startswith("classifier") for key in groups[-1])
    assert len(groups) >= 5


def test_blocks_of_a_backbone_are_groups():
    groups = depth_groups(create_encoder("efficientnet_autoatt_tiny"))
    found = next(group for group in groups if "backbone.blocks.3.1.conv_pw.weight" in group)
    assert all(key.startswith("backbone.blocks.3.1.") for key in found)
    assert groups[0] == ["backbone.conv_stem.weight", "backbone.bn1.weight", "backbone.bn1.bias"]


def test_parts_of_a_wrapped_encoder_have_its_own_names():
    model = _SyncPasses(create_encoder("lipsync_tiny"))
    freeze(model, FitSettings(freeze_features=True))
    assert trainable(model) and all(name.startswith("encoder.classifier") for name in trainable(model))
    assert set(rates(model, lr_scale={"classifier": 0.3}).values()) == {0.3}


def test_without_options_there_is_one_group():
    """As before there were options: checkpoints of that time still fit."""
    optimizer, scales = build_optimizer(Net(), FitSettings())
    assert scales == [1.0] and len(optimizer.param_groups) == 1
    assert type(optimizer) is torch.optim.AdamW


def test_optimisers():
    adam, _ = build_optimizer(Net(), FitSettings(optimizer="adam", betas=(0.5, 0.9), weight_decay=5e-4))
    assert type(adam) is torch.optim.Adam
    assert adam.defaults["betas"] == (0.5, 0.9) and adam.defaults["weight_decay"] == 5e-4
    sgd, _ = build_optimizer(Net(), FitSettings(optimizer="sgd", momentum=0.7))
    assert type(sgd) is torch.optim.SGD and sgd.defaults["momentum"] == 0.7


def test_cosine_ends_at_its_floor():
    fit = FitSettings(lr=1e-4, lr_min=5e-6, warmup=0)
    assert schedule_factor(fit, 0, 100) == 1.0
    assert 1e-4 * schedule_factor(fit, 50, 100) == pytest.approx((1e-4 + 5e-6) / 2)
    assert 1e-4 * schedule_factor(fit, 100, 100) == pytest.approx(5e-6)
    assert schedule_factor(FitSettings(warmup=0), 100, 100) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"optimizer": "lion"}, "unknown optimizer 'lion': use adamw, adam or sgd"),
        ({"precision": "fp8"}, "unknown precision"),
        ({"epochs": -1}, "epochs is -1: it must be 0 or more"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"momentum": 1.0}, "momentum"),
        ({"lr": -1.0}, "lr is -1.0: it must be 0 or more"),
        ({"lr": "abc"}, "lr 'abc': it must be a number"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"warmup": -1}, "warmup is -1"),
        ({"patience": -1}, "patience is -1"),
        ({"lr": 1e-4, "lr_min": 1e-3}, "lr_min is 0.001: it must be between 0 and lr"),
        ({"lr": 1e-4, "lr_stop": 1e-3}, "lr_stop"),
        ({"plateau_factor": 1.0}, "plateau_factor"),
        ({"plateau_patience": -1}, "plateau_patience"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"layer_decay": 0.0}, "layer_decay"),
        ({"lr_scale": {"stem": -1.0}}, "lr_scale"),
        ({"freeze": "stem"}, "freeze 'stem': it must be a list of texts"),
        ({"learning_rate": 1.0}, "no setting learning_rate"),
    ],
)
def test_wrong_settings_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        FitSettings.from_dict(settings)
