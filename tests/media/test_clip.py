import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from avdetect.errors import ConfigError, DataError
from avdetect.media import ClipFile, ClipSettings, load_clip, probe, read_clip, save_clip
from avdetect.media.crops import crop_box, cut
from avdetect.media.cuts import CutFinder
from avdetect.media.spool import SpooledArray
from avdetect.media.tracks import FaceCollector
from avdetect.media.video import iterate_frames

shared = Path(__file__).resolve().parents[2].parent / "shared"
TWO = (("magenta", (20, 20, 70, 90)), ("green", (90, 30, 140, 100)))


def test_track_boxes_crops_and_mouths(tmp_path, media, detector):
    path = media.write_video(tmp_path / "a.mp4", [media.picture(mouth=200)] * 50)
    clip = read_clip(path, detector=detector)
    (track,) = clip.tracks
    assert clip.kind == "video" and clip.duration_s == pytest.approx(2)
    np.testing.assert_allclose(
        track.times, [0, 0.24 + 0.04, 0.52, 0.76, 1.0, 1.28, 1.52, 1.76, 1.96], atol=0.005
    )
    assert np.abs(track.boxes - [40, 20, 100, 100]).max() <= 1
    assert track.crops.shape == (9, 224, 224, 3) and track.crops.dtype == np.uint8
    np.testing.assert_array_equal(track.crop_times, track.times)
    assert (track.mouth_start, track.mouths.shape, track.mouths.dtype) == (0, (50, 48, 48), np.uint8)
    assert track.mouths[:, 20:28, 20:28].mean() == pytest.approx(
        200, abs=6
    )  # full range, whatever the file stores
    # the crop is 1.4 x 80 = 112 px wide and stored twice as large: face: rows 32..192, columns 52..172
    assert (np.abs(track.crops[0].astype(int) - (255, 0, 255)).max(axis=2) < 80)[40:100, 60:164].all()
    assert np.abs(track.crops[0][:24].astype(int) - 60).max() < 12


def test_mouths_follow_a_moving_face_between_detections(tmp_path, media, detector):
    frames = [
        media.picture(320, 120, faces=[("magenta", (20 + 3 * i, 20, 80 + 3 * i, 100))], mouth=255)
        for i in range(50)
    ]
    (track,) = read_clip(media.write_video(tmp_path / "a.mp4", frames), detector=detector).tracks
    columns = track.mouths[:, 24].astype(float) > 200
    centre = np.array([np.flatnonzero(row).mean() for row in columns])
    assert np.abs(centre - 23.5).max() < 2  # without interpolation: 18 px of the frame = 20 px of the crop


def test_two_faces_are_two_tracks(tmp_path, media, detector):
    path = media.write_video(tmp_path / "a.mp4", [media.picture(faces=TWO)] * 30)
    clip = read_clip(path, detector=detector)
    assert [track.id for track in clip.tracks] == [0, 1]
    starts = sorted(track.boxes[0].tolist() for track in clip.tracks)
    np.testing.assert_allclose(starts, [[20, 20, 70, 90], [90, 30, 140, 100]], atol=1)
    assert len(read_clip(path, ClipSettings(max_tracks=1), detector).tracks) == 1


def test_missed_detections_are_bridged_and_long_absence_ends_a_track(tmp_path, media, detector):
    away = media.picture(faces=())
    here = media.picture()
    bridged = [here] * 30 + [away] * 8 + [here] * 30
    (track,) = read_clip(media.write_video(tmp_path / "a.mp4", bridged), detector=detector).tracks
    assert len(track.mouths) == len(bridged) and np.diff(track.times).max() > 0.4
    gone = [here] * 30 + [away] * 60 + [here] * 30
    tracks = read_clip(media.write_video(tmp_path / "b.mp4", gone), detector=detector).tracks
    assert sorted(track.mouth_start for track in tracks) == [0, 94]  # found again at the next search, 3.75 s
    assert all(len(track.mouths) <= 30 for track in tracks)


def test_cut_ends_tracks_and_flash_does_not(tmp_path, media, detector):
    here, flash = media.picture(), np.full((120, 160, 3), 255, np.uint8)
    other = 255 - media.picture(faces=())
    other[20:100, 40:100] = (255, 0, 255)
    cut_path = media.write_video(tmp_path / "cut.mp4", [here] * 40 + [other] * 40)
    assert sorted(len(track.mouths) > 20 for track in read_clip(cut_path, detector=detector).tracks) == [
        True,
        True,
    ]
    frames = [here] * 40 + [flash] + [here] * 40
    (track,) = read_clip(media.write_video(tmp_path / "flash.mp4", frames), detector=detector).tracks
    assert len(track.mouths) == 81


def test_cut_finder():
    finder = CutFinder()
    dark, light = np.zeros((64, 64), np.uint8), np.full((64, 64), 200, np.uint8)
    for index, luma in enumerate(
        [dark, dark, light, dark, dark, dark, dark, light, light, light, light, light]
    ):
        finder.add(index / 25, luma)
    assert not finder.between(0, 6 / 25) and finder.between(6 / 25, 7 / 25) and not finder.between(7 / 25, 1)


def test_no_face_is_a_reason(tmp_path, media, detector):
    clip = read_clip(media.write_video(tmp_path / "a.mp4", [media.picture(faces=())] * 50), detector=detector)
    assert clip.tracks == [] and clip.reasons["visual"] == "no face found in 9 sampled frames"


def test_chance_finds_are_no_tracks(tmp_path, media, detector):
    frames = [media.picture(faces=() if index % 50 else TWO[:1]) for index in range(150)]
    clip = read_clip(media.write_video(tmp_path / "a.mp4", frames), detector=detector)
    assert clip.tracks == [] and clip.reasons["visual"].startswith("no face could be followed")


def test_small_and_unsure_faces_are_left_out(tmp_path, media, detector):
    path = media.write_video(tmp_path / "a.mp4", [media.picture()] * 30)
    assert not read_clip(path, ClipSettings(min_face_px=70), detector).tracks
    assert not read_clip(path, ClipSettings(min_face_prob=0.9999), detector).tracks


def test_crops_are_thinned_evenly(tmp_path, media, detector):
    path = media.write_video(tmp_path / "a.mp4", [media.picture()] * 150)
    (track,) = read_clip(path, ClipSettings(max_crops=8), detector).tracks
    assert len(track.times) == 25 and 4 <= len(track.crops) <= 8
    steps = np.diff(track.crop_times)
    assert steps.max() - steps.min() < 0.05 and track.crop_times[-1] > 4.5


def test_detection_runs_on_reduced_frames_and_crops_on_full_ones(tmp_path, media, detector):
    picture = media.picture(640, 480, faces=[("magenta", (200, 100, 360, 300))])
    path = media.write_video(tmp_path / "a.mp4", [picture] * 10)
    (track,) = read_clip(path, ClipSettings(detect_max_side=160), detector).tracks
    assert set(detector.shapes) == {(120, 160, 3)}
    assert np.abs(track.boxes - [200, 100, 360, 300]).max() <= 4


def test_memory_does_not_grow_with_duration(tmp_path, media, detector):
    path = media.write_video(tmp_path / "a.mp4", (media.picture() for _ in range(2500)))
    collector = FaceCollector(ClipSettings(), detector)
    most = 0
    for frame in iterate_frames(path):
        collector.add(frame)
        most = max(most, len(collector._frames))
    (track,) = collector.finish()
    assert most < 60  # 4 searched frames and what lies between: about 1.5 s
    assert len(track.mouths) == 2500 and len(track.crops) <= 48


def test_fast_video_keeps_only_frames_that_the_grid_shows(tmp_path, media, detector):
    path = media.write_video(tmp_path / "a.mp4", [media.picture()] * 400, fps=200)
    collector = FaceCollector(ClipSettings(), detector)
    most = 0
    for frame in iterate_frames(path):
        collector.add(frame)
        most = max(most, len(collector._frames))
    (track,) = collector.finish()
    assert len(track.mouths) == 50 and most < 60


def test_slow_video_repeats_frames_on_the_grid(tmp_path, media, detector):
    path = media.write_video(tmp_path / "a.mp4", [media.picture()] * 8, fps=2)
    (track,) = read_clip(path, detector=detector).tracks
    assert len(track.times) == 8 and len(track.mouths) == 88


def test_spooled_array_moves_to_a_file():
    small, spooled = SpooledArray((3,), np.uint8), SpooledArray((3,), np.uint8, limit_bytes=100)
    for index in range(100):
        for array in (small, spooled):
            array.append(np.full((2, 3), index))
    assert isinstance(spooled.array(), np.memmap) and not isinstance(small.array(), np.memmap)
    np.testing.assert_array_equal(spooled.array(), small.array())
    assert spooled.array()[-1].tolist() == [99, 99, 99] and len(spooled) == 200
    with pytest.raises(ValueError, match="rows of shape"):
        spooled.append(np.zeros((2, 4)))


def test_crop_outside_the_frame_repeats_the_edge():
    image = np.tile(np.arange(100, dtype=np.uint8)[None], (50, 1))
    crop = cut(image, np.array([-20.0, 10, 20, 50]), 40, Image.Resampling.BILINEAR)
    assert (crop[:, :20] == 0).all() and crop[5, 25] == 5
    assert cut(image, np.array([300.0, 10, 340, 50]), 8, Image.Resampling.BILINEAR).min() == 99
    np.testing.assert_allclose(crop_box(np.array([10, 20, 30, 60]), 0.25), [-10, 10, 50, 70])


@pytest.mark.parametrize("ext", ["jpg", "png", "webp"])
def test_images(tmp_path, media, detector, ext):
    path = tmp_path / f"a.{ext}"
    Image.fromarray(media.picture(faces=TWO)).save(path, quality=95)
    clip = read_clip(path, detector=detector)
    assert clip.kind == "image" and clip.duration_s == 0 and clip.audio is None and "audio" in clip.reasons
    assert [track.crops.shape for track in clip.tracks] == [(1, 224, 224, 3)] * 2
    assert [len(track.mouths) for track in clip.tracks] == [0, 0]
    info = probe(path)
    assert info == clip.info and info.is_image and (info.width, info.height) == (160, 120)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, media, detector, orientation):
    upright = Image.fromarray(media.picture())
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    clip = read_clip(tmp_path / "a.jpg", detector=detector)
    assert (clip.info.width, clip.info.height) == (160, 120)
    assert np.abs(clip.tracks[0].boxes - [40, 20, 100, 100]).max() <= 2


def test_unusual_image_modes(tmp_path, media, detector):
    grey = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    Image.fromarray(grey).save(tmp_path / "grey16.png")
    Image.fromarray(media.picture()).convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.fromarray(media.picture()).convert("P").save(tmp_path / "palette.png")
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.fromarray(media.picture()).convert("L").save(tmp_path / "grey.png")
    from avdetect.media.images import read_image

    assert (
        np.abs(read_image(tmp_path / "grey16.png").rgb[0, :, 0].astype(int) - np.linspace(0, 255, 64)).max()
        < 2
    )
    assert (read_image(tmp_path / "clear.png").rgb == 255).all()
    for name in ("cmyk.jpg", "palette.png", "grey.png"):
        assert read_image(tmp_path / name).rgb.shape == (120, 160, 3)


def test_save_and_load_round_trip(tmp_path, media, detector):
    path = media.write_video(
        tmp_path / "a.mp4", [media.picture(faces=TWO)] * 30, sound=media.click_track(1.2, 0.5)
    )
    clip = read_clip(path, ClipSettings(crop_size=64), detector)
    clip.warnings.append("kept")
    saved = tmp_path / "folder" / "a.npz"
    save_clip(clip, saved)
    assert [file.name for file in saved.parent.iterdir()] == ["a.npz"]
    again = load_clip(saved)
    for name in ("path", "kind", "duration_s", "info", "settings", "reasons", "warnings", "timing_s"):
        assert getattr(again, name) == getattr(clip, name), name
    np.testing.assert_array_equal(again.audio, clip.audio)
    assert len(again.tracks) == 2
    for first, second in zip(clip.tracks, again.tracks, strict=True):
        for name in ("id", "times", "boxes", "probs", "crop_times", "crops", "mouth_start", "mouths"):
            value = getattr(second, name)
            np.testing.assert_array_equal(value, getattr(first, name))
            assert np.asarray(value).dtype == np.asarray(getattr(first, name)).dtype
    with ClipFile(saved) as file:
        assert [track["crops"] for track in file.meta["tracks"]] == [
            len(track.crops) for track in clip.tracks
        ]
        np.testing.assert_array_equal(file.crop(1, 3), clip.tracks[1].crops[3])
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(file)).mouths(0), clip.tracks[0].mouths)
    with np.load(saved) as plain:  # an ordinary .npz
        np.testing.assert_array_equal(plain["track0/boxes"], clip.tracks[0].boxes)


def test_damaged_clip_files_are_named(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"nothing")
    np.savez(tmp_path / "b.npz", x=np.zeros(3))
    for name in ("a.npz", "b.npz", "c.npz"):
        with pytest.raises(DataError, match=name):
            load_clip(tmp_path / name)


def test_failed_save_leaves_the_old_file(tmp_path, media, detector):
    clip = read_clip(media.write_video(tmp_path / "a.mp4", [media.picture()] * 10), detector=detector)
    save_clip(clip, tmp_path / "a.npz")
    before = (tmp_path / "a.npz").read_bytes()
    clip.reasons = {"visual": object()}
    with pytest.raises(TypeError):
        save_clip(clip, tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "a.npz"]


def test_settings_round_trip_and_unknown_names():
    settings = ClipSettings(crop_size=96)
    assert ClipSettings.from_dict(settings.to_dict()) == settings
    with pytest.raises(ConfigError, match="crop_size"):
        ClipSettings.from_dict({"crop_sise": 96})
    with pytest.raises(ConfigError, match="positive"):
        ClipSettings(grid_fps=0)


def test_sound_files_need_no_torch(tmp_path):
    import subprocess

    import soundfile

    soundfile.write(tmp_path / "a.wav", np.zeros(1600, np.float32), 16000)
    code = (
        f"import sys; from avdetect.media import read_clip; read_clip({str(tmp_path / 'a.wav')!r}); "
        "sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


def drawn_face(size=400):
    """A shaded face drawn with ellipses."""
    image = Image.new("RGB", (size, size), (90, 110, 130))
    draw = ImageDraw.Draw(image)
    for step in range(24):
        shade = 150 + 3 * step
        draw.ellipse(
            (110 + 2 * step, 70 + 3 * step, 290 - 2 * step, 320 - 3 * step),
            fill=(shade, int(shade * 0.8), int(shade * 0.68)),
        )
    draw.chord((105, 55, 295, 200), 180, 360, fill=(50, 35, 25))
    for x in (160, 240):
        draw.arc((x - 25, 150, x + 25, 180), 200, 340, fill=(50, 35, 25), width=6)
        draw.ellipse((x - 17, 170, x + 17, 190), fill=(240, 240, 240))
        draw.ellipse((x - 8, 171, x + 8, 189), fill=(40, 30, 25))
    draw.polygon([(200, 185), (188, 235), (212, 235)], fill=(185, 140, 120))
    draw.ellipse((165, 258, 235, 282), fill=(165, 70, 75))
    draw.line((168, 270, 232, 270), fill=(90, 30, 35), width=3)
    return np.asarray(image)


def test_mtcnn_finds_a_drawn_face(tmp_path):
    from avdetect.media.faces import default_detector

    image = drawn_face()
    found, nothing = default_detector().detect([image, np.full_like(image, 127)], 32)
    assert len(found.probs) == 1 and found.probs[0] > 0.9 and len(nothing.probs) == 0
    x0, y0, x1, y1 = found.boxes[0]
    assert 80 < x0 < 150 and 40 < y0 < 170 and 250 < x1 < 320 and 250 < y1 < 350
    mouth = found.landmarks[0, 3:].mean(axis=0)
    assert np.abs(mouth - (200, 270)).max() < 20
    assert default_detector().detect([], 32) == []
    assert len(default_detector().detect([np.zeros((8, 8, 3), np.uint8)], 32)[0].probs) == 0


@pytest.mark.skipif(
    not (shared / "data/dfdc").is_dir(), reason="the real DFDC files are not beside the checkout"
)
def test_real_video_has_one_face_over_its_whole_length():
    (path,) = shared.glob("data/dfdc/*/widuwuoiur.mp4")
    clip = read_clip(path)
    (track,) = clip.tracks
    assert (
        len(track.times) == 41
        and len(track.mouths) == 250
        and len(clip.audio) == pytest.approx(160160, abs=200)
    )


def test_pictures_that_are_faces_are_taken_whole(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "face.png")

    class Forbidden:
        def detect(self, images, min_face_px):
            raise AssertionError("a picture that is a face is not searched")

    clip = read_clip(tmp_path / "face.png", ClipSettings(pictures="face", crop_size=64), Forbidden())
    (track,) = clip.tracks
    np.testing.assert_array_equal(track.crops[0], pixels)
    with pytest.raises(ConfigError, match="search or face"):
        ClipSettings(pictures="guess")
