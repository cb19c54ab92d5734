"""Lip-sync crops: mouth or whole face, grey or colour."""

import json
import zipfile

import numpy as np
import pytest
from torch.nn import functional as F

from avdetect.encoders import create_encoder
from avdetect.evidence import collect_evidence
from avdetect.media import ClipFile, ClipSettings, Detections, load_clip, read_clip, save_clip
from avdetect.media.crops import region_box
from avdetect.transforms import LipSyncPreprocess

SYNCNET = ClipSettings(mouth_region="face", mouth_colour=True, mouth_size=112)


def is_magenta(picture):
    return np.abs(picture.astype(int) - (255, 0, 255)).max(axis=-1) < 90


def test_the_face_square_of_syncnet():
    # s = 40, c = 0.4: x +- 56, y from -40 to +72
    np.testing.assert_allclose(region_box(np.array([100.0, 200, 80]), "face"), [44, 160, 156, 272])
    np.testing.assert_allclose(region_box(np.array([100.0, 200, 80]), "mouth"), [60, 160, 140, 240])


def test_colour_faces_of_a_video(tmp_path, media, detector):
    path = media.write_video(tmp_path / "a.mp4", [media.picture(mouth=200)] * 30)
    (track,) = read_clip(path, SYNCNET, detector).tracks
    # box (40, 20, 100, 100): s = 40, so the crop is (14, 20)..(126, 132), a pixel of the file for one of its own
    assert track.mouths.shape == (30, 112, 112, 3) and track.mouths.dtype == np.uint8
    face = is_magenta(track.mouths)
    assert face[:, 3:45, 30:82].all() and not face[:, :, :22].any() and not face[:, 84:].any()
    assert np.abs(track.mouths[:, 55:65, 50:62].astype(int) - 200).max() < 25  # the mouth, in grey
    assert np.abs(track.mouths[:, 86:98].astype(int) - 60).max() < 12  # the picture's grey under the chin
    assert (track.mouths[:, 102:] == 110).all()  # below the frame


def test_grey_faces_and_colour_mouths(tmp_path, media, detector):
    path = media.write_video(tmp_path / "a.mp4", [media.picture(mouth=200)] * 30)
    (grey,) = read_clip(path, ClipSettings(mouth_region="face", mouth_size=112), detector).tracks
    assert grey.mouths.shape == (30, 112, 112) and abs(grey.mouths[:, 55:65, 50:62].mean() - 200) < 6
    (colour,) = read_clip(path, ClipSettings(mouth_colour=True), detector).tracks
    (usual,) = read_clip(path, detector=detector).tracks
    assert colour.mouths.shape == (30, 48, 48, 3)
    np.testing.assert_allclose(
        colour.mouths[:, 20:28, 20:28].mean(axis=3), usual.mouths[:, 20:28, 20:28], atol=4
    )


def test_a_face_that_moves_stays_where_it_is_in_its_crop(tmp_path, media, detector):
    frames = [
        media.picture(320, 160, faces=[("magenta", (20 + 3 * i, 20, 80 + 3 * i, 100))]) for i in range(50)
    ]
    (track,) = read_clip(media.write_video(tmp_path / "a.mp4", frames), SYNCNET, detector).tracks
    columns = is_magenta(track.mouths)[:, 10]
    centre = np.array([np.flatnonzero(row).mean() for row in columns])
    assert len(centre) == 50
    assert np.abs(centre[6:-6] - 55.5).max() < 2.5  # a square 3 px a frame behind would run away
    assert np.abs(centre - 55.5).max() < 10  # at the very ends the median is that of 7 points: 3 frames off


class Jumpy:
    """One face whose box is far too large in the search `at` and the same in all others."""

    def __init__(self, at):
        self.at, self.calls = at, 0

    def detect(self, images, min_face_px):
        return [self._one() for _ in images]

    def _one(self):
        box = [30, 10, 110, 110] if self.calls == self.at else [40, 20, 100, 100]
        self.calls += 1
        return Detections(
            np.array([box], np.float32), np.ones(1, np.float32), np.full((1, 5, 2), 60, np.float32)
        )


def test_the_median_of_13_takes_out_what_lasts_less(tmp_path, media):
    """Searched every frame, one wild box moves nothing; a square without a median would jump."""
    path = media.write_video(tmp_path / "a.mp4", [media.picture()] * 40)
    settings = ClipSettings(
        mouth_region="face", mouth_size=112, sampling="every", sampling_step=1, max_crops=100
    )
    (still,) = read_clip(path, settings, Jumpy(at=-1)).tracks
    (wild,) = read_clip(path, settings, Jumpy(at=20)).tracks
    assert np.ptp(wild.boxes[:, 0]) == 10 and len(wild.mouths) == 40
    np.testing.assert_array_equal(wild.mouths, still.mouths)


def test_smoothing_loses_no_grid_point_over_misses_and_ends(tmp_path, media, detector):
    frames = [
        media.picture(faces=() if 26 <= i < 38 else (("magenta", (40, 20, 100, 100)),), mouth=4 * i)
        for i in range(60)
    ]
    path = media.write_video(tmp_path / "a.mp4", frames)
    (face,) = read_clip(path, SYNCNET, detector).tracks
    (mouth,) = read_clip(path, detector=detector).tracks
    assert len(face.mouths) == len(mouth.mouths) == 60
    seen = np.r_[0:26, 38:60]  # each crop shows its own frame
    np.testing.assert_allclose(face.mouths[seen, 56:64, 52:60].mean(axis=(1, 2, 3)), 4 * seen, atol=8)


def test_colour_clips_are_saved_and_loaded(tmp_path, media, detector):
    path = media.write_video(tmp_path / "a.mp4", [media.picture()] * 30, sound=media.click_track(1.2, 0.5))
    clip = read_clip(path, SYNCNET, detector)
    save_clip(clip, tmp_path / "a.npz")
    again = load_clip(tmp_path / "a.npz")
    assert again.settings == SYNCNET
    np.testing.assert_array_equal(again.tracks[0].mouths, clip.tracks[0].mouths)
    with ClipFile(tmp_path / "a.npz") as file:
        assert file.mouths(0).shape == (30, 112, 112, 3)
    faces, waveform = LipSyncPreprocess(112, region="face", colour=True)(
        again.tracks[0].mouths, again.tracks[0].mouth_start, again.audio
    )
    assert faces.shape == (1, 30, 112, 112, 3) and waveform.shape == (1, 19200)


class Planted(type(create_encoder("syncnet_tiny"))):
    """Embeddings made by hand: brightness of the mouth, and loudness, over five frames."""

    def _lips(self, mouths):
        return self._course(mouths[:, :, 56:64, 52:60].float().mean(dim=(2, 3, 4)) / 255)

    def _sound(self, waveform):
        return self._course(waveform.square().unflatten(1, (-1, 640)).mean(dim=2).sqrt())

    def _course(self, value):
        windows = value.unfold(1, 5, 1)
        return 10 * F.normalize(windows - windows.mean(dim=2, keepdim=True), dim=2)


@pytest.mark.parametrize("late", [-6, 0, 4])
def test_from_the_file_to_the_offset_positive_is_audio_late(tmp_path, media, detector, late):
    rng = np.random.default_rng(0)
    level = np.interp(np.arange(120) / 2, np.arange(60), rng.random(60))
    frames = [media.picture(mouth=int(30 + 200 * value)) for value in level[10:110]]
    # what is heard at frame i belongs to the mouth of frame i - late
    sound = np.repeat(level[10 - late : 110 - late], 1920) * rng.uniform(-0.8, 0.8, 100 * 1920)
    path = media.write_video(tmp_path / "a.mp4", frames, sound=sound.astype(np.float32))
    clip = read_clip(path, SYNCNET, detector)
    encoder = Planted(width=1, size=112, dim=8).eval()
    encoders = {"lipsync": encoder}
    sync = collect_evidence(clip, encoders).sync
    assert sync.offset_frames == late and sync.offset_ms == 40.0 * late and sync.confidence > 2


def test_pictures_have_no_mouths_of_either_kind(tmp_path, media, detector):
    from PIL import Image

    Image.fromarray(media.picture()).save(tmp_path / "a.png")
    (track,) = read_clip(tmp_path / "a.png", SYNCNET, detector).tracks
    assert track.mouths.shape == (0, 112, 112, 3)


NEW = (
    "sampling",
    "sampling_frames",
    "sampling_step",
    "sampling_interval_s",
    "crop_policy",
    "mouth_region",
    "mouth_colour",
)


def test_clips_saved_before_these_settings_existed_still_load(tmp_path, media, detector):
    clip = read_clip(media.write_video(tmp_path / "a.mp4", [media.picture()] * 20), detector=detector)
    save_clip(clip, tmp_path / "new.npz")
    with (
        zipfile.ZipFile(tmp_path / "new.npz") as new,
        zipfile.ZipFile(tmp_path / "old.npz", "w") as old,
    ):
        for name in new.namelist():
            content = new.read(name)
            if name == "meta.json":
                meta = json.loads(content)
                for key in NEW:
                    del meta["settings"][key]
                content = json.dumps(meta)
            old.writestr(name, content)
    again = load_clip(tmp_path / "old.npz")
    assert again.settings == ClipSettings() == clip.settings
    np.testing.assert_array_equal(again.tracks[0].mouths, clip.tracks[0].mouths)


def test_the_preprocess_names_the_settings_that_it_needs():
    preprocess = LipSyncPreprocess(112, region="face", colour=True)
    assert ClipSettings(**preprocess.clip_settings) == SYNCNET
    assert ClipSettings(**LipSyncPreprocess().clip_settings) == ClipSettings()
