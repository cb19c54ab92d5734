"""Face crops: the preprocessing that belongs to a network, and training augmentation."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn import functional as F

from avdetect.errors import ConfigError
from avdetect.transforms import pixels
from avdetect.transforms.recompress import FILTERS, rescale, through_h264, through_jpeg
from avdetect.transforms.settings import Settings

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLAHE_LIMIT = 2.0  # of the preprocessing, where every picture is treated alike


def _check_crops(crops: np.ndarray) -> None:
    if crops.ndim != 4 or crops.shape[-1] != 3 or crops.dtype != np.uint8:
        raise ValueError(f"face crops must be uint8 (K, S, S, 3), not {crops.dtype} {crops.shape}")


@dataclass(frozen=True)
class VisualPreprocess(Settings):
    """uint8 RGB crops -> normalised float tensor of `size` pixels."""

    frames: ClassVar[int] = 1  # how many of a track's crops make one input

    size: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN  # of RGB in [0, 1]
    std: tuple[float, float, float] = IMAGENET_STD
    clahe: bool = False  # equalise the lightness of every crop (CLAHE, clip limit 2) before all else

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or self.size < 1:
            raise ConfigError(f"the size of a visual input is {self.size!r}: it must be 1 pixel or more")
        numbers = [x for x in (*self.mean, *self.std) if isinstance(x, int | float) and math.isfinite(x)]
        if len(self.mean) != 3 or len(self.std) != 3 or len(numbers) != 6 or min(self.std) <= 0:
            raise ConfigError(
                f"a visual input is normalised by mean {self.mean} and std {self.std}: both must be three numbers, "
                "of red, green and blue, and those of std positive"
            )

    def __call__(self, crops: np.ndarray) -> Tensor:
        """crops: uint8 (K, S, S, 3) RGB -> float32 (K, 3, size, size).

        Bilinear with antialiasing, as Pillow does it, and only where S differs from `size`.
        """
        _check_crops(crops)
        if self.clahe and len(crops):
            crops = np.stack([pixels.equalise(crop, CLAHE_LIMIT) for crop in crops])
        x = torch.tensor(crops).permute(0, 3, 1, 2).to(torch.float32)  # a copy: `crops` may be read-only
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(
                x, size=(self.size, self.size), mode="bilinear", antialias=True, align_corners=False
            )
        mean = torch.tensor(self.mean).view(1, 3, 1, 1) * 255.0
        std = torch.tensor(self.std).view(1, 3, 1, 1) * 255.0
        return ((x - mean) / std).contiguous()


STEPS = (
    "pixelate",
    "flip",
    "affine",
    "colour",
    "clahe",
    "downscale",
    "blur",
    "noise",
    "h264",
    "jpeg",
)


@dataclass(frozen=True)
class VisualAugment(Settings):
    """Random changes that a genuine face video may undergo on its way to the viewer.

    Every `…_p` is the probability that a crop gets that change; each crop of a stack draws its own. `order` is
    that of the changes; JPEG is last, as in the files that are met. Raises `ConfigError` for an order that
    does not name each change once, and for an unknown filter.
    """

    pixelate_p: float = 0.0
    pixelate: tuple[float, float] = (0.5, 0.5)  # factor, there and back again by the nearest pixel
    flip_p: float = 0.5
    affine_p: float = 0.5
    shift: float = 0.04  # largest shift, as a part of the side
    scale: float = 0.08  # largest relative zoom in or out
    rotation: float = 5.0  # degrees
    shear: float = 0.0  # degrees, horizontal
    colour_p: float = 0.5
    brightness: float = 0.15  # largest shift, as a part of the 0..255 range
    contrast: float = 0.25  # largest relative change about mid-grey
    saturation: float = 0.3  # largest relative change
    hue: float = 10.0  # degrees
    colour_either: bool = False  # brightness and contrast, or saturation and hue: never both
    clahe_p: float = 0.0
    clahe: tuple[float, float] = (1.0, 4.0)  # clip limit
    downscale_p: float = 0.25
    downscale: tuple[float, float] = (0.5, 0.9)  # factor, there and back again
    downscale_filters: tuple[str, ...] = ("nearest", "bilinear", "bicubic")  # on the way down; up is bilinear
    blur_p: float = 0.15
    blur: tuple[float, float] = (0.3, 1.2)  # Gaussian radius in pixels of a 224-pixel crop
    noise_p: float = 0.25
    noise: tuple[float, float] = (1.0, 7.0)  # standard deviation on the 0..255 scale
    sensor: float = 0.0  # the part of the noisy crops that get sensor noise instead of Gaussian
    sensor_strength: tuple[float, float] = (0.1, 0.5)
    sensor_hue: tuple[float, float] = (0.01, 0.05)  # deviation at full strength, as a part of the circle
    h264_p: float = 0.0
    h264: tuple[int, int] = (
        23,
        40,
    )  # constant rate factor, both ends included; FaceForensics++ has these two
    jpeg_p: float = 0.5
    jpeg: tuple[int, int] = (50, 99)  # quality, both ends included
    order: tuple[str, ...] = STEPS

    def __post_init__(self) -> None:
        if sorted(self.order) != sorted(STEPS):
            raise ConfigError(
                f"VisualAugment's order is {', '.join(self.order)}; it must name each of {', '.join(STEPS)} once."
            )
        unknown = sorted(set(self.downscale_filters) - set(FILTERS))
        if unknown or not self.downscale_filters:
            raise ConfigError(
                f"VisualAugment knows no filter {', '.join(unknown) or '(none given)'}; "
                f"the filters are {', '.join(FILTERS)}."
            )

    def __call__(self, crops: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """crops: uint8 (K, S, S, 3) RGB -> the same shape; equal generators give equal results."""
        _check_crops(crops)
        return np.stack([self._one(crop, rng) for crop in crops]) if len(crops) else crops.copy()

    def _one(self, crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        image = Image.fromarray(crop)
        for step in self.order:
            chance = getattr(self, f"{step}_p")
            if chance > 0 and rng.random() < chance:  # what is off draws nothing
                image = getattr(self, f"_{step}")(image, rng)
        return np.asarray(image, dtype=np.uint8)

    def _pixelate(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        return rescale(image, rng.uniform(*self.pixelate), "nearest", "nearest")

    def _flip(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)

    def _affine(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        side = image.width
        angle = math.radians(rng.uniform(-self.rotation, self.rotation))
        zoom = 1.0 + rng.uniform(-self.scale, self.scale)
        shift = rng.uniform(-self.shift, self.shift, size=2) * side
        shear = math.radians(rng.uniform(-self.shear, self.shear)) if self.shear else 0.0
        turn = math.sin(math.radians(min(self.rotation, 90.0)))
        slant = math.tan(math.radians(self.shear)) * (1.0 + turn)
        reach = (self.scale + turn + slant) / 2 + self.shift
        margin = min(math.ceil(side * reach / (1.0 - self.scale)) + 2, side - 1)
        return pixels.warp(image, angle, zoom, shift, shear, margin)

    def _colour(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        contrast = 1.0 + rng.uniform(-self.contrast, self.contrast)
        brightness = rng.uniform(-self.brightness, self.brightness) * 255.0
        saturation = 1.0 + rng.uniform(-self.saturation, self.saturation)
        hue = math.radians(rng.uniform(-self.hue, self.hue))
        if self.colour_either and rng.random() < 0.5:
            contrast, brightness = 1.0, 0.0
        elif self.colour_either:
            saturation, hue = 1.0, 0.0
        return pixels.recolour(image, contrast, brightness, saturation, hue)

    def _clahe(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        return Image.fromarray(pixels.equalise(np.asarray(image), rng.uniform(*self.clahe)))

    def _downscale(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        factor = rng.uniform(*self.downscale)
        return rescale(
            image, factor, self.downscale_filters[rng.integers(len(self.downscale_filters))], "bilinear"
        )

    def _blur(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(rng.uniform(*self.blur) * image.width / 224.0))

    def _noise(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        if self.sensor > 0 and rng.random() < self.sensor:
            return pixels.sensor_noise(
                image, rng.uniform(*self.sensor_strength), rng.uniform(*self.sensor_hue), rng
            )
        return pixels.gaussian_noise(image, self.noise, rng)

    def _h264(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        crf = int(rng.integers(self.h264[0], self.h264[1] + 1))
        dx, dy = rng.integers(-2, 3, size=2)
        return through_h264(image, crf, (int(dx), int(dy)))

    def _jpeg(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        return through_jpeg(image, int(rng.integers(self.jpeg[0], self.jpeg[1] + 1)))
