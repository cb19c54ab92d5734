import cv2
import numpy as np
import pytest

from avdetect.data.pseudo.face_masks import REGIONS, changed_mask, half_plane, outline_mask, soften
from avdetect.data.pseudo.faces import KINDS, draw_kind, fake_face, fake_mouths
from avdetect.errors import ConfigError

SIDE = 64


class Grey:
    """In place of trained networks: draws every face as a grey square."""

    def regenerate(self, crops, rng):
        return np.full_like(crops, 120)


def faces(count=1, seed=0, side=SIDE):
    """Skin-coloured noise of several scales, another for each crop of the track."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        coarse = cv2.resize(rng.normal(0, 25, (8, 8, 3)).astype(np.float32), (side, side))
        out.append(
            np.clip([150, 110, 90] + coarse + rng.normal(0, 15, (side, side, 3)), 0, 255).astype(np.uint8)
        )
    return np.stack(out)


def make(kind, seed=1, crops=None):
    crops = faces(3) if crops is None else crops
    return fake_face(
        crops, np.random.default_rng(seed), kind, Grey(), faces(1, seed=9, side=crops.shape[1])[0]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_changes_the_masked_part_alone(kind):
    crops = faces(3)
    before = crops.copy()
    fake, named, mask = make(kind, crops=crops)
    assert named == kind and fake.shape == crops.shape and fake.dtype == np.uint8
    assert mask.shape == crops.shape[:3] and mask.dtype == np.float32
    assert 0 <= mask.min() and mask.max() <= 1
    assert np.array_equal(crops, before)  # what was given is left alone
    outside, inside = mask < 1e-3, mask > 0.9
    assert outside.mean() > 0.05 and inside.any()
    assert np.array_equal(fake[outside], crops[outside])
    change = np.abs(fake.astype(int) - crops)
    assert change[inside].mean() > 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_follows_from_the_generator(kind):
    first, second, other = (make(kind, seed)[0] for seed in (4, 4, 5))
    assert np.array_equal(first, second) and not np.array_equal(first, other)


def test_one_manipulation_for_all_crops_but_flicker():
    still = np.repeat(faces(1), 3, axis=0)
    for kind in set(KINDS) - {"flicker"}:
        fake, _, mask = make(kind, crops=still)
        assert np.array_equal(fake[0], fake[2]) and np.array_equal(mask[0], mask[2]), kind
    assert not np.array_equal(*make("flicker", crops=still)[0][:2])


def test_smoothing_kinds_take_detail_away():
    def detail(crops, mask):
        return np.abs(np.diff(crops.astype(int), axis=2))[mask[:, :, 1:] > 0.9].mean()

    crops = faces(1)
    for kind in ("resampled", "smooth", "mouth", "autoencoder"):
        made = [make(kind, seed, crops) for seed in range(10)]
        less = [detail(fake, mask) < detail(crops, mask) for fake, _, mask in made if mask.max() > 0.95]
        assert len(less) > 4 and np.mean(less) > 0.7, kind


def test_kinds_without_what_they_need():
    rng = np.random.default_rng(0)
    drawn = {draw_kind(rng) for _ in range(300)}
    assert drawn == set(KINDS) - {"identity", "autoencoder"}
    assert {draw_kind(rng, "partner", "generators") for _ in range(300)} == set(KINDS)
    assert {fake_face(faces(), rng, generators=Grey())[1] for _ in range(60)} >= {"autoencoder"}
    with pytest.raises(ConfigError, match="identity need partner"):
        fake_face(faces(), rng, "identity")
    with pytest.raises(ConfigError, match="autoencoder need generators"):
        fake_face(faces(), rng, "autoencoder")
    with pytest.raises(ConfigError, match="no pseudo-fake of faces 'swap': use one of self_blend"):
        fake_face(faces(), rng, "swap")


def test_wrong_arrays_are_refused():
    rng = np.random.default_rng(0)
    for wrong in (faces()[0], faces().astype(np.float32), faces()[:0]):
        with pytest.raises(ValueError, match="face crops must be uint8"):
            fake_face(wrong, rng)
    with pytest.raises(ValueError, match="the partner must be uint8"):
        fake_face(faces(), rng, "identity", partner=faces(side=32)[0])
    with pytest.raises(ValueError, match="mouths must be uint8"):
        fake_mouths(faces(), rng)


def test_mouths_are_redrawn_in_the_middle():
    rng = np.random.default_rng(3)
    mouths = rng.integers(0, 256, (5, 48, 48), dtype=np.uint8)
    fake = fake_mouths(mouths, np.random.default_rng(1))
    change = np.abs(fake.astype(int) - mouths).mean(0)
    assert fake.shape == mouths.shape and fake.dtype == np.uint8
    assert change[20:28, 20:28].mean() > 20 and change[:4, :4].max() <= 2
    assert np.array_equal(fake, fake_mouths(mouths, np.random.default_rng(1)))


@pytest.mark.parametrize("region", REGIONS)
def test_outlines_lie_where_they_should(region):
    rng = np.random.default_rng(0)
    mean = np.mean([outline_mask(80, rng, region) for _ in range(60)], axis=0)
    rows, columns = np.mgrid[:80, :80] / 80
    centre = np.array([(mean * columns).sum(), (mean * rows).sum()]) / mean.sum()
    assert np.allclose(centre, [REGIONS[region].x, REGIONS[region].y], atol=0.04)
    area = np.pi * REGIONS[region].width * REGIONS[region].height
    assert 0.7 * area < mean.mean() < 1.3 * area


def test_edges_have_the_width_that_is_asked_for():
    step = np.zeros((96, 96), np.uint8)
    step[:, 48:] = 255
    for sigma in (2.0, 10.0):
        edge = soften(step, sigma)[48]
        deviation = np.sqrt((np.diff(edge) * (np.arange(95) - 47) ** 2).sum())
        assert abs(deviation - sigma) < 0.25 * sigma
    half = half_plane(64, np.random.default_rng(2))
    assert half.min() == 0 and half.max() == 1 and 0.3 < half.mean() < 0.7


def test_change_is_found_where_two_crops_differ():
    genuine = faces()[0]
    fake = genuine.copy()
    fake[20:40, 10:30] = 255 - fake[20:40, 10:30]
    noisy = np.clip(fake.astype(int) + np.random.default_rng(0).integers(-1, 2, fake.shape), 0, 255)
    mask = changed_mask(genuine, noisy.astype(np.uint8))
    assert mask[24:36, 14:26].min() == 1 and mask[:, 45:].max() == 0 and mask[50:].max() == 0
    assert changed_mask(genuine, np.roll(genuine, 7, axis=1)) is None  # cut elsewhere: nothing is known
