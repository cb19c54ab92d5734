"""Out-of-sync versions of talking faces: each kind changes what it says, and nothing else."""

import numpy as np
import pytest

from avdetect.data.pseudo.lips import DRIFT, FAR, KINDS, SHIFT, kinds_for, out_of_sync
from avdetect.errors import DataError

SIZE = 640


def talking(frames=60):
    """Mouths that show their number, sound that counts its samples."""
    mouths = np.broadcast_to(np.arange(frames, dtype=np.uint8)[:, None, None], (frames, 8, 8)).copy()
    return mouths, np.linspace(0.1, 0.9, frames * SIZE, dtype=np.float32)


def made(kind, seed=0, frames=60):
    mouths, sound = talking(frames)
    foreign, elsewhere = np.full(5000, -0.5, np.float32), np.full(50 * SIZE, -0.25, np.float32)
    rng = np.random.default_rng(seed)
    new_mouths, new_sound, name = out_of_sync(mouths, sound, SIZE, rng, kind, foreign, elsewhere)
    assert name == kind and new_mouths.shape == mouths.shape and new_mouths.dtype == np.uint8
    assert new_sound.shape == sound.shape and new_sound.dtype == np.float32
    np.testing.assert_array_equal(mouths, talking(frames)[0])
    np.testing.assert_array_equal(sound, talking(frames)[1])
    return mouths, sound, new_mouths, new_sound


def test_shifted_sound_moves_by_whole_frames_both_ways():
    steps = set()
    for seed in range(30):
        mouths, sound, same, moved = made("shift", seed)
        np.testing.assert_array_equal(same, mouths)
        away = [s for s in range(-15, 16) if np.mean(moved == np.roll(sound, s * SIZE)) > 0.9]
        assert len(away) == 1 and SHIFT[0] <= abs(away[0]) <= SHIFT[1]
        steps.add(np.sign(away[0]))
    assert steps == {-1, 1}


@pytest.mark.parametrize(("kind", "level"), [("moment", -0.25), ("speaker", -0.5)])
def test_sound_of_elsewhere_is_taken_whole(kind, level):
    mouths, _, same, other = made(kind)
    np.testing.assert_array_equal(same, mouths)
    assert (other == level).all()


def test_another_moment_of_a_long_clip_lies_beyond_the_search():
    mouths, sound = talking(80)
    for seed in range(20):
        _, moved, _ = out_of_sync(mouths, sound, SIZE, np.random.default_rng(seed), "moment")
        away = [s for s in range(80) if np.mean(moved == np.roll(sound, s * SIZE)) > 0.9]
        assert len(away) == 1 and FAR <= away[0] <= 80 - FAR


@pytest.mark.parametrize("frames", [25, 60, 250])
def test_stretched_sound_drifts_apart(frames):
    for seed in range(10):
        mouths, sound = talking(frames)
        _, other, _ = out_of_sync(mouths, sound, SIZE, np.random.default_rng(seed), "stretch")
        # where each sample came from, where it did not go round
        source = (other - 0.1) / 0.8 * frames
        late = source - np.arange(len(source)) / SIZE
        inner = np.diff(source) > 0
        pace = np.median(np.diff(source)[inner]) * SIZE
        assert abs(np.log(pace)) > np.log1p(min(0.5, DRIFT / frames)) - 0.02 and 0.6 < pace < 1.55
        assert np.abs(late[inner.nonzero()]).max() > 3


def test_frozen_and_looped_mouths_leave_the_sound_alone():
    frozen = 0
    for seed in range(20):
        mouths, sound, still, same = made("frozen", seed)
        np.testing.assert_array_equal(same, sound)
        means = np.round(still.astype(float).mean(axis=(1, 2)))
        assert np.abs(np.diff(means[20:])).max() <= 1  # camera noise at most
        frozen += bool((np.diff(still[20:].astype(int), axis=0) == 0).all())
        _, sound, loop, same = made("looped", seed)
        np.testing.assert_array_equal(same, sound)
        shown = loop[:, 0, 0].astype(int)
        assert np.ptp(shown) < 10 and len(set(shown)) >= 3
        assert np.abs(np.diff(shown)).max() > 0
    assert 0 < frozen < 20  # with and without noise


def test_a_kind_is_drawn_of_those_that_can_be_made():
    mouths, sound = talking(30)
    drawn = {out_of_sync(mouths, sound, SIZE, np.random.default_rng(s))[2] for s in range(60)}
    assert drawn == set(kinds_for(30, foreign=False)) == {"shift", "stretch", "frozen", "looped"}
    assert set(kinds_for(40, foreign=True)) == set(KINDS)
    again = [out_of_sync(mouths, sound, SIZE, np.random.default_rng(7)) for _ in range(2)]
    assert again[0][2] == again[1][2] and (again[0][1] == again[1][1]).all()


def test_what_cannot_be_made_is_said():
    mouths, sound = talking(30)
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="by 'speaker' with 30 mouths: possible is shift, stretch"):
        out_of_sync(mouths, sound, SIZE, rng, "speaker")
    with pytest.raises(DataError, match="by 'dubbed'"):
        out_of_sync(mouths, sound, SIZE, rng, "dubbed")
    with pytest.raises(DataError, match="possible is none"):
        out_of_sync(mouths[:1], sound[:SIZE], SIZE, rng)
    with pytest.raises(DataError, match="cut the sound to the mouths"):
        out_of_sync(mouths, sound[:-5], SIZE, rng)
    with pytest.raises(DataError, match="the other sound is empty"):
        out_of_sync(mouths, sound, SIZE, rng, "speaker", np.zeros(0, np.float32))
