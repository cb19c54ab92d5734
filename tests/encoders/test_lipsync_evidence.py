"""Evidence by offset against sums by hand, and the network that sums it."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from avdetect.encoders import create_encoder
from avdetect.encoders.lipsync import evidence


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return create_encoder("lipsync_small", channels=(4, 6, 8, 8), dim=16).eval()


def test_diagonal_sums_are_those_of_a_loop():
    torch.manual_seed(1)
    pairs, heard, reach = torch.randn(2, 7, 7), (torch.rand(2, 7) > 0.3).float(), 9
    sums, weights = evidence.diagonal_sums(pairs, heard, reach)
    for offset in range(-reach, reach + 1):
        both = [(w, w + offset) for w in range(7) if 0 <= w + offset < 7]
        for clip in range(2):
            expected = sum(float(pairs[clip, w, v] * heard[clip, v]) for w, v in both)
            assert float(sums[clip, reach + offset]) == pytest.approx(expected, abs=1e-5)
            assert float(weights[clip, reach + offset]) == sum(float(heard[clip, v]) for _, v in both)


def test_probabilities_are_bayes_rule_over_usable_offsets():
    sums = torch.tensor([[1.0, 3.0, 2.0, 50.0]])
    usable = torch.tensor([[True, True, True, False]])
    expected = np.exp([1, 3, 2]) / np.exp([1, 3, 2]).sum()
    logs = evidence.log_odds(sums, usable)
    np.testing.assert_allclose(logs.exp()[0, :3], expected, rtol=1e-5)
    assert logs[0, 3] == -np.inf
    assert float(evidence.near(logs, torch.tensor([0]), 1).exp()) == pytest.approx(
        expected[:2].sum(), rel=1e-5
    )


def test_features_without_a_usable_offset_are_finite_and_have_a_gradient():
    sums = torch.randn(3, 31, requires_grad=True)
    weights = torch.zeros(3, 31)
    weights[1] = 5.0
    features = evidence.features(sums, weights, evidence.usable_offsets(weights), torch.tensor(0.4))
    features.square().sum().backward()
    assert features.shape == (3, 37) and torch.isfinite(features).all() and torch.isfinite(sums.grad).all()
    assert (features[0, evidence.SCALARS :] == 0).all() and sums.grad[1].abs().sum() > 0


def test_a_peak_in_step_and_one_beside_give_opposite_odds():
    weights = torch.full((3, 31), 20.0)
    sums = torch.full((3, 31), -40.0)
    for clip, offset in enumerate((0, 1, -6)):
        sums[clip, 15 + offset] = 30.0
    features = evidence.features(sums, weights, evidence.usable_offsets(weights), torch.tensor(0.3))
    np.testing.assert_allclose(features[:, 0], np.array([1, 1, -1]) * evidence.LIMIT / 4, atol=1e-3)
    np.testing.assert_allclose(features[:, 1], [1.5, 1.5, -2.0])  # in step
    np.testing.assert_allclose(features[:, 2], 1.5)  # at the best
    np.testing.assert_allclose(features[:, 3], [0.0, 0.0, 3.5])


def test_result_of_a_clip_agrees_with_the_sums(encoder):
    mouths, sound = encoder.example_inputs(1)
    result = encoder.compare(mouths, sound)
    with torch.no_grad():
        lips, heard = encoder.streams(mouths, sound)
        pairs = encoder.pair_evidence(lips, heard)
        sums, weights = evidence.diagonal_sums(pairs, encoder.speech(sound), encoder.reach)
        usable = evidence.usable_offsets(weights)
        logit = encoder.classify(evidence.features(sums, weights, usable, encoder.pace))
        probabilities = evidence.log_odds(sums * encoder.pace, usable).exp()[0].numpy()
    assert lips.shape == heard.shape == (1, 46, 16) and lips.norm(dim=2).max() <= 2.0
    np.testing.assert_allclose(result.curve, -(sums / weights)[0], atol=1e-4)
    assert result.logit == pytest.approx(float(logit), abs=1e-4)
    assert result.logit == pytest.approx(float(encoder(mouths, sound)), abs=1e-4)
    best = probabilities.argmax()
    assert result.offset_frames == best - encoder.reach
    around = probabilities[max(best - 1, 0) : best + 2].sum()
    assert result.confidence == pytest.approx(float(around), abs=1e-3)


def test_the_channel_and_the_light_change_nothing(encoder):
    """A filter that is the same for the whole clip, and a level, are taken out; so are brightness and contrast."""
    torch.manual_seed(2)
    mouths, sound = encoder.example_inputs(1)
    sound = sound * (0.2 + torch.sin(torch.arange(sound.shape[1]) / 900.0).square())
    with torch.no_grad():
        as_is = encoder.spectrogram(sound)
        # 1 - 0.9 z^-1: up to 25 dB between low and high bands
        filtered = encoder.spectrogram(3.0 * (sound - 0.9 * F.pad(sound, (1, 0))[:, :-1]))
        assert float((as_is - filtered).abs().mean()) < 0.1 * float(as_is.abs().mean())
        lips = encoder._lips(mouths), encoder._lips(0.2 + 0.5 * mouths)
    np.testing.assert_allclose(lips[0], lips[1], atol=2e-2)


def test_chunks_of_a_long_clip_change_nothing(encoder, monkeypatch):
    mouths, sound = encoder.example_inputs(1)
    with torch.no_grad():
        whole = encoder(mouths, sound)
        monkeypatch.setattr("avdetect.encoders.lipsync.temporal.CHUNK", 7)
        np.testing.assert_allclose(encoder(mouths, sound), whole, atol=1e-4)


def test_a_silent_clip_is_unknown_with_a_reason(encoder):
    mouths, _ = encoder.example_inputs(1)
    result = encoder.compare(mouths, torch.zeros(1, 50 * 640))
    assert result.reason == "the audio beside the mouth is silent" and result.offset_frames is None
    assert np.isnan(result.logit) and np.isnan(result.confidence)


def test_a_clip_twice_as_long_is_not_twice_as_much():
    """Beyond what the head was trained on, more of the same evidence changes nothing."""
    torch.manual_seed(3)
    mean, weights = torch.randn(2, 31), torch.full((2, 31), evidence.LONGEST)
    usable, pace = evidence.usable_offsets(weights), torch.tensor(1.0)
    once = evidence.features(mean * weights, weights, usable, pace)
    twice = evidence.features(2 * mean * weights, 2 * weights, usable, pace)
    half = evidence.features(mean * weights / 2, weights / 2, usable, pace)
    torch.testing.assert_close(once[:, 1:], twice[:, 1:])
    assert (half[:, 4:6] != once[:, 4:6]).all()
