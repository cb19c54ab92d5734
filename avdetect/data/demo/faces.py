"""Parametric heads: one subject's looks, and the head lit and painted once as a flat texture.

A texture is SIZE x SIZE pixels, UNIT pixels to the unit of length; the head is 2 units high, its centre at
the origin, x to the right and y down. Eyes and mouth, which move, are painted onto it by `features`.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

SIZE = 272
UNIT = 100.0
CENTRE = SIZE / 2

_LINE = (((np.arange(SIZE) + 0.5) - CENTRE) / UNIT).astype(np.float32)
X, Y = np.meshgrid(_LINE, _LINE)

SKIN_LIGHT = np.array([240.0, 204.0, 180.0])
SKIN_MIDDLE = np.array([198.0, 146.0, 112.0])
SKIN_DARK = np.array([122.0, 82.0, 60.0])
HAIR = np.array(
    [
        (28, 22, 20),
        (52, 36, 26),
        (92, 62, 38),
        (150, 112, 66),
        (196, 166, 112),
        (120, 56, 30),
        (150, 148, 146),
    ],
    dtype=float,
)
IRIS = np.array([(62, 40, 26), (86, 58, 34), (70, 96, 128), (84, 108, 84), (104, 118, 130)], dtype=float)


@dataclass(frozen=True)
class Face:
    """One subject's looks: colours are RGB 0..255, lengths in head units."""

    skin: np.ndarray
    lips: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    width: float
    jaw: float  # exponent of the lower outline: the larger, the squarer
    eye_x: float
    eye_y: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    brow_gap: float
    brow_thickness: float
    brow_tilt: float
    nose_y: float
    nose_width: float
    nose_height: float
    mouth_y: float
    mouth_width: float
    upper_lip: float
    lower_lip: float
    cheek: float
    hairline: float
    hair_volume: float
    hair_length: float  # y down to which hair covers the sides
    parting: float
    stubble: float
    blotches: float
    pores: float
    texture_seed: int


@dataclass(frozen=True)
class Head:
    """A lit head without eyes and mouth; float32: rgb (S, S, 3) 0..255, alpha (S, S) 0..1, shade (S, S)."""

    rgb: np.ndarray
    alpha: np.ndarray
    shade: np.ndarray


@dataclass(frozen=True)
class Light:
    """A distant lamp: unit direction towards it, share of ambient light, and its tint (RGB around 1)."""

    direction: np.ndarray
    ambient: float
    tint: np.ndarray


def random_face(rng: np.random.Generator) -> Face:
    """Draw a subject's looks."""
    tone = rng.uniform(0, 2)
    low, high = (SKIN_LIGHT, SKIN_MIDDLE) if tone < 1 else (SKIN_MIDDLE, SKIN_DARK)
    skin = (low + (high - low) * (tone % 1.0)) * rng.uniform(0.96, 1.04) * rng.uniform(0.98, 1.02, 3)
    hair = HAIR[rng.integers(len(HAIR))] if tone < 1 else HAIR[rng.integers(3)]
    iris = IRIS[rng.integers(len(IRIS))] if tone < 1 else IRIS[rng.integers(2)]
    long_hair = rng.random() < 0.4
    return Face(
        skin=skin,
        lips=skin * rng.uniform((0.82, 0.58, 0.60), (0.95, 0.72, 0.76)),
        hair=hair * rng.uniform(0.85, 1.15),
        iris=iris * rng.uniform(0.85, 1.15),
        width=rng.uniform(0.71, 0.81),
        jaw=rng.uniform(2.0, 2.7),
        eye_x=rng.uniform(0.285, 0.335),
        eye_y=rng.uniform(-0.13, -0.05),
        eye_width=rng.uniform(0.125, 0.155),
        eye_height=rng.uniform(0.052, 0.075),
        eye_tilt=rng.uniform(-0.02, 0.03),
        brow_gap=rng.uniform(0.16, 0.21),
        brow_thickness=rng.uniform(0.022, 0.042),
        brow_tilt=rng.uniform(-0.03, 0.03),
        nose_y=rng.uniform(0.20, 0.27),
        nose_width=rng.uniform(0.11, 0.16),
        nose_height=rng.uniform(0.16, 0.24),
        mouth_y=rng.uniform(0.49, 0.55),
        mouth_width=rng.uniform(0.23, 0.29),
        upper_lip=rng.uniform(0.035, 0.065),
        lower_lip=rng.uniform(0.05, 0.085),
        cheek=rng.uniform(0.02, 0.07),
        hairline=rng.uniform(-0.72, -0.52),
        hair_volume=rng.uniform(0.05, 0.14),
        hair_length=rng.uniform(0.5, 1.0) if long_hair else rng.uniform(-0.35, 0.0),
        parting=rng.uniform(-0.35, 0.35),
        stubble=max(0.0, rng.uniform(-0.3, 0.22)) * (not long_hair),
        blotches=rng.uniform(0.01, 0.03),
        pores=rng.uniform(0.010, 0.028),
        texture_seed=int(rng.integers(2**31)),
    )


def random_light(rng: np.random.Generator) -> Light:
    """Draw a lamp in front of the face, above it or beside it."""
    direction = np.array([rng.uniform(-0.75, 0.75), rng.uniform(-0.65, 0.0), 1.0])
    warmth = rng.uniform(-0.07, 0.07)
    return Light(
        direction / np.linalg.norm(direction),
        rng.uniform(0.42, 0.62),
        np.array([1 + warmth, 1.0, 1 - warmth]) * rng.uniform(0.92, 1.06),
    )


def step(x: np.ndarray, softness: float) -> np.ndarray:
    """0 below, 1 above zero, with a smooth ramp of `softness` (same unit as x) between."""
    t = np.clip(x / softness + 0.5, 0.0, 1.0)
    return t * t * (3 - 2 * t)


def bump(x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
    """A Gaussian hill of height 1."""
    return np.exp(-((x / width) ** 2) - (y / height) ** 2)


def octaves(shape: tuple[int, int], cells: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Smooth random field of about unit range: sum of interpolated noise grids, each with half the weight."""
    out = np.zeros(shape)
    for power, count in enumerate(cells):
        rows = max(2, int(round(count * shape[0] / max(shape))))
        columns = max(2, int(round(count * shape[1] / max(shape))))
        grid = rng.standard_normal((rows, columns))
        field = zoom(grid, (shape[0] / rows, shape[1] / columns), order=1, grid_mode=True, mode="nearest")
        out += field[: shape[0], : shape[1]] / 2**power
    return out


def half_width(face: Face, y: np.ndarray) -> np.ndarray:
    """Half the width of the head at height y: an ellipse above, a squarer curve towards the chin."""
    above = np.sqrt(np.clip(1 - np.abs(y) ** 2.3, 0, 1))
    below = np.clip(1 - np.abs(y) ** face.jaw, 0, 1) ** 0.62
    return face.width * np.where(y < 0, above, below)


def paint_head(face: Face, light: Light) -> Head:
    """Light and paint the parts of a head that do not move on their own."""
    rng = np.random.default_rng(face.texture_seed)
    shade, gloss = _shade(face, light)
    skin = _skin(face, rng) * shade[..., None] + gloss[..., None]
    hair_alpha, hair = _hair(face, shade, rng)
    rgb = skin * (1 - hair_alpha[..., None]) + hair * hair_alpha[..., None]
    rgb = _brows(face, rgb, shade, rng) * light.tint
    outline = step(half_width(face, Y) - np.abs(X), 0.03) * (np.abs(Y) < 1)
    ears = np.maximum(bump(X - face.width, Y - 0.05, 0.07, 0.16), bump(X + face.width, Y - 0.05, 0.07, 0.16))
    alpha = np.maximum.reduce([outline, hair_alpha, step(ears - 0.4, 0.3)])
    return Head(rgb.astype(np.float32), alpha.astype(np.float32), shade.astype(np.float32))


def _shade(face: Face, light: Light) -> tuple[np.ndarray, np.ndarray]:
    """Lambert shading and a small gloss from the normals of a height map."""
    dome = np.sqrt(np.clip(1 - (X / (face.width * 1.12)) ** 2 - (Y / 1.12) ** 2, 0.02, 1))
    height = 0.62 * dome
    height += 0.15 * face.nose_height / 0.2 * bump(X, Y - face.nose_y, face.nose_width * 0.85, 0.10)
    height += 0.09 * bump(X, Y - 0.05, 0.055, 0.22) + 0.045 * bump(X, Y + 0.20, 0.40, 0.09)
    for side in (-1, 1):
        x = X * side
        height -= 0.075 * bump(x - face.eye_x, Y - face.eye_y, 0.16, 0.10)
        height += 0.05 * bump(x - face.eye_x, Y - face.eye_y, 0.10, 0.06)
        height += face.cheek * bump(x - 0.38, Y - 0.22, 0.16, 0.15)
        height += 0.045 * bump(x - face.nose_width * 0.8, Y - face.nose_y - 0.03, 0.045, 0.045)
        height -= 0.022 * bump(x - 0.25 - 0.25 * (Y - 0.35), Y - 0.36, 0.035, 0.14)
    height += 0.04 * bump(X, Y - face.mouth_y, 0.28, 0.12) + 0.05 * bump(X, Y - 0.82, 0.16, 0.10)
    height -= 0.03 * bump(X, Y - face.mouth_y - 0.15, 0.16, 0.045)
    down, right = np.gradient(gaussian_filter(height, 1.2), 1 / UNIT)
    normal = np.stack([-right, -down, np.ones_like(right)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    facing = np.clip(normal @ light.direction, 0, 1)
    shade = light.ambient + (1.12 - light.ambient) * facing
    shade *= 1 - 0.16 * bump(X, Y - face.nose_y - 0.13, 0.13, 0.035)  # under the nose
    shade *= 1 - 0.25 * step(np.abs(X) / np.maximum(half_width(face, Y), 0.05) - 0.92, 0.25)
    halfway = light.direction + np.array([0, 0, 1.0])
    gloss = 26 * np.clip(normal @ (halfway / np.linalg.norm(halfway)), 0, 1) ** 26
    return shade, gloss


def _skin(face: Face, rng: np.random.Generator) -> np.ndarray:
    pores = gaussian_filter(rng.standard_normal((SIZE, SIZE)), 0.7) * 2.2
    tone = 1 + face.blotches * octaves((SIZE, SIZE), (6, 14, 30), rng) + face.pores * pores
    skin = face.skin * tone[..., None]
    red = sum(bump(X * side - 0.36, Y - 0.22, 0.2, 0.16) for side in (-1, 1)) + bump(
        X, Y - face.nose_y, 0.12, 0.1
    )
    skin *= 1 - red[..., None] * np.array([0.0, 0.06, 0.05])
    for side in (-1, 1):
        nostril = bump(X * side - face.nose_width * 0.48, Y - face.nose_y - 0.075, 0.038, 0.022)
        socket = bump(X * side - face.eye_x, Y - face.eye_y - 0.015, 0.19, 0.10)
        skin *= (1 - 0.62 * nostril - 0.16 * socket)[..., None]
    beard = step(Y - 0.36 + 0.35 * (1 - np.abs(X)) * (Y < 0.44), 0.2) * step(np.abs(Y - 0.6) - 0.02, 0.1)
    grain = 1 + 0.5 * gaussian_filter(rng.standard_normal((SIZE, SIZE)), 0.6)
    cover = np.clip(face.stubble * beard * grain, 0, 1)[..., None]
    return skin * (1 - cover) + face.hair * 0.8 * cover


def _hair(face: Face, shade: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cover (S, S) and colour (S, S, 3) of hair: a cap with a curved line, and sides down to hair_length."""
    volume = face.hair_volume
    cap_width = (face.width + 0.6 * volume) * np.sqrt(
        np.clip(1 - np.abs(np.minimum(Y, 0) / (1 + volume)) ** 2.3, 0, 1)
    )
    outside = step(cap_width - np.abs(X), 0.04) * step(Y + 1 + volume, 0.05)
    wave = 0.04 * octaves((SIZE, SIZE), (9, 18), rng)
    line = face.hairline + 0.55 * np.abs(X - 0.3 * face.parting) ** 2.2 / face.width + wave
    above = step(line - Y, 0.05)
    sides = step(np.abs(X) - face.width * 0.86 + 0.4 * wave, 0.05) * step(face.hair_length - Y + wave, 0.08)
    cover = np.clip(outside * np.maximum(above, sides), 0, 1)
    strands = octaves((SIZE, SIZE), (5, 10), rng)
    fine = gaussian_filter(rng.standard_normal((SIZE, SIZE)), (4.0, 0.7)) * 4
    colour = face.hair * (0.9 + 0.12 * strands + 0.16 * fine)[..., None] * shade[..., None]
    return cover, colour


def _brows(face: Face, rgb: np.ndarray, shade: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    grain = 0.78 + 0.2 * gaussian_filter(rng.standard_normal((SIZE, SIZE)), 0.8)
    for side in (-1, 1):
        x = (X * side - face.eye_x - 0.01) / (face.eye_width * 1.35)
        arch = face.eye_y - face.brow_gap - 0.035 * (1 - x**2) + face.brow_tilt * x
        thickness = face.brow_thickness * np.clip(1.1 - 0.35 * x, 0.4, 1.5)
        cover = step(thickness - np.abs(Y - arch), 0.03) * step(1 - np.abs(x), 0.25) * grain
        colour = np.minimum(face.hair, face.skin * 0.5) * 0.75
        rgb = rgb * (1 - cover[..., None]) + (colour * shade[..., None]) * cover[..., None]
    return rgb
