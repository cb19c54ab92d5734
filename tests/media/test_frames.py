"""Videos kept as numbered pictures: folders, and folders inside archives."""

import hashlib
import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from avdetect.errors import MediaError
from avdetect.media import ClipSettings, probe, read_clip
from avdetect.media.frames import RATE_WARNING, archived_sequences, is_sequence, open_sequence, place_on_disk

FACES = ClipSettings(pictures="face", crop_size=64, max_crops=8, sampling="every", sampling_step=1)


def write_frames(folder, numbers, pattern="{:03d}.png", size=64):
    """Plain pictures whose red value is their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.new("RGB", (size, size), (number % 256, 0, 90)).save(folder / pattern.format(number))


def write_archive(path, folders, mode="w:gz", prefix=""):
    with tarfile.open(path, mode) as tar:
        for folder, numbers in folders.items():
            for number in numbers:
                content = io.BytesIO()
                Image.new("RGB", (64, 64), (number % 256, 0, 90)).save(content, "PNG")
                member = tarfile.TarInfo(f"{prefix}{folder}/{number}.png")
                member.size = content.tell()
                content.seek(0)
                tar.addfile(member, content)


def reds(clip):
    return clip.tracks[0].crops[:, 32, 32, 0].tolist()


def test_order_and_times_follow_the_numbers_in_the_names(tmp_path):
    write_frames(tmp_path / "v", [9, 10, 100, 2], pattern="{}.png")
    clip = read_clip(tmp_path / "v", FACES)
    assert reds(clip) == [2, 9, 10, 100]
    assert clip.tracks[0].crop_times.tolist() == [0, 7 / 25, 8 / 25, 98 / 25]
    assert (clip.kind, clip.audio, clip.duration_s) == ("video", None, 99 / 25)
    assert clip.warnings == [RATE_WARNING] and "no sound" in clip.reasons["audio"]
    assert clip.tracks[0].mouths.shape[0] == 0 and clip.tracks[0].boxes[0].tolist() == [0, 0, 64, 64]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ({"sampling": "uniform", "sampling_frames": 4}, [0, 33, 66, 99]),
        ({"sampling": "every", "sampling_step": 30}, [0, 30, 60, 90]),
        ({"sampling": "interval", "detect_interval_s": 1.0}, [0, 25, 50, 75]),
        ({"sampling": "every", "sampling_step": 10}, [0, 20, 40, 60, 80]),  # ten are thinned evenly
    ],
)
def test_sampling_reaches_the_end_of_the_video(tmp_path, sampling, expected):
    write_frames(tmp_path / "v", range(100))
    settings = ClipSettings(pictures="face", crop_size=64, max_crops=8, **sampling)
    assert reds(read_clip(tmp_path / "v", settings)) == expected


def test_faces_are_searched_in_pictures_unless_told_otherwise(tmp_path, media, detector):
    (tmp_path / "v").mkdir()
    for number in range(30):
        Image.fromarray(media.picture()).save(tmp_path / "v" / f"frame_{number:04d}.png")
    clip = read_clip(tmp_path / "v", ClipSettings(), detector)
    assert len(clip.tracks) == 1 and np.abs(clip.tracks[0].boxes[0] - [40, 20, 100, 100]).max() <= 1
    assert len(clip.tracks[0].times) == 6 and len(clip.tracks[0].mouths) == 30
    write_frames(tmp_path / "empty", range(30))
    clip = read_clip(tmp_path / "empty", ClipSettings(), detector)
    assert not clip.tracks and clip.reasons["visual"] == "no face could be followed in 6 sampled pictures"


def test_a_folder_inside_an_archive_gives_what_the_folder_gives(tmp_path):
    write_frames(tmp_path / "1" / "real" / "12", [3, 4, 11], pattern="{}.png")
    write_archive(tmp_path / "1.tar.gz", {"1/real/12": [3, 4, 11], "1/real/7": [200]}, prefix="./")
    write_archive(tmp_path / "2.tar", {"2/fake/0": [8, 9]}, mode="w")
    inside = f"{tmp_path}/1.tar.gz!/1/real/12"
    assert is_sequence(inside) and place_on_disk(inside) == f"{tmp_path}/1.tar.gz"
    one, other = read_clip(inside, FACES), read_clip(tmp_path / "1" / "real" / "12", FACES)
    assert reds(one) == reds(other) == [3, 4, 11]
    assert (one.tracks[0].crops == other.tracks[0].crops).all() and one.info == other.info
    assert reds(read_clip(f"{tmp_path}/2.tar!/2/fake/0", FACES)) == [8, 9]
    assert reds(read_clip(f"{tmp_path}/1.tar.gz!/1/real/7", FACES)) == [200]
    assert archived_sequences(tmp_path / "1.tar.gz") == {"1/real/12": 3, "1/real/7": 1}
    assert archived_sequences(tmp_path / "2.tar") == {"2/fake/0": 2}


def test_an_archive_that_changed_is_read_again(tmp_path):
    archive = tmp_path / "1.tar.gz"
    write_archive(archive, {"a": [5]})
    assert reds(read_clip(f"{archive}!/a", FACES)) == [5]
    write_archive(archive, {"a": [6, 7]})
    assert reds(read_clip(f"{archive}!/a", FACES)) == [6, 7]


def test_description(tmp_path):
    write_frames(tmp_path / "v", [10, 2], pattern="{}.png")
    (tmp_path / "v" / "._2.png").write_bytes(b"left by macOS")
    (tmp_path / "v" / "notes.txt").touch()
    info = probe(tmp_path / "v")
    content = (tmp_path / "v" / "2.png").read_bytes() + (tmp_path / "v" / "10.png").read_bytes()
    assert info.sha256 == hashlib.sha256(content).hexdigest() and info.size_bytes == len(content)
    assert (info.width, info.height, info.fps, info.duration_s) == (64, 64, None, 9 / 25)
    assert info.has_video and not info.has_audio and not info.is_image


def test_damaged_pictures_are_left_out_and_counted(tmp_path):
    write_frames(tmp_path / "v", [0, 1, 2])
    (tmp_path / "v" / "001.png").write_bytes((tmp_path / "v" / "001.png").read_bytes()[:60])
    clip = read_clip(tmp_path / "v", FACES)
    assert reds(clip) == [0, 2] and "1 of 3 pictures are damaged and were left out" in clip.warnings
    for number in (0, 2):
        (tmp_path / "v" / f"{number:03d}.png").write_bytes(b"no picture")
    with pytest.raises(MediaError, match="none of 3 pictures can be decoded"):
        read_clip(tmp_path / "v", FACES)
    with pytest.raises(MediaError, match="none of 3 pictures can be decoded"):
        list(open_sequence(tmp_path / "v").video_frames())


def test_what_is_no_sequence_is_named(tmp_path):
    (tmp_path / "v").mkdir()
    with pytest.raises(MediaError, match="is a folder without numbered pictures"):
        read_clip(tmp_path / "v", FACES)
    write_frames(tmp_path / "v", [1, 2])
    write_frames(tmp_path / "v", [2], pattern="frame{}.png")
    with pytest.raises(MediaError, match="have the same frame number"):
        read_clip(tmp_path / "v", FACES)
    (tmp_path / "v" / "frame2.png").rename(tmp_path / "v" / "cover.png")
    with pytest.raises(MediaError, match="cover.png, which has no frame number"):
        read_clip(tmp_path / "v", FACES)
    (tmp_path / "v" / "cover.png").unlink()
    (tmp_path / "v" / "3.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(MediaError, match="3.png cannot be read"):
        read_clip(tmp_path / "v", FACES)


def test_damaged_archives_are_named(tmp_path):
    write_archive(tmp_path / "1.tar.gz", {"a": range(40)})
    whole = (tmp_path / "1.tar.gz").read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.tar.gz").write_text("a page that says: not found")
    write_archive(tmp_path / "whole.tar", {"a": range(4)}, mode="w")
    (tmp_path / "cut.tar").write_bytes((tmp_path / "whole.tar").read_bytes()[:1600])
    for name in ("cut.tar.gz", "text.tar.gz", "cut.tar"):
        for attempt in (lambda p: read_clip(f"{p}!/a", FACES), archived_sequences):
            with pytest.raises(MediaError, match=f"{name} is no readable archive"):
                attempt(tmp_path / name)
    with pytest.raises(MediaError, match="none.tar.gz does not exist"):
        read_clip(f"{tmp_path}/none.tar.gz!/a", FACES)
    with pytest.raises(MediaError, match="b is a folder without numbered pictures"):
        read_clip(f"{tmp_path}/1.tar.gz!/b", FACES)
