"""Fakes made of genuine face crops: what face swaps, re-enactments and lip-sync fakes leave behind.

Every function is a pure function of arrays and a random generator. A manipulation is drawn once and done alike to all
crops of a track, but for "flicker". Nothing is compressed here: both sides of a pair go through the same channel
afterwards (`avdetect.data.face_pairs`).

Self-blending: Shiohara and Yamasaki, "Detecting Deepfakes with Self-Blended Images", CVPR 2022; blends of two
persons: Li et al., "Face X-ray for More General Face Forgery Detection", CVPR 2020; checkerboards of learnt
up-sampling: Odena et al., "Deconvolution and Checkerboard Artifacts", Distill 2016.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import cv2
import numpy as np

from avdetect.data.pseudo.face_masks import outline_mask, soften
from avdetect.errors import ConfigError

KINDS = ("self_blend", "identity", "autoencoder", "resampled", "checkerboard", "smooth", "flicker", "mouth")
_OFTEN = {"self_blend": 4.0, "identity": 3.0, "autoencoder": 6.0, "mouth": 2.0, "flicker": 0.7}
NEEDS = {"identity": "partner", "autoencoder": "generators"}

Stack = np.ndarray  # uint8 (k, s, s, 3)


class Generators(Protocol):
    """Networks that draw faces anew (`face_autoencoder.load_generators`)."""

    def regenerate(self, crops: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 (k, s, s, 3) RGB -> the same faces as a decoder draws them, of the same shape."""


def fake_face(
    crops: np.ndarray,
    rng: np.random.Generator,
    kind: str | None = None,
    generators: Generators | None = None,
    partner: np.ndarray | None = None,
) -> tuple[np.ndarray, str, np.ndarray]:
    """One manipulation of the crops of a track: (crops, its kind, where it is).

    crops: uint8 (k, s, s, 3) RGB -> uint8 of the same shape, and the mask float32 (k, s, s) in [0, 1]. kind: one of
    `KINDS`, drawn where None. partner: uint8 (s, s, 3), the face of somebody else in a similar pose, for "identity".
    generators: for "autoencoder". Without these two the kinds that need them are not drawn; raises ConfigError where
    one of them is asked for by name, and for an unknown kind.
    """
    if crops.ndim != 4 or crops.shape[-1] != 3 or crops.dtype != np.uint8 or not len(crops):
        raise ValueError(f"face crops must be uint8 (k, s, s, 3), k >= 1, not {crops.dtype} {crops.shape}")
    given = {"partner": partner, "generators": generators}
    if kind is None:
        kind = draw_kind(rng, *(name for name, what in given.items() if what is not None))
    elif kind not in KINDS:
        raise ConfigError(f"there is no pseudo-fake of faces {kind!r}: use one of {', '.join(KINDS)}")
    elif kind in NEEDS and given[NEEDS[kind]] is None:
        raise ConfigError(f"pseudo-fakes by {kind} need {NEEDS[kind]}: give them, or choose another kind")
    make: Callable[..., tuple[Stack, np.ndarray]] = {
        "self_blend": _self_blend,
        "resampled": _resampled,
        "checkerboard": _checkerboard,
        "smooth": _smooth,
        "flicker": _flicker,
        "mouth": _mouth,
        "identity": lambda stack, draw: _identity(stack, draw, partner),
        "autoencoder": lambda stack, draw: _autoencoder(stack, draw, generators),
    }[kind]
    fake, mask = make(crops, rng)
    return fake, kind, mask


def draw_kind(rng: np.random.Generator, *given: str) -> str:
    """One of `KINDS` that needs nothing but what is given ("partner", "generators"); some are drawn more often."""
    able = [name for name in KINDS if NEEDS.get(name) in (None, *given)]
    odds = np.array([_OFTEN.get(name, 1.0) for name in able])
    return able[int(rng.choice(len(able), p=odds / odds.sum()))]


def fake_mouths(mouths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mouth crops whose middle is drawn anew, as lip-sync fakes do it: uint8 (T, m, m) -> the same shape.

    The movement stays; sharpness, brightness and fine shape of the middle become those of a low-resolution decoder,
    alike in all frames but for a slight flicker.
    """
    if mouths.ndim != 3 or mouths.dtype != np.uint8 or not len(mouths):
        raise ValueError(f"mouths must be uint8 (T, m, m), T >= 1, not {mouths.dtype} {mouths.shape}")
    side = mouths.shape[1]
    mask = _ellipse(side, rng)
    small, warp = max(8, round(side * rng.uniform(0.25, 0.6))), _warper(side, rng, 0.02)
    gain, shift = rng.uniform(0.85, 1.15), rng.uniform(-10.0, 10.0)
    out = np.empty_like(mouths)
    for index, mouth in enumerate(mouths):
        redrawn = warp(_down_up(mouth, small, cv2.INTER_CUBIC))
        wobble = gain * rng.uniform(0.98, 1.02)
        source = cv2.convertScaleAbs(redrawn, alpha=wobble, beta=shift + 127.5 * (1.0 - wobble))
        out[index] = np.rint(mouth + (source.astype(np.float32) - mouth) * mask)
    return out


# -- kinds --------------------------------------------------------------------------------------------------


def _self_blend(crops: Stack, rng: np.random.Generator) -> tuple[Stack, np.ndarray]:
    side = crops.shape[1]
    warp, recolour = _warper(side, rng, 0.015), _recolourer(rng)
    change = _texture_change(side, rng)
    sources = [change(recolour(warp(crop))) for crop in crops]
    return _blend(crops, sources, _region_mask(side, rng), rng)


def _identity(crops: Stack, rng: np.random.Generator, partner: np.ndarray) -> tuple[Stack, np.ndarray]:
    side = crops.shape[1]
    if partner.shape != crops.shape[1:] or partner.dtype != np.uint8:
        raise ValueError(f"the partner must be uint8 {crops.shape[1:]}, not {partner.dtype} {partner.shape}")
    mask = _region_mask(side, rng)
    inside = (mask > 0.5).astype(np.uint8)
    warp, change = _warper(side, rng, 0.01), _texture_change(side, rng)
    strength = rng.uniform(0.7, 1.0)
    source = change(warp(partner))
    return _blend(crops, [_match_colour(source, crop, inside, strength) for crop in crops], mask, rng)


def _autoencoder(crops: Stack, rng: np.random.Generator, generators: Generators) -> tuple[Stack, np.ndarray]:
    side = crops.shape[1]
    mask = _region_mask(side, rng)
    inside = (mask > 0.5).astype(np.uint8)
    redrawn, strength = generators.regenerate(crops, rng), rng.uniform(0.0, 1.0)
    warp = _warper(side, rng, 0.008) if rng.random() < 0.5 else np.asarray
    recolour = _recolourer(rng, 0.4) if rng.random() < 0.4 else np.asarray
    sharpen = _sharpener(rng) if rng.random() < 0.4 else np.asarray
    sources = [
        recolour(sharpen(_match_colour(warp(new), crop, inside, strength)))
        for new, crop in zip(redrawn, crops, strict=True)
    ]
    return _blend(crops, sources, mask, rng)


def _resampled(crops: Stack, rng: np.random.Generator) -> tuple[Stack, np.ndarray]:
    """Through a chain of scalings, as generators of a fixed resolution are pasted back."""
    side = crops.shape[1]
    steps = [_down_upper(side, rng) for _ in range(int(rng.integers(1, 3)))]
    sharpen = _sharpener(rng) if rng.random() < 0.6 else np.asarray
    sources = []
    for crop in crops:
        for step in steps:
            crop = step(crop)
        sources.append(sharpen(crop))
    return _blend(crops, sources, _region_mask(side, rng), rng)


def _checkerboard(crops: Stack, rng: np.random.Generator) -> tuple[Stack, np.ndarray]:
    """Half the resolution, then an up-sampling whose kernel weighs odd and even pixels unequally."""
    side = crops.shape[1]
    period = int(rng.choice([2, 4]))
    small = max(8, round(side / rng.uniform(1.2, 2.5)))
    gains = 1.0 + rng.normal(0.0, rng.uniform(0.01, 0.035), (period, period, 3)).astype(np.float32)
    grid = np.tile(gains, (-(-small // period), -(-small // period), 1))[:small, :small]
    sources = []
    for crop in crops:
        little = cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA) * grid
        little = np.clip(little, 0, 255).astype(np.uint8)
        sources.append(cv2.resize(little, (side, side), interpolation=cv2.INTER_CUBIC))
    return _blend(crops, sources, _region_mask(side, rng), rng)


def _smooth(crops: Stack, rng: np.random.Generator) -> tuple[Stack, np.ndarray]:
    """Edges kept, texture taken: what decoders trained with a mean error draw."""
    side = crops.shape[1]
    small = round(side * rng.uniform(0.4, 0.7))
    tone, reach = rng.uniform(15.0, 45.0), rng.uniform(2.0, 5.0)
    sharpen = _sharpener(rng) if rng.random() < 0.4 else np.asarray
    sources = []
    for crop in crops:
        little = cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA)
        little = cv2.bilateralFilter(little, 5, tone, reach)
        sources.append(sharpen(cv2.resize(little, (side, side), interpolation=cv2.INTER_CUBIC)))
    return _blend(crops, sources, _region_mask(side, rng), rng)


def _flicker(crops: Stack, rng: np.random.Generator) -> tuple[Stack, np.ndarray]:
    """Self-blending drawn anew for each crop about the same outline: it jumps from frame to frame."""
    made = [_self_blend(crop[None], rng) for crop in crops]
    return np.concatenate([fake for fake, _ in made]), np.concatenate([mask for _, mask in made])


def _mouth(crops: Stack, rng: np.random.Generator) -> tuple[Stack, np.ndarray]:
    """The mouth alone, of another moment of the track where there is one, at a decoder's resolution."""
    side, count = crops.shape[1], len(crops)
    mask = outline_mask(side, rng, "mouth" if rng.random() < 0.5 else "lower")
    inside = (mask > 0.5).astype(np.uint8)
    other = np.roll(np.arange(count), int(rng.integers(1, count))) if count > 1 else np.zeros(1, int)
    warp, small = _warper(side, rng, 0.02), round(side * rng.uniform(0.25, 0.6))
    sharpen = _sharpener(rng) if rng.random() < 0.4 else np.asarray
    recolour, strength = _recolourer(rng, 0.5), rng.uniform(0.5, 1.0)
    sources = []
    for crop, place in zip(crops, other, strict=True):
        source = recolour(sharpen(_down_up(warp(crops[place]), small, cv2.INTER_CUBIC)))
        sources.append(_match_colour(source, crop, inside, strength))
    return _blend(crops, sources, mask, rng)


# -- what they are made of ----------------------------------------------------------------------------------


def _region_mask(side: int, rng: np.random.Generator) -> np.ndarray:
    names = ("face", "inner", "eyes", "mouth", "lower")
    mask = outline_mask(side, rng, names[int(rng.choice(5, p=(0.45, 0.3, 0.08, 0.07, 0.1)))])
    if rng.random() < 0.2:
        mask = np.maximum(mask, outline_mask(side, rng, "eyes"))
    return mask


def _blend(
    crops: Stack, sources: list[np.ndarray], mask: np.ndarray, rng: np.random.Generator
) -> tuple[Stack, np.ndarray]:
    """Sources in the mask, crops around it; now and then the source only shines through."""
    share = 1.0 if rng.random() < 0.7 else rng.uniform(0.5, 1.0)
    weight = (mask * share)[..., None].astype(np.float32)
    out = np.empty_like(crops)
    for index, (crop, source) in enumerate(zip(crops, sources, strict=True)):
        out[index] = crop + np.rint((source.astype(np.float32) - crop) * weight)
    return out, np.repeat(mask[None], len(crops), axis=0)


def _warper(side: int, rng: np.random.Generator, strength: float) -> Callable[[np.ndarray], np.ndarray]:
    """A small shift, scaling and turn, with a smooth distortion of about `strength` times the side."""
    angle, zoom = np.deg2rad(rng.uniform(-2.5, 2.5)), 1.0 + rng.uniform(-0.04, 0.04, 2)
    shift = rng.uniform(-0.02, 0.02, 2)
    coarse = rng.normal(0.0, strength, (2, 5, 5)).astype(np.float32)
    place = np.arange(side, dtype=np.float32) / side - 0.5
    x, y = np.meshgrid(place, place)
    bend = [cv2.resize(part, (side, side), interpolation=cv2.INTER_CUBIC) for part in coarse]
    cos, sin = np.cos(angle), np.sin(angle)
    map_x = ((cos * x - sin * y) * zoom[0] + 0.5 + shift[0] + bend[0]) * side
    map_y = ((sin * x + cos * y) * zoom[1] + 0.5 + shift[1] + bend[1]) * side
    map_x, map_y = cv2.convertMaps(map_x.astype(np.float32), map_y.astype(np.float32), cv2.CV_16SC2)
    return lambda crop: cv2.remap(crop, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _recolourer(rng: np.random.Generator, strength: float = 1.0) -> Callable[[np.ndarray], np.ndarray]:
    """Another white balance, saturation, contrast and brightness."""
    grey = np.tile(np.array([0.299, 0.587, 0.114]), (3, 1))
    saturation = 1.0 + strength * rng.uniform(-0.35, 0.35)
    gain = 1.0 + strength * rng.uniform(-0.1, 0.1, 3)
    contrast = 1.0 + strength * rng.uniform(-0.15, 0.15)
    brightness = strength * rng.uniform(-18.0, 18.0) + 127.5 * (1.0 - contrast)
    matrix = contrast * gain[:, None] * (saturation * np.eye(3) + (1.0 - saturation) * grey)
    full = np.concatenate([matrix, np.full((3, 1), brightness)], axis=1)
    return lambda crop: cv2.transform(crop, full)


def _texture_change(side: int, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """Scaled down and up, blurred, sharpened, or left as it is."""
    drawn = rng.random()
    if drawn < 0.45:
        return _down_upper(side, rng)
    if drawn < 0.65:
        sigma = rng.uniform(0.5, 2.0) * side / 224
        return lambda crop: cv2.GaussianBlur(crop, (0, 0), sigma)
    return _sharpener(rng) if drawn < 0.85 else np.asarray


def _down_upper(side: int, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    small = round(side * rng.uniform(0.25, 0.7))
    up = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)[int(rng.integers(3))]
    return lambda crop: _down_up(crop, small, up)


def _down_up(crop: np.ndarray, small: int, up: int) -> np.ndarray:
    side = crop.shape[0]
    return cv2.resize(
        cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA), (side, side), interpolation=up
    )


def _sharpener(rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    amount, sigma = rng.uniform(0.3, 1.5), rng.uniform(0.8, 2.5)
    return lambda crop: cv2.addWeighted(
        crop, 1.0 + amount, cv2.GaussianBlur(crop, (0, 0), sigma), -amount, 0.0
    )


def _match_colour(source: np.ndarray, target: np.ndarray, inside: np.ndarray, strength: float) -> np.ndarray:
    """The source with the target's mean and deviation of each channel within `inside`, by that part of the way."""
    mean, deviation = (part[:, 0] for part in cv2.meanStdDev(source, mask=inside))
    wanted_mean, wanted = (part[:, 0] for part in cv2.meanStdDev(target, mask=inside))
    gain = 1.0 + strength * (np.clip(wanted / np.maximum(deviation, 1.0), 0.4, 2.5) - 1.0)
    shift = mean + strength * (wanted_mean - mean) - gain * mean
    return cv2.transform(source, np.concatenate([np.diag(gain), shift[:, None]], axis=1))


def _ellipse(side: int, rng: np.random.Generator) -> np.ndarray:
    """float32 (side, side): most of a mouth crop, where the mouth is in the middle."""
    mask = np.zeros((side, side), np.uint8)
    centre = np.rint(side * (0.5 + rng.uniform(-0.06, 0.06, 2))).astype(int)
    axes = np.rint(side * rng.uniform(0.25, 0.42, 2)).astype(int)
    cv2.ellipse(mask, centre.tolist(), axes.tolist(), float(rng.uniform(-15, 15)), 0, 360, 255, -1)
    return soften(mask, side * rng.uniform(0.02, 0.08))
