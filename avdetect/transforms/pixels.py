"""Light, colour, noise and geometry of one picture. OpenCV is imported where it is used: most runs do without."""

import math

import numpy as np
from PIL import Image

# RGB to YIQ (NTSC): hue is a rotation and saturation a scaling of the I-Q plane
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)
_TILES = (8, 8)


def equalise(picture: np.ndarray, clip_limit: float) -> np.ndarray:
    """Contrast-limited adaptive histogram equalisation (CLAHE) of the lightness in CIELAB, on 8x8 tiles.

    picture: uint8 (H, W, 3) RGB -> the same; clip_limit: how far a grey value's share of its tile may exceed the
    even share. Zuiderveld, "Contrast Limited Adaptive Histogram Equalization", Graphics Gems IV, 1994.
    """
    import cv2

    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clip_limit, _TILES).apply(lab[..., 0])
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def recolour(
    image: Image.Image, contrast: float, brightness: float, saturation: float, hue: float
) -> Image.Image:
    """contrast: factor about mid-grey; brightness: shift on 0..255; saturation: factor; hue: radians."""
    cos, sin = saturation * math.cos(hue), saturation * math.sin(hue)
    turn = np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
    matrix = contrast * (_FROM_YIQ @ turn @ _TO_YIQ)
    offset = 127.5 * (1.0 - contrast) + brightness
    return image.convert("RGB", tuple(np.column_stack([matrix, np.full(3, offset)]).ravel()))


def gaussian_noise(
    image: Image.Image, deviation: tuple[float, float], rng: np.random.Generator
) -> Image.Image:
    """Add normal noise to every value; deviation: range on the 0..255 scale, of which one is drawn."""
    values = np.asarray(image, dtype=np.float32)
    noise = rng.standard_normal(values.shape, dtype=np.float32)  # before the deviation: as in earlier runs
    noise *= np.float32(rng.uniform(*deviation))
    return Image.fromarray(np.clip(np.rint(values + noise), 0, 255).astype(np.uint8))


def sensor_noise(
    image: Image.Image, strength: float, hue_shift: float, rng: np.random.Generator
) -> Image.Image:
    """Noise of a sensor at high ISO, as albumentations' ISONoise has it: Poisson in lightness, normal in hue.

    strength: of both; the Poisson mean is `strength` times the picture's deviation of lightness on the 0..255
    scale. hue_shift: deviation of hue at a strength of 1, as a part of the full circle.
    """
    import cv2

    hls = cv2.cvtColor(np.asarray(image, dtype=np.float32) / np.float32(255), cv2.COLOR_RGB2HLS)
    hue, light = hls[..., 0], hls[..., 1]
    grains = rng.poisson(light.std() * strength * 255.0, light.shape).astype(np.float32) / np.float32(255)
    turns = rng.standard_normal(hue.shape, dtype=np.float32) * np.float32(360.0 * hue_shift * strength)
    hls[..., 0] = (hue + turns) % 360.0
    hls[..., 1] = light + grains * (1.0 - light)
    rgb = cv2.cvtColor(hls, cv2.COLOR_HLS2RGB)
    return Image.fromarray(np.clip(np.rint(rgb * 255.0), 0, 255).astype(np.uint8))


def warp(
    image: Image.Image, angle: float, zoom: float, shift: tuple[float, float], shear: float, margin: int
) -> Image.Image:
    """Rotate by `angle`, scale by `zoom` and shear by `shear` (radians) about the centre, move by `shift` pixels.

    Pillow maps output pixels to input pixels and fills what lies outside with black, which would show the
    change; `margin` pixels are therefore added at each edge by mirroring first.
    """
    side = image.width
    cos, sin, slant = math.cos(angle) / zoom, math.sin(angle) / zoom, math.tan(shear)
    a, b = cos - slant * sin, sin + slant * cos
    padded = Image.fromarray(
        np.pad(np.asarray(image), ((margin, margin), (margin, margin), (0, 0)), "reflect")
    )
    centre = side / 2
    x, y = centre + shift[0], centre + shift[1]
    matrix = (a, b, centre - a * x - b * y + margin, -sin, cos, centre + sin * x - cos * y + margin)
    return padded.transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
