import numpy as np
import pytest
import torch
from torch.nn import functional as F

from avdetect.errors import ConfigError
from avdetect.transforms import LipSyncAugment, LipSyncPreprocess


def mouths(frames=12, size=48, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, size, size), dtype=np.uint8)


def test_audio_is_cut_to_the_span_of_the_mouths():
    audio = np.arange(640 * 40, dtype=np.float32)
    frames, waveform = LipSyncPreprocess()(mouths(12), 5, audio)
    assert frames.shape == (1, 12, 48, 48) and waveform.shape == (1, 12 * 640)
    assert waveform[0, 0] == 5 * 640 and waveform[0, -1] == 17 * 640 - 1
    torch.testing.assert_close(frames[0], torch.from_numpy(mouths(12)) / 255.0)


@pytest.mark.parametrize("present", [3 * 640, 0])
def test_audio_that_ends_early_is_filled_with_silence(present):
    audio = np.ones(5 * 640 + present, dtype=np.float32)
    _, waveform = LipSyncPreprocess()(mouths(12), 5, audio)
    assert waveform.shape == (1, 12 * 640)
    assert waveform.sum() == present and bool((waveform[0, present:] == 0).all())


def test_other_mouth_sizes_are_resized():
    grey = np.full((10, 96, 96), 51, np.uint8)
    frames, _ = LipSyncPreprocess()(grey, 0, np.zeros(6400, np.float32))
    assert frames.shape == (1, 10, 48, 48)
    torch.testing.assert_close(frames, torch.full_like(frames, 0.2))


def test_mouths_of_the_other_kind_are_refused_with_the_settings_that_fit():
    colour = np.zeros((5, 48, 48, 3), np.uint8)
    with pytest.raises(
        ConfigError, match="are RGB and this lip-sync encoder takes grey: .*mouth_colour=False"
    ):
        LipSyncPreprocess()(colour, 0, np.zeros(10, np.float32))
    with pytest.raises(ConfigError, match="mouth_colour=True, mouth_region=face, mouth_size=224"):
        LipSyncPreprocess(224, region="face", colour=True)(mouths(), 0, np.zeros(10, np.float32))
    with pytest.raises(ConfigError, match="region is 'nose': it must be mouth or face"):
        LipSyncPreprocess(region="nose")


@pytest.mark.parametrize(
    "wrong", [np.zeros((5, 48, 48)), np.zeros((48, 48), np.uint8), np.zeros((5, 8, 8, 4), np.uint8)]
)
def test_what_is_no_mouths_is_refused(wrong):
    with pytest.raises(ValueError, match="must be uint8"):
        LipSyncPreprocess()(wrong, 0, np.zeros(10, np.float32))
    with pytest.raises(ValueError, match="must be uint8"):
        LipSyncAugment()(wrong, np.zeros(10, np.float32), np.random.default_rng(0))


def faces(frames=12, size=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, size, size, 3), dtype=np.uint8)


def test_colour_faces_stay_whole_numbers():
    preprocess = LipSyncPreprocess(64, region="face", colour=True)
    frames, waveform = preprocess(faces(), 0, np.ones(640, np.float32))
    assert frames.dtype == torch.uint8 and waveform.shape == (1, 12 * 640)
    np.testing.assert_array_equal(frames[0].numpy(), faces())
    small, _ = LipSyncPreprocess(32, region="face", colour=True)(faces(), 0, np.ones(640, np.float32))
    assert small.shape == (1, 12, 32, 32, 3) and small.dtype == torch.uint8
    planes = torch.from_numpy(faces()).permute(0, 3, 1, 2).float()
    exact = F.interpolate(planes, size=(32, 32), mode="bilinear", antialias=True).permute(0, 2, 3, 1)
    torch.testing.assert_close(small[0].float(), exact, atol=1.0, rtol=0)
    empty, _ = preprocess(faces(0), 0, np.ones(640, np.float32))
    assert empty.shape == (1, 0, 64, 64, 3)


def test_colour_faces_are_augmented_as_a_whole():
    still = np.stack([faces(1)[0]] * 6)
    augment = LipSyncAugment(flip_p=1.0, light_p=0.0, shift_p=0.0, noise_p=0.0)
    seen, _ = augment(still, np.zeros(10, np.float32), np.random.default_rng(0))
    np.testing.assert_array_equal(seen, still[:, :, ::-1])
    augment = LipSyncAugment(flip_p=1.0, light_p=1.0, shift_p=1.0)
    seen, _ = augment(still, np.zeros(10, np.float32), np.random.default_rng(0))
    assert seen.shape == still.shape and seen.dtype == np.uint8
    assert (seen == seen[0]).all() and not np.array_equal(seen, still)


@pytest.mark.parametrize(
    "settings", [LipSyncPreprocess(64, region="face", colour=True), LipSyncAugment(shift=0.01)]
)
def test_settings_survive_their_dictionary(settings):
    assert type(settings).from_dict(settings.to_dict()) == settings


def test_cards_from_before_colour_still_load():
    old = {"mouth_size": 48, "grid_fps": 25.0, "sample_rate": 16000}
    assert LipSyncPreprocess.from_dict(old) == LipSyncPreprocess()


def test_augmentation_repeats_and_treats_all_frames_alike():
    frame = mouths(1)[0]
    still = np.stack([frame] * 10)
    audio = np.sin(np.arange(6400, dtype=np.float32))
    augment = LipSyncAugment(flip_p=1.0, light_p=1.0, shift_p=1.0)
    seen, sound = augment(still, audio, np.random.default_rng(0))
    again, sound_again = augment(still, audio, np.random.default_rng(0))
    np.testing.assert_array_equal(seen, again)
    np.testing.assert_array_equal(sound, sound_again)
    assert seen.shape == still.shape and seen.dtype == np.uint8 and sound.shape == audio.shape
    assert not np.array_equal(seen, still)
    # one draw for the clip: no movement is made up
    assert (seen == seen[0]).all()


def test_augmentation_keeps_time():
    flash = np.zeros((20, 48, 48), np.uint8)
    flash[7] = 255
    click = np.zeros(20 * 640, np.float32)
    click[7 * 640] = 1.0
    rng = np.random.default_rng(0)
    for _ in range(20):
        seen, sound = LipSyncAugment(snr_db=(30, 40))(flash, click, rng)
        assert seen.mean(axis=(1, 2)).argmax() == 7
        assert np.abs(sound).argmax() == 7 * 640
