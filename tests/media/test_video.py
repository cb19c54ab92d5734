import numpy as np
import pytest
from PIL import Image

from avdetect.errors import MediaError
from avdetect.media import ClipSettings, frames_at, probe, read_clip
from avdetect.media.video import MediaReader, iterate_frames


def corner_picture(width=64, height=48):
    """White block in the upper left corner of black."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:12, :12] = 255
    return image


def test_probe_says_what_the_file_holds(tmp_path, media):
    sound = media.click_track(1, 0.5)
    path = media.write_video(tmp_path / "a.mp4", [media.picture()] * 25, sound=sound)
    info = probe(path)
    assert (info.video_codec, info.audio_codec, info.width, info.height) == ("h264", "aac", 160, 120)
    assert (info.sample_rate, info.channels, info.rotation, info.pix_fmt) == (48000, 1, 0, "yuv420p")
    assert info.fps == pytest.approx(25) and info.duration_s == pytest.approx(1, abs=0.05)
    assert info.size_bytes == path.stat().st_size and len(info.sha256) == 64
    assert info.has_video and info.has_audio and not info.is_image


@pytest.mark.parametrize(
    ("rotation", "hflip"), [(90, False), (-90, False), (180, False), (0, True), (90, True)]
)
def test_display_matrix_is_applied(tmp_path, media, rotation, hflip):
    image = corner_picture()
    path = media.write_video(tmp_path / "a.mp4", [image] * 3, rotation=rotation, hflip=hflip)
    expected = np.rot90(image, rotation // 90)  # counter-clockwise
    if hflip:  # the container mirrors after the rotation
        expected = expected[:, ::-1]
    ((_, shown),) = frames_at(path, [0.0])
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 10
    frame = next(iterate_frames(path))
    assert (frame.height, frame.width) == expected.shape[:2]
    assert np.abs(frame.full_range(frame.luma()).astype(int) - expected[..., 0]).mean() < 10
    info = probe(path)
    assert (info.width, info.height) == expected.shape[1::-1]


def test_variable_frame_rate_uses_time_stamps(tmp_path, media):
    times = [0.0, 0.04, 0.5, 0.52, 1.3]
    grey = [0, 60, 120, 180, 240]
    frames = [np.full((48, 64, 3), value, np.uint8) for value in grey]
    path = media.write_video(tmp_path / "a.mp4", frames, times=times)
    assert [frame.time for frame in iterate_frames(path)] == pytest.approx(times, abs=1e-4)
    asked = [1.29, 0.0, 0.3, 0.51, 99.0, -1.0]
    answer = frames_at(path, asked)
    assert [time for time, _ in answer] == pytest.approx([0.52, 0.0, 0.04, 0.5, 1.3, 0.0], abs=1e-4)
    assert [image.mean() for _, image in answer] == pytest.approx([180, 0, 60, 120, 240, 0], abs=6)


def test_clock_starts_at_the_first_frame(tmp_path, media):
    frames = [np.full((48, 64, 3), value, np.uint8) for value in (0, 100, 200)]
    path = media.write_video(tmp_path / "a.mkv", frames, times=[2.0, 2.04, 2.08])
    assert [frame.time for frame in iterate_frames(path)] == pytest.approx([0, 0.04, 0.08], abs=2e-3)
    with MediaReader(path) as reader:
        list(reader)
        assert reader.video_start_s == pytest.approx(2.0, abs=2e-3)


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [
        ("libx264", "yuv420p10le"),
        ("libx265", "yuv420p10le"),
        ("libx264", "yuv444p"),
        ("libx264", "yuvj420p"),
        ("mpeg4", "yuv420p"),
        ("libvpx-vp9", "yuv420p"),
    ],
)
def test_pixel_formats_give_the_same_picture(tmp_path, media, codec, pix_fmt):
    image = np.repeat(np.linspace(0, 255, 96).astype(np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    path = media.write_video(tmp_path / "a.mkv", [image] * 3, codec=codec, pix_fmt=pix_fmt, options=options)
    frame = next(iterate_frames(path))
    assert np.abs(frame.rgb().astype(int) - image).mean() < 6
    assert np.abs(frame.full_range(frame.luma()).astype(int) - image[..., 0]).mean() < 6


@pytest.mark.parametrize(("width", "height"), [(97, 61), (61, 97), (33, 240)])
def test_odd_and_portrait_sizes(tmp_path, media, detector, width, height):
    image = media.picture(width, height, faces=[("magenta", (1, 5, 33 - 2, 45))])
    path = media.write_video(tmp_path / "a.mkv", [image] * 10, pix_fmt="yuv444p")
    clip = read_clip(path, ClipSettings(min_face_px=20), detector)
    assert (clip.info.width, clip.info.height) == (width, height)
    (track,) = clip.tracks
    assert np.abs(track.boxes - [1, 5, 31, 45]).max() <= 1.5


def test_truncated_video_gives_what_is_there_and_a_warning(tmp_path, media, detector):
    noise = np.random.default_rng(0)
    frames = [media.picture() for _ in range(100)]
    for frame in frames:
        frame[:, 110:] += noise.integers(0, 60, (120, 50, 1), dtype=np.uint8)
    for name in ("a.mp4", "a.mkv"):
        whole = media.write_video(
            tmp_path / name,
            frames,
            container_options={"movflags": "faststart"},
            sound=media.click_track(4, 0.5),
        )
        assert read_clip(whole, detector=detector).warnings == []
        cut = tmp_path / f"cut-{name}"
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        clip = read_clip(cut, detector=detector)
        assert len(clip.tracks) == 1 and 1 < clip.tracks[0].times[-1] < 3
        assert any("truncated" in warning for warning in clip.warnings), clip.warnings
    data = bytearray(whole.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 9000] = bytes(9000)
    (tmp_path / "hole.mkv").write_bytes(data)
    assert any(
        "damaged" in warning for warning in read_clip(tmp_path / "hole.mkv", detector=detector).warnings
    )


def test_what_is_no_media_is_refused_in_one_sentence(tmp_path, media, detector):
    text = tmp_path / "text.mp4"
    text.write_text("This is not a film.\n" * 50)
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n/etc/hostname\n#EXT-X-ENDLIST\n")
    plain = tmp_path / "notes.txt"
    plain.write_text("just words\n")
    empty = tmp_path / "empty.mp4"
    empty.touch()
    headless = tmp_path / "headless.mp4"
    whole = media.write_video(tmp_path / "a.mp4", [media.picture()] * 25).read_bytes()
    headless.write_bytes(whole[: whole.index(b"moov") - 4])
    cut_picture = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(cut_picture)
    cut_picture.write_bytes(cut_picture.read_bytes()[:3000])
    bad = {
        text: "media",
        playlist: "give a",
        plain: "give a",
        empty: "empty",
        headless: "media",
        cut_picture: "damaged",
        tmp_path / "none.mp4": "not exist",
        tmp_path: "folder",
    }
    for path, word in bad.items():
        with pytest.raises(MediaError) as caught:
            read_clip(path, detector=detector)
        message = str(caught.value)
        assert str(path) in message and word in message and "\n" not in message and message.endswith("."), (
            message
        )


def test_frames_of_a_sound_file_are_refused(tmp_path):
    import soundfile

    soundfile.write(tmp_path / "a.wav", np.zeros(1000, np.float32), 16000)
    with pytest.raises(MediaError, match="no video track"):
        frames_at(tmp_path / "a.wav", [0.0])


def test_stopping_early_does_not_hang(tmp_path, media):
    path = media.write_video(tmp_path / "a.mp4", [media.picture(640, 480)] * 60)
    for threads in ("AUTO", "SLICE"):
        for _ in range(5):
            with MediaReader(path, threads=threads) as reader:
                next(iter(reader))
