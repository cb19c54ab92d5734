import numpy as np
import pytest
import torch
from PIL import Image

from avdetect.errors import ConfigError
from avdetect.transforms import VisualAugment, VisualPreprocess

OFF = {"flip_p": 0, "affine_p": 0, "colour_p": 0, "downscale_p": 0, "blur_p": 0, "noise_p": 0, "jpeg_p": 0}


@pytest.fixture
def crops():
    y, x = np.mgrid[:64, :64]
    face = np.stack([x * 3 + 20, y * 3 + 10, 200 - x - y + 40 * ((x // 4 + y // 4) % 2)], axis=-1).astype(
        np.uint8
    )
    return np.stack([face, face[::-1], face[:, ::-1]])


def test_preprocess_without_resizing_is_the_formula(crops):
    out = VisualPreprocess(64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))(crops)
    expected = (crops / 255.0 - np.array([0.5, 0.4, 0.3])) / np.array([0.2, 0.3, 0.4])
    assert out.dtype == torch.float32 and out.shape == (3, 3, 64, 64)
    np.testing.assert_allclose(out.permute(0, 2, 3, 1).numpy(), expected, atol=1e-5)


def test_preprocess_resizes_as_pillow_does(crops):
    out = VisualPreprocess(28, mean=(0, 0, 0), std=(1, 1, 1))(crops)
    pillow = np.asarray(Image.fromarray(crops[0]).resize((28, 28), Image.Resampling.BILINEAR))
    # Pillow rounds to whole grey values
    np.testing.assert_allclose(out[0].permute(1, 2, 0).numpy() * 255, pillow, atol=1.01)


def test_preprocess_of_no_crops_is_empty():
    assert VisualPreprocess(112)(np.zeros((0, 224, 224, 3), np.uint8)).shape == (0, 3, 112, 112)


@pytest.mark.parametrize("bad", [np.zeros((64, 64, 3), np.uint8), np.zeros((1, 64, 64, 3), np.float32)])
def test_wrong_crops_are_refused(bad):
    with pytest.raises(ValueError, match="uint8"):
        VisualPreprocess()(bad)
    with pytest.raises(ValueError, match="uint8"):
        VisualAugment()(bad, np.random.default_rng(0))


@pytest.mark.parametrize(
    "settings", [VisualPreprocess(96, mean=(0.1, 0.2, 0.3)), VisualAugment(hue=3.0, jpeg=(60, 70))]
)
def test_settings_survive_their_dictionary(settings):
    assert type(settings).from_dict(settings.to_dict()) == settings


def test_unknown_setting_is_named():
    with pytest.raises(ConfigError, match="VisualPreprocess has no setting sise; it knows mean, size, std"):
        VisualPreprocess.from_dict({"sise": 3})


def test_augmentation_repeats_with_the_seed_and_differs_without(crops):
    augment, before = VisualAugment(), crops.copy()
    first, again = augment(crops, np.random.default_rng(3)), augment(crops, np.random.default_rng(3))
    assert first.shape == crops.shape and first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, augment(crops, np.random.default_rng(4)))
    np.testing.assert_array_equal(crops, before)


@pytest.mark.parametrize("name", sorted(OFF))
def test_every_change_acts_alone_and_none_acts_when_off(crops, name):
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(VisualAugment(**OFF)(crops, rng), crops)
    changed = VisualAugment(**{**OFF, name: 1.0})(crops, rng).astype(int)
    assert np.abs(changed - crops).max() > 2
    if name != "flip_p":  # a change must leave a recognisable face
        assert np.abs(changed - crops).mean() < 60
    else:
        np.testing.assert_array_equal(changed, crops[:, :, ::-1])


def test_geometry_with_no_range_is_the_identity(crops):
    augment = VisualAugment(
        **{**OFF, "affine_p": 1.0, "colour_p": 1.0},
        shift=0,
        scale=0,
        rotation=0,
        brightness=0,
        contrast=0,
        saturation=0,
        hue=0,
    )
    np.testing.assert_array_equal(augment(crops, np.random.default_rng(0)), crops)


def test_geometry_leaves_no_black_border():
    white = np.full((20, 64, 64, 3), 255, np.uint8)
    augment = VisualAugment(**{**OFF, "affine_p": 1.0}, shift=0.1, scale=0.2, rotation=15)
    assert augment(white, np.random.default_rng(0)).min() == 255
