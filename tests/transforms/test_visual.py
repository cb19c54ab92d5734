import numpy as np
import pytest
import torch
from PIL import Image

from avdetect.errors import ConfigError
from avdetect.transforms import VisualAugment, VisualPreprocess
from avdetect.transforms.recompress import through_h264
from avdetect.transforms.visual import STEPS

OFF = {f"{step}_p": 0.0 for step in STEPS}
# Bonettini et al. (ICPR 2020): what their list of transformations comes to
ISPL = {
    **OFF,
    "flip_p": 0.5,
    "pixelate_p": 0.5,
    "pixelate": [0.5, 0.5],
    "colour_p": 0.5,
    "colour_either": True,
    "brightness": 0.2,
    "contrast": 0.2,
    "saturation": 0.12,
    "hue": 20.0,
    "noise_p": 0.5,
    "noise": [2.55, 7.65],
    "sensor": 0.5,
    "downscale_p": 0.5,
    "downscale": [0.7, 0.9],
    "downscale_filters": ["bilinear"],
    "jpeg_p": 0.5,
    "jpeg": [50, 99],
    "order": [
        "pixelate",
        "flip",
        "affine",
        "colour",
        "clahe",
        "blur",
        "noise",
        "downscale",
        "h264",
        "jpeg",
    ],
}


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
    "settings",
    [
        VisualPreprocess(96, mean=(0.1, 0.2, 0.3)),
        VisualPreprocess(clahe=True),
        VisualAugment(hue=3.0, jpeg=(60, 70)),
        VisualAugment.from_dict(ISPL),
    ],
)
def test_settings_survive_their_dictionary(settings):
    assert type(settings).from_dict(settings.to_dict()) == settings


def test_unknown_setting_is_named():
    with pytest.raises(
        ConfigError, match="VisualPreprocess has no setting sise; it knows clahe, mean, size, std"
    ):
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


def test_what_is_off_draws_nothing(crops):
    rng = np.random.default_rng(0)
    VisualAugment(**OFF)(crops, rng)
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state


def test_later_additions_are_off():
    augment = VisualAugment()
    assert (augment.pixelate_p, augment.clahe_p, augment.h264_p, augment.sensor, augment.shear) == (0,) * 5
    assert not augment.colour_either and not VisualPreprocess().clahe


def test_settings_written_before_an_addition_still_load():
    old = {"size": 112, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    assert VisualPreprocess.from_dict(old) == VisualPreprocess(112, (0.5,) * 3, (0.5,) * 3)


def test_equalising_belongs_to_the_preprocessing():
    texture = np.random.default_rng(0).normal(60, 4, (2, 224, 224, 1)).round().astype(np.uint8)
    dim = np.repeat(texture, 3, axis=-1)
    plain, equal = (VisualPreprocess(224, (0,) * 3, (1,) * 3, clahe=on)(dim) for on in (False, True))
    assert equal.std() > 1.5 * plain.std()
    red, green, blue = equal.unbind(1)
    # lightness alone is changed: grey stays grey, up to the rounding of the way there and back
    assert (red - green).abs().max() <= 2 / 255 and (red - blue).abs().max() <= 2 / 255
    assert VisualPreprocess(32, clahe=True)(dim[:0]).shape == (0, 3, 32, 32)


def test_shear_slants_upright_lines_about_the_centre():
    lines = np.full((1, 65, 65, 3), 255, np.uint8)
    lines[:, :, 32] = 0
    still = {"shift": 0, "scale": 0, "rotation": 0}
    rng = np.random.default_rng(1)
    out = VisualAugment(**{**OFF, "affine_p": 1.0}, **still, shear=20)(lines, rng)[0, :, :, 0].astype(int)
    centre = ((255 - out) * np.arange(65)).sum(1) / (255 - out).sum(1)  # where the line runs in each row
    slope = np.polyfit(np.arange(65), centre, 1)[0]
    assert 0.01 < abs(slope) <= np.tan(np.radians(20)) + 0.01
    assert abs(centre[32] - 32) < 0.6 and np.ptp(np.diff(centre, 2)) < 1.0


def test_strong_geometry_leaves_no_black_border():
    white = np.full((40, 64, 64, 3), 255, np.uint8)
    for rotation in (45, 180):
        augment = VisualAugment(**{**OFF, "affine_p": 1.0}, shift=0.05, rotation=rotation, shear=15)
        assert augment(white, np.random.default_rng(0)).min() == 255


def test_either_light_or_hue_changes(crops):
    augment = VisualAugment(**{**OFF, "colour_p": 1.0}, colour_either=True, saturation=0.0)
    grey = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None] * 2 + 60, (40, 64, 64))
    changed = augment(np.stack([grey] * 3, axis=-1), np.random.default_rng(0)).astype(int)
    # hue does not touch grey, so that where hue was drawn the picture stays
    same = np.abs(changed - grey[..., None]).max(axis=(1, 2, 3)) <= 1
    assert 10 < same.sum() < 30
    augment = VisualAugment(**{**OFF, "colour_p": 1.0}, colour_either=True, brightness=0, contrast=0, hue=90)
    assert (
        len({picture.tobytes() for picture in augment(np.stack([crops[0]] * 20), np.random.default_rng(0))})
        > 5
    )


def test_pixelating_leaves_blocks(crops):
    out = VisualAugment(**{**OFF, "pixelate_p": 1.0})(crops, np.random.default_rng(0))
    for row, column in ((0, 1), (1, 0), (1, 1)):
        np.testing.assert_array_equal(out[:, row::2, column::2], out[:, ::2, ::2])


def test_sensor_noise_replaces_its_part_of_the_noise(crops):
    stack = np.stack([crops[0]] * 40)
    clean = stack[0].astype(float)

    def lightness(part):
        augment = VisualAugment(**{**OFF, "noise_p": 1.0}, sensor=part, noise=(4.0, 4.0))
        pictures = augment(stack, np.random.default_rng(0)).astype(float)
        return (pictures - clean).mean(axis=(1, 2, 3))

    assert np.abs(lightness(0.0)).max() < 0.5  # Gaussian noise has no mean
    assert lightness(1.0).min() > 0.5  # grains of light only add
    assert 8 <= (lightness(0.5) > 0.5).sum() <= 32


def test_h264_loses_more_at_higher_rate_factors():
    texture = np.random.default_rng(0).normal(128, 30, (96, 96, 3)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(texture).resize((192, 192), Image.Resampling.BICUBIC)
    lost = []
    for crf in (10, 23, 40):
        out = through_h264(image, crf, (1, -2))
        lost.append(np.abs(np.asarray(out, int) - np.asarray(image, int)).mean())
        assert out.tobytes() == through_h264(image, crf, (1, -2)).tobytes()
    assert 0 < lost[0] < lost[1] < lost[2]


@pytest.mark.parametrize("size", [(64, 64), (63, 65), (17, 16)])
@pytest.mark.parametrize("motion", [(0, 0), (2, -1), (-2, 2)])
def test_h264_keeps_the_picture_in_its_place_at_any_size(size, motion):
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    picture = np.stack([x * 2, y * 2, 128 + 60 * np.sin((x + y) / 6)], axis=-1).astype(np.uint8)
    out = np.asarray(through_h264(Image.fromarray(picture), 12, motion), int)
    assert out.shape == picture.shape
    assert np.abs(out - picture).mean() < 5


def test_the_order_of_the_changes_is_a_setting(crops):
    order = [step for step in STEPS if step != "jpeg"]
    both = {**OFF, "jpeg_p": 1.0, "jpeg": (20, 20), "noise_p": 1.0, "noise": (20.0, 20.0)}
    last = VisualAugment(**both)(crops, np.random.default_rng(0)).astype(int)
    first = VisualAugment(**both, order=("jpeg", *order))(crops, np.random.default_rng(0)).astype(int)

    def roughness(pictures):
        return np.abs(np.diff(pictures, axis=2)).mean()

    assert roughness(first) > 1.1 * roughness(last)  # JPEG takes noise away that was there before it
    for wrong in (order, [*STEPS, "jpeg"], [*order, "sharpen"]):
        with pytest.raises(ConfigError, match="it must name each of pixelate, flip, .*, jpeg once"):
            VisualAugment(order=tuple(wrong))


def test_unknown_filters_are_named():
    with pytest.raises(
        ConfigError, match="knows no filter lanczos; the filters are nearest, bilinear, bicubic"
    ):
        VisualAugment(downscale_filters=("bilinear", "lanczos"))
    with pytest.raises(ConfigError, match="filter"):
        VisualAugment(downscale_filters=())


def test_published_recipe_is_a_setting(crops):
    augment = VisualAugment.from_dict(ISPL)
    stack = np.concatenate([crops] * 8)
    out = augment(stack, np.random.default_rng(0))
    np.testing.assert_array_equal(out, augment(stack, np.random.default_rng(0)))
    assert out.shape == stack.shape and np.abs(out.astype(int) - stack).max() > 20
