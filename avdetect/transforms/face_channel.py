"""What happens to a face picture on its way to the viewer, drawn once and done alike to several pictures.

A genuine crop and its fake pass through the same channel with the same numbers, so that nothing but the manipulation
tells them apart. OpenCV on uint8: about a millisecond for a crop of 224 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from avdetect.errors import ConfigError
from avdetect.transforms.recompress import through_h264
from avdetect.transforms.settings import Settings

_NOISE_LENGTH = 1 << 21  # values drawn once, of which each picture gets a stretch
_DOWN = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
_UP = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST)
_SMALLEST = 24  # pixels

Step = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class FaceChannel(Settings):
    """Ranges of the changes; every `…_p` is the probability of one.

    Geometry: flip, zoom (factor of the picture's content), aspect (largest relative change), rotation (degrees), shift
    (part of the side). Then, in this order: scaling down and up (a part of these with a JPEG file in between), blur
    (pixels of a 224-pixel crop) or sharpening, white balance and saturation, gamma, contrast and brightness, noise
    (deviation on 0..255), H.264 or JPEG, and last a rectangle painted over.
    """

    flip_p: float = 0.5
    zoom: tuple[float, float] = (0.8, 1.3)
    aspect: float = 0.07
    rotation: float = 10.0
    shift: float = 0.06
    downscale_p: float = 0.4
    downscale: tuple[float, float] = (0.35, 0.95)
    blur_p: float = 0.2
    blur: tuple[float, float] = (0.3, 1.5)
    sharpen_p: float = 0.1
    colour_p: float = 0.7
    tone_p: float = 0.8
    noise_p: float = 0.35
    noise: tuple[float, float] = (1.0, 9.0)
    h264_p: float = 0.0
    h264: tuple[int, int] = (23, 36)
    jpeg_p: float = 0.6
    jpeg: tuple[int, int] = (35, 97)
    erase_p: float = 0.2

    def __post_init__(self) -> None:
        for name in ("zoom", "downscale", "blur", "noise", "h264", "jpeg"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ConfigError(
                    f"FaceChannel's {name} is {[low, high]}: it must be two positive numbers, the smaller first"
                )

    def draw(self, side: int, rng: np.random.Generator) -> tuple[Step, Step]:
        """A geometry and a channel for pictures (side, side) or (side, side, 3); both keep the shape.

        The first also takes float32 masks; the second takes uint8 RGB alone.
        """
        return self._geometry(side, rng), self._channel(side, rng)

    def _geometry(self, side: int, rng: np.random.Generator) -> Step:
        flip = -1.0 if rng.random() < self.flip_p else 1.0
        zoom, angle = rng.uniform(*self.zoom), math.radians(rng.uniform(-self.rotation, self.rotation))
        aspect = 1.0 + rng.uniform(-self.aspect, self.aspect)
        shift = rng.uniform(-self.shift, self.shift, 2) * side
        cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
        turn = np.array([[flip * cos * aspect, -flip * sin], [sin, cos / aspect]])
        middle = np.full(2, (side - 1) / 2)
        matrix = np.column_stack([turn, middle - turn @ middle + shift])
        return lambda picture: cv2.warpAffine(
            picture, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )

    def _channel(self, side: int, rng: np.random.Generator) -> Step:
        steps: list[Step] = []
        if rng.random() < self.downscale_p:
            steps.append(self._rescaler(side, rng))
        if rng.random() < self.blur_p:
            sigma = rng.uniform(*self.blur) * side / 224
            steps.append(lambda picture: cv2.GaussianBlur(picture, (0, 0), sigma))
        elif rng.random() < self.sharpen_p:
            amount = rng.uniform(0.2, 1.0)
            steps.append(
                lambda picture: cv2.addWeighted(
                    picture, 1.0 + amount, cv2.GaussianBlur(picture, (0, 0), 1.2), -amount, 0.0
                )
            )
        if rng.random() < self.colour_p:
            colours = _colours(rng)
            steps.append(lambda picture: cv2.transform(picture, colours))
        if rng.random() < self.tone_p:
            tones = _tones(rng)
            steps.append(lambda picture: cv2.LUT(picture, tones))
        if rng.random() < self.noise_p:
            noise = _noise(side, rng, rng.uniform(*self.noise))
            steps.append(lambda picture: np.clip(picture + noise, 0, 255).astype(np.uint8))
        if rng.random() < self.h264_p:
            rate, motion = int(rng.integers(self.h264[0], self.h264[1] + 1)), rng.integers(-2, 3, 2)
            steps.append(lambda picture: _h264(picture, rate, motion))
        elif rng.random() < self.jpeg_p:
            quality = int(rng.integers(self.jpeg[0], self.jpeg[1] + 1))
            steps.append(lambda picture: _jpeg(picture, quality))
        if rng.random() < self.erase_p:
            steps.append(_eraser(side, rng))

        def channel(picture: np.ndarray) -> np.ndarray:
            for step in steps:
                picture = step(picture)
            return picture

        return channel

    def _rescaler(self, side: int, rng: np.random.Generator) -> Step:
        small = max(min(_SMALLEST, side), round(side * rng.uniform(*self.downscale)))
        down, up = _DOWN[int(rng.integers(3))], _UP[int(rng.integers(3 if small > 0.5 * side else 2))]
        quality = int(rng.integers(50, 97)) if rng.random() < 0.4 else None

        def rescale(picture: np.ndarray) -> np.ndarray:
            little = cv2.resize(picture, (small, small), interpolation=down)
            little = little if quality is None else _jpeg(little, quality)
            return cv2.resize(little, (side, side), interpolation=up)

        return rescale


def _colours(rng: np.random.Generator) -> np.ndarray:
    grey = np.tile(np.array([0.299, 0.587, 0.114]), (3, 1))
    saturation, gain = rng.uniform(0.4, 1.4), rng.uniform(0.9, 1.1, 3)
    return (saturation * np.eye(3) + (1.0 - saturation) * grey) * gain[:, None]


def _tones(rng: np.random.Generator) -> np.ndarray:
    gamma, contrast, brightness = rng.uniform(0.75, 1.3), rng.uniform(0.7, 1.35), rng.uniform(-25.0, 25.0)
    values = 255.0 * (np.arange(256) / 255.0) ** gamma
    return np.clip((values - 127.5) * contrast + 127.5 + brightness, 0, 255).astype(np.uint8)


_standard_normal = np.random.default_rng(0).standard_normal(_NOISE_LENGTH, dtype=np.float32)


def _noise(side: int, rng: np.random.Generator, deviation: float) -> np.ndarray:
    channels = 1 if rng.random() < 0.5 else 3
    length = side * side * channels
    start = int(rng.integers(_NOISE_LENGTH))
    taken = np.take(_standard_normal, np.arange(start, start + length), mode="wrap")
    return taken.reshape(side, side, channels) * np.float32(deviation)


def _eraser(side: int, rng: np.random.Generator) -> Step:
    left, top = (rng.uniform(0.0, 1.0, 2) * side).astype(int)
    width, height = (rng.uniform(0.1, 0.35, 2) * side).astype(int)
    colour = int(rng.integers(256))

    def erase(picture: np.ndarray) -> np.ndarray:
        picture = picture.copy()
        picture[top : top + height, left : left + width] = colour
        return picture

    return erase


def _jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    # Channel order does not matter here but for which colours are halved: they are told as BGR, as OpenCV has them.
    coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1])


def _h264(picture: np.ndarray, rate: int, motion: np.ndarray) -> np.ndarray:
    return np.asarray(through_h264(Image.fromarray(picture), rate, (int(motion[0]), int(motion[1]))))
