"""Which frames give face crops, and how these are cut: through real files."""

import numpy as np
import pytest

from avdetect.errors import ConfigError
from avdetect.media import ClipSettings, Detections, load_clip, read_clip, save_clip
from avdetect.media.tracks import FaceCollector
from avdetect.media.video import count_frames, iterate_frames

# Variable frame rate: fast, slow, fast; 60 frames in 4.6 s.
VFR = np.r_[np.arange(20) * 0.04, 0.8 + np.arange(20) * 0.15, 3.8 + np.arange(20) * 0.04]


@pytest.fixture
def vfr(tmp_path, media):
    return media.write_video(tmp_path / "vfr.mp4", [media.picture()] * 60, times=VFR.tolist())


def crop_times(path, detector, **settings):
    (track,) = read_clip(path, ClipSettings(**settings), detector).tracks
    assert len(track.crops) == len(track.crop_times)
    return track.crop_times


def test_uniform_goes_by_frame_number(vfr, detector):
    times = crop_times(vfr, detector, sampling="uniform", sampling_frames=7)
    np.testing.assert_allclose(times, VFR[[0, 9, 19, 29, 39, 49, 59]], atol=1e-3)
    # more than there are frames: each once
    times = crop_times(vfr, detector, sampling="uniform", sampling_frames=80, max_crops=80)
    np.testing.assert_allclose(times, VFR, atol=1e-3)
    assert len(crop_times(vfr, detector, sampling="uniform", sampling_frames=1)) == 1


@pytest.mark.parametrize("step", [1, 7])
def test_every_goes_by_frame_number(vfr, detector, step):
    times = crop_times(vfr, detector, sampling="every", sampling_step=step, max_crops=100)
    np.testing.assert_allclose(times, VFR[::step], atol=1e-3)


def test_every_is_thinned_beyond_max_crops(vfr, detector):
    times = crop_times(vfr, detector, sampling="every", sampling_step=2, max_crops=20)
    np.testing.assert_allclose(times, VFR[::4], atol=1e-3)


def test_first_goes_by_time_stamp(vfr, detector):
    times = crop_times(vfr, detector, sampling="first", sampling_frames=6, sampling_interval_s=0.5)
    due = [VFR[VFR >= 0.5 * k - 1e-3][0] for k in range(6)]
    np.testing.assert_allclose(times, due, atol=1e-3)
    # a shorter video gives as many as it has
    assert len(crop_times(vfr, detector, sampling="first", sampling_frames=48)) == 10


def test_tracks_and_mouths_do_not_depend_on_the_sampling(vfr, detector):
    (usual,) = read_clip(vfr, ClipSettings(), detector).tracks
    for settings in (
        ClipSettings(sampling="uniform", sampling_frames=3),
        ClipSettings(sampling="every", sampling_step=1),
        ClipSettings(sampling="first", sampling_frames=2, sampling_interval_s=2.0),
    ):
        (track,) = read_clip(vfr, settings, detector).tracks
        assert set(usual.times) <= set(track.times)
        assert (track.mouth_start, len(track.mouths)) == (usual.mouth_start, len(usual.mouths))


def test_a_face_out_of_sight_for_a_moment_is_followed_however_often_it_is_searched(tmp_path, media, detector):
    frames = [
        media.picture(faces=() if 20 <= i < 32 else (("magenta", (40, 20, 100, 100)),)) for i in range(75)
    ]
    path = media.write_video(tmp_path / "a.mp4", frames)
    (track,) = read_clip(path, ClipSettings(sampling="every", sampling_step=1), detector).tracks
    assert len(track.times) == 63 and len(track.mouths) == 75


def test_searching_every_frame_holds_few_frames(tmp_path, media, detector):
    path = media.write_video(tmp_path / "a.mp4", (media.picture() for _ in range(400)))
    collector = FaceCollector(ClipSettings(sampling="every", sampling_step=1), detector)
    most = 0
    for frame in iterate_frames(path):
        collector.add(frame)
        most = max(most, len(collector._frames))
    (track,) = collector.finish()
    assert most < 20 and len(track.times) == 400 and len(track.crops) <= 48


def test_a_face_in_none_of_the_chosen_frames_is_a_reason(tmp_path, media, detector):
    frames = [media.picture(faces=()) if i < 20 else media.picture() for i in range(60)]
    path = media.write_video(tmp_path / "a.mp4", frames)
    clip = read_clip(path, ClipSettings(sampling="first", sampling_frames=1), detector)
    assert not clip.tracks
    assert clip.reasons["visual"] == (
        "1 faces were followed, but none is seen in the frames that the sampling chose"
    )


def test_frames_are_counted_without_decoding(tmp_path, media, vfr):
    assert count_frames(vfr) == 60
    options = {"crf": "30", "bf": "3", "g": "12"}
    path = media.write_video(tmp_path / "b.mkv", [media.picture()] * 31, options=options)
    assert count_frames(path) == len(list(iterate_frames(path))) == 31


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sampling": "random"}, "sampling is 'random': it must be interval or uniform or every or first"),
        (
            {"sampling": "every", "sampling_step": 0},
            "sampling_step is 0: it must be a whole number from 1 on",
        ),
        ({"sampling": "every", "sampling_step": 2.5}, "sampling_step is 2.5: it must be a whole number"),
        ({"sampling_interval_s": 0}, "sampling_interval_s is 0: it must be a positive"),
        ({"sampling": "uniform", "sampling_frames": 64}, "sampling_frames is 64 but max_crops is 48: raise"),
        ({"crop_policy": "loose"}, "crop_policy is 'loose': it must be scale or tight"),
        ({"mouth_region": "nose"}, "mouth_region is 'nose': it must be mouth or face"),
    ],
)
def test_impossible_settings_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        ClipSettings(**wrong)


def is_magenta(picture):
    return np.abs(picture.astype(int) - (255, 0, 255)).max(axis=-1) < 90


def test_tight_crop_is_the_box_between_black_bars(tmp_path, media, detector):
    path = media.write_video(tmp_path / "a.mp4", [media.picture()] * 20)  # box 60 x 80
    (track,) = read_clip(path, ClipSettings(crop_policy="tight", crop_size=160), detector).tracks
    crop = track.crops[0]
    assert crop.shape == (160, 160, 3)
    assert (crop[:, :18] == 0).all() and (crop[:, -18:] == 0).all()  # 160 high, 120 wide: bars of 20
    face = is_magenta(crop)
    assert face[:90, 24:136].all() and not face[:, :18].any()  # nothing of the grey around it


def test_tight_crop_keeps_to_the_frame(tmp_path, media):
    class Beyond:
        """A face of which the right half lies outside the frame of 160 x 120."""

        def detect(self, images, min_face_px):
            boxes = np.array([[120, 20, 200, 60]], np.float32)
            points = np.tile(np.array([[150, 40]], np.float32), (5, 1))[None]
            return [Detections(boxes, np.ones(1, np.float32), points) for _ in images]

    picture = media.picture(faces=())
    picture[20:60, 120:] = (255, 0, 255)
    path = media.write_video(tmp_path / "a.mp4", [picture] * 20)
    (track,) = read_clip(path, ClipSettings(crop_policy="tight", crop_size=80), Beyond()).tracks
    assert is_magenta(track.crops[0])[4:-4, 4:-4].all()  # 40 x 40 are left: a whole square


def test_tight_policy_holds_for_pictures_too(tmp_path, media, detector):
    from PIL import Image

    Image.fromarray(media.picture()).save(tmp_path / "a.png")
    settings = ClipSettings(crop_policy="tight", crop_size=80)
    (track,) = read_clip(tmp_path / "a.png", settings, detector).tracks
    assert (track.crops[0][:, :9] == 0).all() and is_magenta(track.crops[0])[:50, 12:68].all()
    (whole,) = read_clip(
        tmp_path / "a.png", ClipSettings(crop_policy="tight", crop_size=80, pictures="face")
    ).tracks
    assert (whole.crops[0][:9] == 0).all() and (whole.crops[0][11:69].max(axis=(1, 2)) > 0).all()


def test_tight_settings_are_stored_with_the_clip(tmp_path, vfr, detector):
    settings = ClipSettings(crop_policy="tight", sampling="uniform", sampling_frames=4)
    clip = read_clip(vfr, settings, detector)
    save_clip(clip, tmp_path / "a.npz")
    again = load_clip(tmp_path / "a.npz")
    assert again.settings == settings
    np.testing.assert_array_equal(again.tracks[0].crops, clip.tracks[0].crops)
