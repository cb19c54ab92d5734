"""Named degradations of a clip at stated strengths, for robustness tests: what happens to files on their way.

They are applied to what the encoders get (`media.Clip`): the face crops of a track, in their order, and its mouth
crops, each coded or changed as a little video of its own; the waveform at the clip's rate. Faces are thus searched
once, in the clean file, for all strengths, and a degradation never costs a clip its face: what is measured is the
encoders' robustness, not the face detector's. Differences from a whole file that was degraded before reading:
H.264 sees crops scaled to `crop_size`, taken every so often, instead of a whole scene at its own resolution, so
that a rate factor is harder on faces that were larger in the file and milder on smaller ones; the sound codecs
see 16 kHz mono, which is all that is judged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from avdetect.errors import ConfigError
from avdetect.media import Clip, ClipSettings, FaceTrack
from avdetect.transforms import degrade_pictures as pictures
from avdetect.transforms import degrade_sound as sound
from avdetect.transforms.speech_codecs import code

FACE, SOUND = "face", "sound"
REFERENCE_SIDE = 224  # pixels of a face crop that strengths in pixels are stated for
MOUTH_REACH = 1.4  # side of SyncNet's face square / longer side of the face box (media.crops.region_box)


@dataclass(frozen=True)
class Degradation:
    """What is done, and how strongly.

    unit: of the strengths, as an axis is labelled; strengths: those of the standard test, in the order of a curve
    (mild to strong, or from one side of `clean` to the other); clean: the strength at which nothing would change,
    where there is one on the scale.
    """

    name: str
    title: str
    part: str  # FACE or SOUND: what it changes
    unit: str
    strengths: tuple[float, ...]
    limits: tuple[float, float]
    clean: float | None = None


DEGRADATIONS = {
    entry.name: entry
    for entry in (
        Degradation("h264", "H.264", FACE, "constant rate factor", (23, 30, 35, 40, 45), (0, 51)),
        Degradation("jpeg", "JPEG", FACE, "quality", (90, 70, 50, 30, 10), (1, 100)),
        Degradation("resize", "Low resolution", FACE, "face crop, pixels a side", (128, 96, 64, 48, 32), (8, 4096)),
        Degradation("blur", "Blur", FACE, "σ, pixels of a crop of 224", (0.5, 1, 2, 3, 4), (0.01, 100)),
        Degradation("image_noise", "Noise in the picture", FACE, "σ on the 0–255 scale", (5, 10, 20, 40), (0, 255)),
        Degradation("gamma", "Gamma", FACE, "exponent", (0.4, 0.6, 0.8, 1.25, 1.7, 2.5), (0.05, 20), clean=1),
        Degradation("mp3", "MP3", SOUND, "kbit/s", (64, 32, 24, 16, 8), (8, 160)),
        Degradation("aac", "AAC", SOUND, "kbit/s", (64, 32, 24, 16), (8, 160)),
# FFmpeg's decoder gives silence below 9 kbit/s, where the coder turns to its narrow band
        Degradation("opus", "Opus", SOUND, "kbit/s", (32, 24, 16, 12, 9), (9, 160)),
        Degradation("mulaw", "Telephone, µ-law", SOUND, "kHz", (8,), (8, 8)),
        Degradation("reverb", "Reverberation", SOUND, "RT60, s", (0.2, 0.4, 0.7, 1.0, 1.5), (0.05, 20)),
        Degradation("sound_noise", "Noise in the sound", SOUND, "SNR, dB (pink)", (30, 20, 10, 5, 0), (-40, 100)),
        Degradation(
            "offset", "Sound out of step", SOUND, "ms, positive = sound late",
            (-400, -200, -120, -80, -40, 40, 80, 120, 200, 400), (-10_000, 10_000), clean=0,
        ),
    )
}  # fmt: skip


def degrade(clip: Clip, name: str, strength: float, key: str, seed: int = 0) -> Clip:
    """A copy of the clip after degradation `name`; what it does not change is shared with the original.

    Random parts follow from (seed, `key` of the clip, degradation) alone: the same noise at every strength, so
    that strengths differ by nothing else. A clip without faces, or without sound, comes back with what it has. Raises
    ConfigError for an unknown name or a strength out of range.
    """
    entry = degradation(name, strength)
    rng = np.random.default_rng([seed, *_numbers(f"{name}|{key}")])
    if entry.part == FACE:
        return replace(
            clip, tracks=[_degrade_track(track, clip.settings, name, strength, rng) for track in clip.tracks]
        )
    if clip.audio is None or not clip.audio.size:
        return replace(clip)
    change = _sound_change(name, strength, clip.settings.sample_rate, rng)
    return replace(clip, audio=change(np.asarray(clip.audio)))


def degradation(name: str, strength: float | None = None) -> Degradation:
    """The entry of that name; raises ConfigError where there is none, or where it can't be that strong."""
    if name not in DEGRADATIONS:
        raise ConfigError(f"unknown degradation {name!r}: choose of {', '.join(DEGRADATIONS)}")
    entry = DEGRADATIONS[name]
    low, high = entry.limits
    if strength is not None and not low <= strength <= high:
        raise ConfigError(
            f"{name} at {strength:g}: the strength ({entry.unit}) must lie in [{low:g}, {high:g}]"
        )
    return entry


def _numbers(text: str) -> list[int]:
    return list(np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint32))


def _sound_change(
    name: str, strength: float, rate: int, rng: np.random.Generator
) -> Callable[[np.ndarray], np.ndarray]:
    if name in ("mp3", "aac", "opus"):
        return partial(code, codec=name, kbps=round(strength), sample_rate=rate)
    if name == "mulaw":
        return partial(code, codec="mulaw", kbps=64, sample_rate=rate)
    if name == "reverb":
        return partial(sound.reverberate, rt60_s=strength, sample_rate=rate, rng=rng)
    if name == "sound_noise":
        return partial(sound.noise, snr_db=strength, rng=rng)
    return partial(sound.offset, shift_ms=strength, sample_rate=rate)


def _degrade_track(
    track: FaceTrack, settings: ClipSettings, name: str, strength: float, rng: np.random.Generator
) -> FaceTrack:
    crops = _change(track.crops, name, strength, settings.crop_size / REFERENCE_SIDE, 1.0, rng)
    mouths = np.asarray(track.mouths)
    if len(mouths):
        colour = mouths.ndim == 4
        stack = mouths if colour else np.repeat(mouths[..., None], 3, axis=3)
        density = mouth_density(settings)
        scale = density * settings.crop_size / REFERENCE_SIDE
        stack = _change(stack, name, strength, scale, density * settings.crop_size / settings.mouth_size, rng)
        # Of grey pictures all channels are alike, but for the noise: one of them has it at its full strength.
        mouths = stack if colour else stack[..., 1]
    return replace(track, crops=crops, mouths=mouths)


def mouth_density(settings: ClipSettings) -> float:
    """Stored pixels per pixel of the file in a mouth crop, divided by those in a face crop of the same face.

    For a face box of equal sides; blur and low resolution are then the same for both.
    """
    face_reach = 1 + 2 * settings.crop_margin if settings.crop_policy == "scale" else 1.0
    mouth_reach = settings.mouth_scale if settings.mouth_region == "mouth" else MOUTH_REACH
    return (settings.mouth_size / mouth_reach) / (settings.crop_size / face_reach)


def _change(
    stack: np.ndarray, name: str, strength: float, scale: float, reach: float, rng: np.random.Generator
) -> np.ndarray:
    """scale: pixels here per pixel of a face crop of 224; reach: a face crop's side in file pixels over this one's."""
    if name == "h264":
        return pictures.h264(stack, round(strength))
    if name == "jpeg":
        return pictures.jpeg(stack, round(strength))
    if name == "resize":
        return pictures.resize(stack, max(1, round(strength / reach)))
    if name == "blur":
        return pictures.blur(stack, strength * scale)
    if name == "image_noise":
        return pictures.noise(stack, strength, rng)
    return pictures.gamma(stack, strength)
