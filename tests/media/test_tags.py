"""What programs wrote into files: kept where it tells of the making, bounded, and never places or names."""

import av
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from avdetect.inference.verdict_parts import media_of
from avdetect.media import ClipSettings, read_clip
from avdetect.media.video import probe

HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture
def video(tmp_path):
    with av.open(str(tmp_path / "tagged.mp4"), "w") as container:
        container.metadata.update(
            {
                "comment": HOSTILE,
                "location": "+52.5+013.4/",
                "artist": "A. Person",
                "creation_time": "2026-01-02T03:04:05Z",
            }
        )
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        stream.metadata["handler_name"] = "x" * 5000
        for _ in range(3):
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24"))
            )
        container.mux(stream.encode(None))
    return tmp_path / "tagged.mp4"


def test_of_a_video(video):
    tags = probe(video).tags
    assert tags["container.encoder"].startswith("Lavf") and tags["container.comment"] == HOSTILE
    assert tags["container.creation_time"].startswith("2026-01-02T03:04:05")
    assert tags["video.handler_name"] == "x" * 300 + "…"
    assert not any("location" in name or "artist" in name for name in tags)


def test_of_pictures(tmp_path):
    image = Image.new("RGB", (32, 32))
    exif = Image.Exif()
    exif[0x0131], exif[0x0110], exif[0x013B] = "Editor 7\0", "Camera 1", "A. Person"
    image.save(tmp_path / "a.jpg", exif=exif)
    assert probe(tmp_path / "a.jpg").tags == {"exif.Software": "Editor 7", "exif.Model": "Camera 1"}
    texts = PngImagePlugin.PngInfo()
    texts.add_text("parameters", "a face, steps 20")
    texts.add_text("Author", "A. Person")
    texts.add_itxt(
        "XML:com.adobe.xmp", '<x xmp:CreatorTool="Painter" a:DigitalSourceType="…/trainedAlgorithmicMedia"/>'
    )
    image.save(tmp_path / "b.png", pnginfo=texts)
    assert probe(tmp_path / "b.png").tags == {
        "png.parameters": "a face, steps 20",
        "xmp.CreatorTool": "Painter",
        "xmp.DigitalSourceType": "…/trainedAlgorithmicMedia",
    }
    image.save(tmp_path / "c.bmp")
    assert probe(tmp_path / "c.bmp").tags == {}


def test_they_reach_the_verdict(tmp_path, detector):
    exif = Image.Exif()
    exif[0x0131] = "Editor 7"
    Image.new("RGB", (64, 64)).save(tmp_path / "a.jpg", exif=exif)
    clip = read_clip(tmp_path / "a.jpg", ClipSettings(), detector)
    assert media_of(clip)["tags"] == {"exif.Software": "Editor 7"}
