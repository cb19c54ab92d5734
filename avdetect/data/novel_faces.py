"""Pictures that are no photograph of a face, or one of a kind that is rarely seen: drawn, coloured, covered, turned.

To measure whether a face detector knows what it cannot judge. Each maker is a function of (crop uint8 (s, s, 3) RGB,
rng) -> the same shape; OpenCV is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

Maker = Callable[[np.ndarray, np.random.Generator], np.ndarray]

SKINS = ((255, 205, 60), (255, 220, 177), (226, 180, 140), (140, 190, 230), (150, 220, 140))


def cartoon(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Flat areas of few colours with dark outlines."""
    import cv2

    flat = crop
    for _ in range(4):
        flat = cv2.bilateralFilter(flat, 9, 40, 7)
    levels = int(rng.integers(5, 10))
    step = 255 / (levels - 1)
    flat = np.rint(np.rint(flat / step) * step).astype(np.uint8)
    grey = cv2.medianBlur(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), 5)
    edges = cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 9, 4)
    return np.where(edges[..., None] > 0, flat, flat // 4)


def painting(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brush strokes: smooth areas that keep edges, bright colours."""
    import cv2

    painted = cv2.edgePreservingFilter(crop, flags=1, sigma_s=40, sigma_r=float(rng.uniform(0.4, 0.7)))
    hsv = cv2.cvtColor(painted, cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 1] = np.minimum(hsv[..., 1] * rng.uniform(1.3, 1.9), 255)
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)


def sketch(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pencil on paper: the picture divided by its blurred self."""
    import cv2

    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)
    soft = cv2.GaussianBlur(255 - grey, (0, 0), float(rng.uniform(3, 8)))
    lines = np.clip(grey * 256 / np.maximum(256 - soft, 1), 0, 255).astype(np.uint8)
    return np.repeat(lines[..., None], 3, axis=2)


def emoji(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A round drawn face with dot eyes and a curved mouth."""
    size = 4 * crop.shape[0]
    picture = Image.new("RGB", (size, size), tuple(int(v) for v in rng.integers(0, 256, 3)))
    draw, unit = ImageDraw.Draw(picture), size / 100
    inset = rng.uniform(2, 12) * unit
    skin = SKINS[rng.integers(len(SKINS))]
    draw.ellipse((inset, inset, size - inset, size - inset), fill=skin, outline=(60, 40, 20), width=int(unit))
    eye, apart, up = rng.uniform(3, 8) * unit, rng.uniform(14, 22) * unit, rng.uniform(32, 42) * unit
    for x in (size / 2 - apart, size / 2 + apart):
        draw.ellipse((x - eye, up - 1.3 * eye, x + eye, up + 1.3 * eye), fill=(30, 20, 10))
    wide, deep = rng.uniform(14, 28) * unit, rng.uniform(6, 22) * unit
    mouth = (size / 2 - wide, 62 * unit - deep, size / 2 + wide, 62 * unit + deep)
    draw.arc(mouth, 20, 160, fill=(120, 30, 30), width=max(1, int(3 * unit)))
    return np.asarray(picture.resize(crop.shape[:2], Image.Resampling.LANCZOS))


def upside_down(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return crop[::-1].copy()


def sideways(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A quarter turn to either side."""
    return np.rot90(crop, rng.choice([1, 3])).copy()


def thermal(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lightness in the colours of a heat camera."""
    import cv2

    maps = (cv2.COLORMAP_JET, cv2.COLORMAP_INFERNO, cv2.COLORMAP_HOT, cv2.COLORMAP_PLASMA)
    grey = cv2.GaussianBlur(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (0, 0), 2)
    return cv2.cvtColor(cv2.applyColorMap(grey, maps[rng.integers(len(maps))]), cv2.COLOR_BGR2RGB)


def negative(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 255 - crop


def statue(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Stone: no colour, even tone, smooth."""
    import cv2

    grey = cv2.bilateralFilter(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), 9, 50, 7).astype(np.float32)
    grey = 128 + rng.uniform(0.4, 0.6) * (grey - grey.mean()) + rng.uniform(20, 60)
    tint = np.array([1.0, 0.98, rng.uniform(0.88, 0.96)], np.float32)
    return np.clip(grey[..., None] * tint, 0, 255).astype(np.uint8)


def covered(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A surgical mask over nose and mouth."""
    size = crop.shape[0]
    picture = Image.fromarray(crop)
    colour = ((170, 205, 225), (235, 235, 235), (40, 40, 45))[rng.integers(3)]
    top = rng.uniform(0.48, 0.56) * size
    left, right = rng.uniform(0.12, 0.22) * size, rng.uniform(0.78, 0.88) * size
    shape = [(left, top), (size / 2, top - 0.06 * size), (right, top), (0.72 * size, 0.95 * size),
             (0.28 * size, 0.95 * size)]  # fmt: skip
    ImageDraw.Draw(picture).polygon(shape, fill=colour)
    return np.asarray(picture)


def half_hidden(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half of the face behind a plain object."""
    out, size = crop.copy(), crop.shape[0]
    side, colour = rng.integers(4), rng.integers(20, 236, 3)
    reach = int(size * rng.uniform(0.45, 0.6))
    half = (np.s_[:reach], np.s_[size - reach :], np.s_[:, :reach], np.s_[:, size - reach :])[side]
    out[half] = colour
    return out


def no_face(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture of nothing: colour clouds of power 1/f**2, as a chance find of the face detector may hold."""
    size = crop.shape[0]
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    radius[0, 0] = 1.0
    planes = []
    for _ in range(3):
        noise = np.fft.fft2(rng.standard_normal((size, size))) / radius ** rng.uniform(0.7, 1.5)
        plane = np.fft.ifft2(noise).real
        planes.append(128 + rng.uniform(20, 60) * (plane - plane.mean()) / plane.std())
    return np.clip(np.stack(planes, axis=2), 0, 255).astype(np.uint8)


FACES: dict[str, Maker] = {
    "cartoon": cartoon, "painting": painting, "sketch": sketch, "emoji": emoji, "upside_down": upside_down,
    "sideways": sideways, "thermal": thermal, "negative": negative, "statue": statue, "covered": covered,
    "half_hidden": half_hidden, "no_face": no_face,
}  # fmt: skip
