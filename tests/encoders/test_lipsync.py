import numpy as np
import pytest
import torch
from torch.nn import functional as F

from avdetect.encoders import create_encoder
from avdetect.encoders.lipsync import sync
from avdetect.errors import DataError

REACH = 15


class OpeningMatchesLoudness(type(create_encoder("lipsync_tiny"))):
    """Embeddings made by hand: the course of mouth opening, and of loudness, over five frames."""

    def _lips(self, mouths):
        return self._course(mouths.mean(dim=(2, 3)))

    def _sound(self, waveform):
        return self._course(waveform.abs().unflatten(1, (-1, 640)).mean(dim=2))

    def _course(self, value):
        windows = value.unfold(1, 5, 1)
        return F.normalize(windows - windows.mean(dim=2, keepdim=True), dim=2)


def talking(rng, frames, late=0, clips=1):
    """Mouths whose opening is the loudness of noise; the sound comes `late` grid frames after the mouth."""
    envelope = np.stack(
        [np.interp(np.arange(frames + 40) / 3, np.arange(200), rng.random(200)) for _ in range(clips)]
    )
    y, x = np.mgrid[:48, :48] - 23.5
    height = 2 + 14 * envelope[:, 20 : 20 + frames, None, None]
    mouths = 0.7 - 0.5 * ((x / 16) ** 2 + (y / height) ** 2 < 1)
    loudness = np.repeat(envelope[:, 20 - late : 20 - late + frames], 640, axis=1)
    sound = 0.2 * loudness**1.5 * rng.standard_normal(loudness.shape)
    return torch.from_numpy(mouths).float(), torch.from_numpy(sound).float()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def by_hand():
    torch.manual_seed(0)
    return OpeningMatchesLoudness(channels=(4, 4, 4, 4), dim=8).eval()


@pytest.mark.parametrize("late", [-15, -4, 0, 1, 9, 15])
def test_offset_is_positive_where_audio_is_late(by_hand, rng, late):
    mouths, sound = talking(rng, 100, late)
    # dark opening: the mean of the picture falls as the mouth opens
    result = by_hand.compare(1 - mouths, sound)
    assert result.offset_frames == late and result.offset_ms == late * 40.0
    assert result.offsets[np.nanargmin(result.curve)] == late
    assert result.confidence > 0.2 and result.reason is None


def test_a_delay_made_in_the_waveform_itself(by_hand, rng):
    mouths, sound = talking(rng, 100)
    delayed = torch.cat([sound[:, -6 * 640 :], sound[:, : -6 * 640]], dim=1)  # 240 ms later
    assert by_hand.compare(1 - mouths, delayed).offset_ms == 240.0


def test_unrelated_sound_has_little_confidence(by_hand, rng):
    mouths, sound = talking(rng, 200)
    _, other = talking(rng, 200)
    assert by_hand.compare(1 - mouths, other).confidence < 0.4 * by_hand.compare(1 - mouths, sound).confidence


def test_shapes_and_times_of_the_result(by_hand, rng):
    mouths, sound = talking(rng, 60)
    result = by_hand.compare(1 - mouths, sound, start_s=2.0)
    assert result.distances.shape == (56, 31) and result.curve.shape == (31,)
    np.testing.assert_allclose(result.window_times[[0, -1]], [2.08, 2.0 + 57 / 25])
    np.testing.assert_allclose(result.second_times, [2.0, 3.0, 4.0])
    assert result.second_logits.shape == (3,) and np.isfinite(result.second_logits).all()
    # pairs outside the clip are absent, not zero
    assert np.isnan(result.distances[0, :REACH]).all() and np.isfinite(result.distances[0, REACH:]).all()
    assert np.isnan(result.distances[-1, REACH + 1 :]).all()


def test_distances_are_those_of_the_windows(by_hand, rng):
    mouths, sound = talking(rng, 40)
    lips, heard = by_hand.windows(1 - mouths, sound)
    result = by_hand.compare(1 - mouths, sound)
    assert lips.shape == heard.shape == (1, 36, 5)
    for window, offset in ((0, 0), (20, -7), (3, 15)):
        expected = float((lips[0, window] - heard[0, window + offset]).norm())
        assert result.distances[window, REACH + offset] == pytest.approx(expected, abs=2e-3)


def test_silence_has_no_weight(by_hand, rng):
    mouths, sound = talking(rng, 100)
    sound[:, 40 * 640 :] = 1e-5 * torch.randn(1, 60 * 640)
    result = by_hand.compare(1 - mouths, sound)
    assert result.speech[:36].all() and not result.speech[40:].any()
    assert np.isfinite(result.distances[0, REACH]) and np.isnan(result.distances[50, REACH])
    assert result.offset_frames == 0
    # whatever the mouth does while there is no sound changes nothing
    mouths[:, 60:] = torch.rand(1, 40, 48, 48)
    again = by_hand.compare(1 - mouths, sound)
    np.testing.assert_allclose(again.curve, result.curve, atol=1e-6)
    assert np.isfinite(result.second_logits[0]) and np.isnan(result.second_logits[3])


def test_a_silent_clip_is_unknown_with_a_reason(by_hand, rng):
    mouths, _ = talking(rng, 50)
    result = by_hand.compare(mouths, torch.zeros(1, 50 * 640))
    assert result.reason == "the audio beside the mouth is silent"
    assert result.offset_frames is None and result.offset_ms is None
    assert np.isnan(result.logit) and np.isnan(result.confidence) and np.isnan(result.second_logits).all()
    assert torch.isfinite(by_hand(mouths, torch.zeros(1, 50 * 640))).all()


@pytest.mark.parametrize("frames", [10, 16])
def test_short_clips_compare_what_overlaps_enough(by_hand, rng, frames):
    mouths, sound = talking(rng, frames)
    result = by_hand.compare(1 - mouths, sound)
    usable = result.offsets[np.isfinite(result.curve)]
    assert usable.min() == -(frames - 4) // 2 and usable.max() == (frames - 4) // 2
    assert result.offset_frames in usable and np.isfinite(result.logit)


def test_too_short_and_unequal_inputs_are_refused(by_hand):
    with pytest.raises(DataError, match=r"at least 10 mouth frames \(0.4 s\), found 9"):
        by_hand.compare(torch.rand(1, 9, 48, 48), torch.rand(1, 9 * 640))
    with pytest.raises(ValueError, match="10 mouth frames go with 6400 audio samples, not 6000"):
        by_hand(torch.rand(1, 10, 48, 48), torch.rand(1, 6000))
    with pytest.raises(ValueError, match="one clip, not 2"):
        by_hand.compare(torch.rand(2, 10, 48, 48), torch.rand(2, 6400))


def test_chunks_of_a_long_clip_change_nothing():
    encoder = create_encoder("lipsync_tiny").eval()
    mouths = torch.rand(1, 1100, 48, 48)
    whole = encoder._lips(mouths).detach()  # with gradients there are no chunks
    with torch.no_grad():
        torch.testing.assert_close(encoder._lips(mouths), whole, atol=1e-5, rtol=1e-4)


def test_a_window_sees_five_frames_of_both_streams():
    encoder = create_encoder("lipsync_tiny").eval()
    mouths = torch.rand(1, 30, 48, 48, requires_grad=True)
    sound = (0.1 * torch.randn(1, 30 * 640)).requires_grad_()
    lips, heard = encoder.windows(mouths, sound)
    lips[0, 12, 0].backward()
    heard[0, 12, 0].backward()
    # normalising by the clip's mean and deviation leaves a faint trace everywhere
    seen = mouths.grad.abs().sum(dim=(0, 2, 3))
    assert seen[12:17].min() > 10 * torch.cat([seen[:12], seen[17:]]).max()
    listened = sound.grad.abs().unflatten(1, (-1, 640)).sum(dim=2)[0]
    # half a transform and the temporal kernels reach a little beyond the 0.2 s, equally to both sides
    assert listened[12:17].min() > 10 * torch.cat([listened[:11], listened[18:]]).max()


def test_soft_features_follow_the_curve():
    curve = torch.full((3, 31), 1.2)
    curve[0, REACH] = 0.4
    curve[1, REACH + 6] = 0.4
    usable = torch.ones(3, 31, dtype=torch.bool)
    usable[2] = False
    features = sync.curve_features(curve, usable)
    assert features.shape == (3, 37) and torch.isfinite(features).all()
    zero, minimum, median, confidence, excess, away = features[:2, :6].T
    torch.testing.assert_close(zero, torch.tensor([0.4, 1.2]))
    torch.testing.assert_close(minimum, torch.tensor([0.4, 0.4]))
    torch.testing.assert_close(median, torch.tensor([1.2, 1.2]))
    torch.testing.assert_close(confidence, torch.tensor([0.8, 0.8]))
    torch.testing.assert_close(excess, torch.tensor([0.0, 0.8]))
    torch.testing.assert_close(away, torch.tensor([0.0, 6 / 15]), atol=1e-3, rtol=0)


def test_learns_the_bond_and_its_sign(rng):
    """Moving ellipses are enough for the real network to find delays that it never saw."""
    torch.manual_seed(0)
    encoder = create_encoder("lipsync_tiny").train()
    optimiser = torch.optim.AdamW(encoder.parameters(), 2e-3)
    for _ in range(50):
        lips, sound = encoder.windows(*talking(rng, 30, clips=6))
        cosines = torch.einsum("nwd,mud->nwmu", lips, sound).flatten(2, 3).flatten(0, 1) / 0.1
        truth = torch.arange(len(cosines))
        loss = F.cross_entropy(cosines, truth) + F.cross_entropy(cosines.T, truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    encoder.eval()
    for late in (-10, 0, 7):
        result = encoder.compare(*talking(rng, 100, late))
        assert result.offset_frames == late and result.confidence > 0.1
