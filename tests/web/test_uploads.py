"""What is told from a file's first bytes, and what is left of its name."""

import numpy as np
import pytest
from PIL import Image

from avdetect.web.kinds import HEAD_BYTES, describe, is_media
from avdetect.web.uploads import LONGEST_NAME, display_name


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_pictures_that_media_reads_are_taken(tmp_path, form):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "x", form)
    assert is_media((tmp_path / "x").read_bytes()[:HEAD_BYTES])


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm", "avi", "mpg", "ts", "flv", "wmv", "3gp"])
def test_videos_that_media_reads_are_taken(tmp_path, suffix):
    import av

    path = tmp_path / f"x.{suffix}"
    with av.open(str(path), "w") as file:
        codec = {"webm": "libvpx", "flv": "flv", "wmv": "wmv2", "3gp": "mpeg4"}.get(suffix, "mpeg2video")
        stream = file.add_stream(codec if codec in av.codecs_available else "mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(60):
            noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(noise)))
        file.mux(stream.encode())
    assert is_media(path.read_bytes()[:HEAD_BYTES]), path.read_bytes()[:16]


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_recordings_that_media_reads_are_taken(tmp_path, suffix):
    import soundfile

    soundfile.write(tmp_path / f"x.{suffix}", np.random.default_rng(0).normal(0, 0.1, 16000), 16000)
    assert is_media((tmp_path / f"x.{suffix}").read_bytes()[:HEAD_BYTES])


def test_what_is_no_media_is_named():
    for head, name in (
        (b"PK\x03\x04", "zip"),
        (b"%PDF-1", "PDF"),
        (b"hello\n", "text"),
        (b"\0\1\2\3" * 9, "not known"),
    ):
        assert not is_media(head) and name in describe(head)
    assert not is_media(b"RIFF\0\0\0\0EVIL") and not is_media(b"") and not is_media(b"\xff")


def test_names_are_cut_in_the_middle_and_keep_their_ending():
    name = display_name("ä" * 500 + ".mp4")
    assert len(name) <= LONGEST_NAME and name.endswith(".mp4") and "…" in name
    assert display_name("C:\\Users\\me\\clip 1.mp4") == "clip 1.mp4"
    assert display_name(" . ") == display_name("a/") == display_name("\x00") == "unnamed file"
