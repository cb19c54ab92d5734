"""Compression and coarse sampling of one picture, as files on their way to the viewer undergo them."""

import io
from fractions import Fraction

import av
import numpy as np
from PIL import Image

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
SMALLEST = 8  # pixels; nothing is scaled down further


def rescale(image: Image.Image, factor: float, down: str, up: str) -> Image.Image:
    """Scale down by `factor` (below 1) and up again to the old side, with the filters of those names."""
    side = image.width
    small = max(SMALLEST, round(side * factor))
    return image.resize((small, small), FILTERS[down]).resize((side, side), FILTERS[up])


def through_jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Compress at a quality of 1 to 100, with the colour at half resolution, and decode."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    buffer.seek(0)
    return Image.open(buffer).convert("RGB")


def through_h264(image: Image.Image, crf: int, motion: tuple[int, int]) -> Image.Image:
    """Compress as the last of three frames of a video at a constant rate factor of 0 (best) to 51, and decode.

    motion: pixels (x, y) that the picture moves per frame, so that the last one is predicted from those before
    and its remainder quantised, as nearly all frames in a video are. The edge is repeated where that, or the
    even sides that the format wants, calls for more picture.
    """
    width, height = image.width + image.width % 2, image.height + image.height % 2
    dx, dy = motion
    far_x, far_y = 2 * abs(dx), 2 * abs(dy)
    padding = (far_y, far_y + height - image.height), (far_x, far_x + width - image.width), (0, 0)
    padded = np.pad(np.asarray(image), padding, "edge")
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.thread_count = Fraction(1, 25), 1
    # with its look-ahead, which "zerolatency" takes away, x264 does not write the same bytes every time
    encoder.options = {"crf": str(crf), "preset": "veryfast", "tune": "zerolatency"}
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    packets = []
    for index, back in enumerate((2, 1, 0)):
        top, left = far_y + back * dy, far_x + back * dx
        part = np.ascontiguousarray(padded[top : top + height, left : left + width])
        frame = av.VideoFrame.from_ndarray(part, "rgb24").reformat(format="yuv420p")
        frame.pts = index
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    frames = [frame for packet in packets for frame in decoder.decode(packet)] + decoder.decode(None)
    decoded = frames[-1].to_ndarray(format="rgb24")
    return Image.fromarray(decoded[: image.height, : image.width])
