"""Soft masks of the part of a face crop that a manipulation replaces.

Face crops are cut by a detector's box, so a face lies at about the same place in each: the regions below are given
relative to the crop, and drawn with enough play that no place or outline is learnt. No landmarks are needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

HARMONICS = 5  # of the outline's radius
COARSE = 4  # masks are blurred at a quarter of the resolution, which takes a tenth of the time
CORNERS = 48


@dataclass(frozen=True)
class Region:
    """An ellipse relative to the crop's side: centre and half axes, and how far each of them may stray."""

    x: float
    y: float
    width: float
    height: float
    play: float = 0.06


REGIONS = {
    "face": Region(0.50, 0.53, 0.33, 0.42),
    "inner": Region(0.50, 0.56, 0.27, 0.31),
    "eyes": Region(0.50, 0.40, 0.32, 0.15),
    "mouth": Region(0.50, 0.76, 0.20, 0.13),
    "lower": Region(0.50, 0.72, 0.30, 0.22),
}


def outline_mask(
    side: int, rng: np.random.Generator, region: str, softness: tuple[float, float] = (0.01, 0.08)
) -> np.ndarray:
    """float32 (side, side) in [0, 1]: 1 inside a deformed ellipse, 0 outside, with a soft edge.

    The ellipse's radius is changed by `HARMONICS` random harmonics, as hulls of landmarks and learnt segmentations
    differ from it. softness: range of the edge's standard deviation, as a part of the side.
    """
    place = REGIONS[region]
    angle = np.linspace(0.0, 2 * np.pi, CORNERS, endpoint=False)
    order = np.arange(1, HARMONICS + 1)
    size = rng.normal(0.0, 0.07, HARMONICS) / np.sqrt(order)
    phase = rng.uniform(0.0, 2 * np.pi, HARMONICS)
    radius = 1.0 + (size[:, None] * np.cos(order[:, None] * angle + phase[:, None])).sum(0)
    x, y = np.array([place.x, place.y]) + rng.uniform(-place.play, place.play, 2)
    width, height = np.array([place.width, place.height]) * rng.uniform(0.8, 1.2, 2)
    corners = np.stack([x + width * radius * np.cos(angle), y + height * radius * np.sin(angle)], 1)
    mask = np.zeros((side, side), np.uint8)
    cv2.fillPoly(mask, [np.rint(corners * side).astype(np.int32)], 255)
    return soften(mask, rng.uniform(*softness) * side)


def soften(mask: np.ndarray, sigma: float) -> np.ndarray:
    """uint8 (s, s) of 0 and 255 -> float32 in [0, 1] with edges of that standard deviation in pixels, 1 at least."""
    return np.minimum(_coarse_blur(mask, max(1.0, sigma)) / np.float32(255.0), np.float32(1.0))


def _coarse_blur(picture: np.ndarray, sigma: float) -> np.ndarray:
    """float32 (s, s): a picture (s, s) blurred by a Gaussian of that many pixels."""
    side = picture.shape[0]
    factor = COARSE if sigma >= COARSE and side >= 8 * COARSE else 1
    small = cv2.resize(picture, (side // factor, side // factor), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(
        small.astype(np.float32), (0, 0), sigma / factor, borderType=cv2.BORDER_REPLICATE
    )
    return cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR)


def half_plane(side: int, rng: np.random.Generator) -> np.ndarray:
    """float32 (side, side) in [0, 1]: 1 on one side of a random line near the middle, with a soft transition."""
    angle, width = rng.uniform(0.0, 2 * np.pi), rng.uniform(0.02, 0.14) * side
    offset = rng.uniform(-0.1, 0.1) * side
    place = np.arange(side, dtype=np.float32) - side / 2
    distance = place[None, :] * np.float32(np.cos(angle)) + place[:, None] * np.float32(np.sin(angle))
    return np.clip(0.5 + (distance - offset) / width, 0.0, 1.0).astype(np.float32)


def changed_mask(genuine: np.ndarray, fake: np.ndarray, aligned: float = 8.0) -> np.ndarray | None:
    """Where a fake differs from the genuine crop of the same moment: float32 (s, s) in [0, 1].

    genuine, fake: uint8 (s, s, 3). None where the two crops differ along their border too (median above `aligned`
    on the 0..255 scale): they were then cut or coded differently, and a difference says nothing about the place.
    """
    difference = cv2.absdiff(genuine, fake).max(axis=-1)
    side, rim = difference.shape[0], max(1, difference.shape[0] // 45)
    border = np.concatenate(
        [
            part.ravel()
            for part in (difference[:rim], difference[-rim:], difference[:, :rim], difference[:, -rim:])
        ]
    )
    noise = float(np.median(border))
    if noise > aligned:
        return None
    floor = max(3.0, 1.5 * noise)
    local = _coarse_blur(difference, side / 28)
    return np.clip((local - floor) / floor, 0.0, 1.0).astype(np.float32)
