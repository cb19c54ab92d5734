"""Degradations of a run of pictures (N, H, W, 3) uint8, all by the same strength: what robustness is tested with."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import av
import numpy as np
from PIL import Image, ImageFilter

from avdetect.transforms.recompress import through_jpeg

CODING_FPS = 25


def h264(pictures: np.ndarray, crf: int) -> np.ndarray:
    """Compress as one H.264 video of 25 frames a second at a constant rate factor of 0 (best) to 51, and decode.

    4:2:0, preset medium; sides that are odd repeat their edge for the coding.
    """
    count, height, width = pictures.shape[:3]
    padded = np.pad(pictures, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), "edge")
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = padded.shape[2], padded.shape[1], "yuv420p"
    encoder.time_base, encoder.framerate, encoder.thread_count = Fraction(1, CODING_FPS), CODING_FPS, 1
    # "zerolatency" takes the look-ahead away, with which x264 does not write the same bytes every time
    encoder.options = {"crf": str(crf), "preset": "medium", "tune": "zerolatency"}
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    out = np.empty_like(pictures)
    done = 0

    def keep(frames: list[av.VideoFrame]) -> None:
        nonlocal done
        for frame in frames:
            out[done] = frame.to_ndarray(format="rgb24")[:height, :width]
            done += 1

    for index, picture in enumerate(padded):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24").reformat(format="yuv420p")
        frame.pts = index
        for packet in encoder.encode(frame):
            keep(decoder.decode(packet))
    for packet in encoder.encode(None):
        keep(decoder.decode(packet))
    keep(decoder.decode(None))
    if done != count:
        raise RuntimeError(f"{count} pictures went into the H.264 coder and {done} came out")
    return out


def jpeg(pictures: np.ndarray, quality: int) -> np.ndarray:
    """Compress each as a JPEG file of a quality of 1 to 100, 4:2:0, and decode."""
    return _each(pictures, lambda image: through_jpeg(image, quality))


def resize(pictures: np.ndarray, side: int) -> np.ndarray:
    """Reduce to `side` pixels (area averaging) and enlarge again (bicubic); pictures no larger stay as they are."""
    if pictures.shape[1] <= side:
        return pictures.copy()
    full = (pictures.shape[2], pictures.shape[1])
    small = (round(side * full[0] / full[1]), side)

    def change(image: Image.Image) -> Image.Image:
        return image.resize(small, Image.Resampling.BOX).resize(full, Image.Resampling.BICUBIC)

    return _each(pictures, change)


def blur(pictures: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur with a standard deviation of `sigma` pixels of these pictures."""
    return _each(pictures, lambda image: image.filter(ImageFilter.GaussianBlur(sigma)))


def noise(pictures: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Add normal noise of that standard deviation, on the 0..255 scale, to every value of every picture."""
    out = np.empty_like(pictures)
    for index, picture in enumerate(pictures):  # one at a time: a long video is not held as floats
        values = picture + deviation * rng.standard_normal(picture.shape, dtype=np.float32)
        out[index] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return out


def gamma(pictures: np.ndarray, exponent: float) -> np.ndarray:
    """255 (v / 255) ** exponent of every value: below 1 brighter, above 1 darker."""
    curve = np.rint(255 * (np.arange(256) / 255) ** exponent).astype(np.uint8)
    return curve[pictures]


def _each(pictures: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    out = np.empty_like(pictures)
    for index, picture in enumerate(pictures):
        out[index] = np.asarray(change(Image.fromarray(picture)))
    return out
