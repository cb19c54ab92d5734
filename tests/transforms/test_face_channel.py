import numpy as np
import pytest

from avdetect.errors import ConfigError
from avdetect.transforms.face_channel import FaceChannel

SIDE = 64
NOTHING = {f"{name}_p": 0.0 for name in ("flip", "downscale", "blur", "sharpen", "colour", "tone", "noise")} | {
    "h264_p": 0.0, "jpeg_p": 0.0, "erase_p": 0.0, "zoom": (1.0, 1.0), "aspect": 0.0, "rotation": 0.0, "shift": 0.0,
}  # fmt: skip


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def run(channel, picture, seed=0):
    place, change = channel.draw(picture.shape[0], np.random.default_rng(seed))
    return change(place(picture))


def test_both_of_a_pair_get_the_same():
    genuine = picture()
    fake = genuine.copy()
    fake[20:30, 20:30] += 1
    steps = {"downscale_p": 0, "blur_p": 0, "sharpen_p": 0, "jpeg_p": 0}  # those that spread a difference
    channel = FaceChannel(**steps, zoom=(1.0, 1.0), aspect=0.0, rotation=0.0)
    for seed in range(20):
        place, change = channel.draw(SIDE, np.random.default_rng(seed))
        one, other = change(place(genuine)), change(place(fake))
        assert one.shape == genuine.shape and one.dtype == np.uint8
        assert (one != other).any(axis=-1).mean() < 0.06
        assert np.array_equal(one, change(place(genuine)))  # drawn once, not with each picture


def test_without_any_change_the_picture_stays():
    assert np.array_equal(run(FaceChannel(**NOTHING), picture()), picture())


@pytest.mark.parametrize(
    "step", ["flip", "downscale", "blur", "sharpen", "colour", "tone", "noise", "h264", "jpeg", "erase"]
)
def test_every_step_does_something(step):
    channel = FaceChannel(**NOTHING | {f"{step}_p": 1.0, "blur": (2.0, 3.0)})
    changed = [run(channel, picture(), seed) for seed in range(5)]
    assert all(one.shape == (SIDE, SIDE, 3) and one.dtype == np.uint8 for one in changed)
    assert sum(not np.array_equal(one, picture()) for one in changed) >= 4
    assert np.array_equal(changed[0], run(channel, picture(), 0))


def test_flip_and_shift_move_pictures_and_masks_alike():
    flipped = run(FaceChannel(**NOTHING | {"flip_p": 1.0}), picture())
    assert np.array_equal(flipped, picture()[:, ::-1])
    mask = np.zeros((SIDE, SIDE), np.float32)
    mask[10:20, 30:50] = 1.0
    shown = np.repeat((mask * 255).astype(np.uint8)[..., None], 3, 2)
    place, _ = FaceChannel().draw(SIDE, np.random.default_rng(3))
    assert np.abs(place(mask) - place(shown)[..., 0] / 255).max() < 0.01
    assert not np.array_equal(place(mask), mask)


def test_noise_has_the_deviation_that_is_asked_for():
    grey = np.full((SIDE, SIDE, 3), 128, np.uint8)
    noisy = run(FaceChannel(**NOTHING | {"noise_p": 1.0, "noise": (5.0, 5.0)}), grey)
    assert 4.5 < noisy.std() < 5.5


def test_ranges_are_checked():
    with pytest.raises(
        ConfigError, match=r"FaceChannel's jpeg is \[90, 40\]: it must be two positive numbers"
    ):
        FaceChannel(jpeg=(90, 40))
    with pytest.raises(ConfigError, match="no setting jpg"):
        FaceChannel.from_dict({"jpg": 1})
