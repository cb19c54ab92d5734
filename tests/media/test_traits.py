"""What face crops and sound are like, in numbers that do not depend on who judges them."""

import numpy as np
import pytest

from avdetect.media.traits import SOUND_TRAITS, face_traits, sound_traits

RATE = 16000
HELD, GLIDING = 41, 42  # columns of the sound's traits: share of held and of gliding pitch


def tone(hz, seconds=2.0):
    """Five harmonics of a pitch in Hz, constant or one value a sample."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(hz, round(seconds * RATE))) / RATE
    return (0.1 * sum(np.sin(k * phase) / k for k in range(1, 6))).astype(np.float32)


def test_one_row_per_two_seconds_and_a_rest_joins_the_last():
    sound = np.random.default_rng(0).normal(0, 0.1, 5 * RATE).astype(np.float32)
    assert sound_traits(sound, RATE).shape == (2, SOUND_TRAITS)
    assert sound_traits(sound[: RATE // 2], RATE).shape == (1, SOUND_TRAITS)
    first = sound_traits(sound[: 2 * RATE], RATE)
    assert sound_traits(sound, RATE)[0] == pytest.approx(first[0])


def test_silence_and_less_than_a_fifth_of_a_second_say_nothing():
    sound = np.concatenate([np.zeros(2 * RATE, np.float32), tone(150)])
    rows = sound_traits(sound, RATE)
    assert np.isnan(rows[0]).all() and np.isfinite(rows[1]).all()
    assert np.isnan(sound_traits(tone(150, 0.1), RATE)).all()


def test_a_held_pitch_is_told_from_a_gliding_one():
    steady = sound_traits(tone(150), RATE)[0]
    sliding = sound_traits(tone(150 * 2 ** np.linspace(0, 1.5, 2 * RATE)), RATE)[0]
    assert steady[HELD] > 2.5 and steady[GLIDING] < 0.3
    assert sliding[GLIDING] > 0.8 and sliding[HELD] < 1.0


def test_loudness_changes_the_level_alone():
    sound = np.random.default_rng(1).normal(0, 0.1, 2 * RATE).astype(np.float32) * np.abs(tone(3))
    loud, quiet = sound_traits(sound, RATE)[0], sound_traits(sound / 4, RATE)[0]
    assert np.flatnonzero(np.abs(loud - quiet) > 0.01).tolist() == [SOUND_TRAITS - 2]
    assert loud[-2] - quiet[-2] == pytest.approx(np.log(4) / 2, abs=0.01)


def photograph(side=224, seed=0):
    """Noise of many scales, as pictures have it."""
    rng, picture = np.random.default_rng(seed), np.zeros((side, side, 3))
    for factor in (2, 4, 8, 16, 32):
        cells = rng.normal(0, factor, (side // factor + 1, side // factor + 1, 3))
        picture += cells.repeat(factor, 0).repeat(factor, 1)[:side, :side]
    return np.clip(128 + picture, 0, 255).astype(np.uint8)


def test_flat_areas_and_strong_colours_show():
    plain = photograph()
    flat = (plain // 64 * 64 + 32).astype(np.uint8)
    red = plain.copy()
    red[..., 1:] //= 4
    whole, drawn, coloured = (face_traits(picture[None]) for picture in (plain, flat, red))
    assert whole.shape == (56,) and np.isfinite(drawn).all()
    assert drawn[18] > whole[18] + 0.5  # share of equal neighbours
    assert drawn[7] < whole[7] - 0.5  # number of greys
    assert coloured[3] > whole[3] + 1  # redness of the middle


def test_of_many_crops_four_are_looked_at():
    crops = np.stack([photograph(112, seed) for seed in range(7)])
    assert face_traits(crops) == pytest.approx(face_traits(crops[[0, 2, 4, 6]]))
    assert face_traits(crops[:2]) == pytest.approx(
        np.mean([face_traits(c[None]) for c in crops[:2]], 0), abs=1e-5
    )


@pytest.mark.parametrize("side", [112, 128, 224, 380])
def test_crops_of_any_size_give_numbers(side):
    assert np.isfinite(face_traits(np.zeros((1, side, side, 3), np.uint8))).all()
    assert np.isfinite(face_traits(photograph(side)[None])).all()
