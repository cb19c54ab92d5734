"""Face crops: the preprocessing that belongs to a network, and training augmentation."""

import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn import functional as F

from avdetect.transforms.settings import Settings

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# RGB to YIQ (NTSC): hue is a rotation and saturation a scaling of the I-Q plane
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)


def _check_crops(crops: np.ndarray) -> None:
    if crops.ndim != 4 or crops.shape[-1] != 3 or crops.dtype != np.uint8:
        raise ValueError(f"face crops must be uint8 (K, S, S, 3), not {crops.dtype} {crops.shape}")


@dataclass(frozen=True)
class VisualPreprocess(Settings):
    """uint8 RGB crops -> normalised float tensor of `size` pixels."""

    size: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN  # of RGB in [0, 1]
    std: tuple[float, float, float] = IMAGENET_STD

    def __call__(self, crops: np.ndarray) -> Tensor:
        """crops: uint8 (K, S, S, 3) RGB -> float32 (K, 3, size, size).

        Bilinear with antialiasing, as Pillow does it, and only where S differs from `size`.
        """
        _check_crops(crops)
        x = torch.tensor(crops).permute(0, 3, 1, 2).to(torch.float32)  # a copy: `crops` may be read-only
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(
                x, size=(self.size, self.size), mode="bilinear", antialias=True, align_corners=False
            )
        mean = torch.tensor(self.mean).view(1, 3, 1, 1) * 255.0
        std = torch.tensor(self.std).view(1, 3, 1, 1) * 255.0
        return ((x - mean) / std).contiguous()


@dataclass(frozen=True)
class VisualAugment(Settings):
    """Random changes that a genuine face video may undergo on its way to the viewer.

    Every `…_p` is the probability that a crop gets that change; each crop of a stack draws its own.
    Order: geometry, colour, down-scaling, blur, noise, JPEG; JPEG last, as in the files that are met.
    """

    flip_p: float = 0.5
    affine_p: float = 0.5
    shift: float = 0.04  # largest shift, as a part of the side
    scale: float = 0.08  # largest relative zoom in or out
    rotation: float = 5.0  # degrees
    colour_p: float = 0.5
    brightness: float = 0.15  # largest shift, as a part of the 0..255 range
    contrast: float = 0.25  # largest relative change about mid-grey
    saturation: float = 0.3  # largest relative change
    hue: float = 10.0  # degrees
    downscale_p: float = 0.25
    downscale: tuple[float, float] = (0.5, 0.9)  # factor, there and back again
    blur_p: float = 0.15
    blur: tuple[float, float] = (0.3, 1.2)  # Gaussian radius in pixels of a 224-pixel crop
    noise_p: float = 0.25
    noise: tuple[float, float] = (1.0, 7.0)  # standard deviation on the 0..255 scale
    jpeg_p: float = 0.5
    jpeg: tuple[int, int] = (50, 99)  # quality, both ends included

    def __call__(self, crops: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """crops: uint8 (K, S, S, 3) RGB -> the same shape; equal generators give equal results."""
        _check_crops(crops)
        return np.stack([self._one(crop, rng) for crop in crops]) if len(crops) else crops.copy()

    def _one(self, crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        image = Image.fromarray(crop)
        if rng.random() < self.flip_p:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if rng.random() < self.affine_p:
            image = self._affine(image, rng)
        if rng.random() < self.colour_p:
            image = self._colour(image, rng)
        if rng.random() < self.downscale_p:
            image = self._downscale(image, rng)
        if rng.random() < self.blur_p:
            radius = rng.uniform(*self.blur) * image.width / 224.0
            image = image.filter(ImageFilter.GaussianBlur(radius))
        if rng.random() < self.noise_p:
            image = self._noise(image, rng)
        if rng.random() < self.jpeg_p:
            image = _recompress(image, int(rng.integers(self.jpeg[0], self.jpeg[1] + 1)))
        return np.asarray(image, dtype=np.uint8)

    def _affine(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        side = image.width
        angle = math.radians(rng.uniform(-self.rotation, self.rotation))
        zoom = 1.0 + rng.uniform(-self.scale, self.scale)
        shift_x, shift_y = rng.uniform(-self.shift, self.shift, size=2) * side
        cos, sin, centre = math.cos(angle) / zoom, math.sin(angle) / zoom, side / 2
        # Pillow maps output pixels to input pixels and fills what lies outside with black, which would
        # show the change; the border is therefore extended by mirroring first
        reach = (self.scale + math.sin(math.radians(self.rotation))) / 2 + self.shift
        margin = min(math.ceil(side * reach / (1.0 - self.scale)) + 2, side - 1)
        padded = Image.fromarray(
            np.pad(np.asarray(image), ((margin, margin), (margin, margin), (0, 0)), "reflect")
        )
        x0 = centre - cos * (centre + shift_x) - sin * (centre + shift_y) + margin
        y0 = centre + sin * (centre + shift_x) - cos * (centre + shift_y) + margin
        matrix = (cos, sin, x0, -sin, cos, y0)
        return padded.transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)

    def _colour(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        contrast = 1.0 + rng.uniform(-self.contrast, self.contrast)
        brightness = rng.uniform(-self.brightness, self.brightness) * 255.0
        saturation = 1.0 + rng.uniform(-self.saturation, self.saturation)
        hue = math.radians(rng.uniform(-self.hue, self.hue))
        cos, sin = saturation * math.cos(hue), saturation * math.sin(hue)
        turn = np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
        matrix = contrast * (_FROM_YIQ @ turn @ _TO_YIQ)
        offset = 127.5 * (1.0 - contrast) + brightness
        return image.convert("RGB", tuple(np.column_stack([matrix, np.full(3, offset)]).ravel()))

    def _downscale(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        side = image.width
        small = max(8, round(side * rng.uniform(*self.downscale)))
        how = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)[rng.integers(3)]
        return image.resize((small, small), how).resize((side, side), Image.Resampling.BILINEAR)

    def _noise(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        values = np.asarray(image, dtype=np.float32)
        noise = rng.standard_normal(values.shape, dtype=np.float32) * np.float32(rng.uniform(*self.noise))
        return Image.fromarray(np.clip(np.rint(values + noise), 0, 255).astype(np.uint8))


def _recompress(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    buffer.seek(0)
    return Image.open(buffer).convert("RGB")
