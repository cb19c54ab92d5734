"""Talking faces whose lips do not go with the sound, made of genuine ones.

Pure functions of mouths on the 25 Hz grid and the sound beside them. What plays a sound to another face, dubs it or
drives a mouth badly ends in one of these: sound too early or late, sound of another moment or speaker, sound at
another pace, a mouth that stands still or repeats itself.
"""

from __future__ import annotations

import numpy as np

from avdetect.errors import DataError

KINDS = ("shift", "moment", "speaker", "stretch", "frozen", "looped")

SHIFT = (5, 15)  # grid frames: 0.2 to 0.6 s
FAR = 16  # grid frames: another moment lies outside what an offset search of 0.6 s finds
STRETCH = (0.15, 0.5)  # change of pace
DRIFT = 10  # grid frames by which the ends of stretched sound have moved against each other, at least
LOOP = (3, 10)  # frames of a repeated mouth movement
NOISE = 1.5  # standard deviation of the camera noise of a frozen mouth, grey levels


def out_of_sync(
    mouths: np.ndarray,
    waveform: np.ndarray,
    samples_per_frame: int,
    rng: np.random.Generator,
    kind: str | None = None,
    foreign: np.ndarray | None = None,
    elsewhere: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, str]:
    """Genuine mouths uint8 (T, m, m[, 3]) and their sound float (T * samples_per_frame,) -> both, out of sync.

    kind: one of `KINDS`, None draws one of those that can be made. "shift" moves the sound by 0.2 to 0.6 s, round
    the clip; "moment" takes sound of the same speaker from another time (`elsewhere`, or further round the clip
    than an offset search goes); "speaker" takes that of another one (`foreign`); "stretch" changes its pace;
    "frozen" and "looped" change the mouths. Returns the arrays (of the same shapes) and the kind. Raises DataError
    for a kind that is unknown or cannot be made of what is given.
    """
    if len(waveform) != len(mouths) * samples_per_frame:
        raise DataError(
            f"{len(mouths)} mouths go with {len(mouths) * samples_per_frame} samples of sound, not {len(waveform)}: "
            "cut the sound to the mouths"
        )
    possible = kinds_for(len(mouths), foreign is not None, elsewhere is not None)
    if kind is None and possible:
        kind = str(rng.choice(possible))
    if kind not in possible:
        known = ", ".join(possible) or "none"
        raise DataError(
            f"lips cannot be put out of sync by {kind!r} with {len(mouths)} mouths: possible is {known}"
        )
    sound = waveform.astype(np.float32, copy=True)
    if kind == "shift":
        steps = int(rng.integers(SHIFT[0], min(SHIFT[1], len(mouths) // 2) + 1)) * int(rng.choice([-1, 1]))
        sound = _round(sound, steps * samples_per_frame)
    elif kind == "moment" and elsewhere is None:
        sound = _round(sound, int(rng.integers(FAR, len(mouths) - FAR + 1)) * samples_per_frame)
    elif kind in ("moment", "speaker"):
        sound = _excerpt(elsewhere if kind == "moment" else foreign, len(sound), rng)
    elif kind == "stretch":
        sound = _stretch(sound, len(mouths), rng)
    elif kind == "frozen":
        mouths = _frozen(mouths, rng)
    else:
        mouths = _looped(mouths, rng)
    return mouths, sound, kind


def kinds_for(frames: int, foreign: bool, elsewhere: bool = False) -> list[str]:
    """Kinds that can be made of so many mouths, with or without sound of another speaker and of another moment."""
    least = {
        "shift": frames >= 2 * SHIFT[0],
        "moment": elsewhere or frames >= 2 * FAR,
        "speaker": foreign,
        "stretch": frames * STRETCH[1] >= DRIFT,
        "frozen": frames >= 2,
        "looped": frames >= 2 * LOOP[1],
    }
    return [kind for kind in KINDS if least[kind]]


def _fade(sound: np.ndarray, at: int) -> None:
    """Bring the sound to 0 at index `at`, over 80 samples on either side (5 ms at 16 kHz)."""
    ramp = np.abs(np.arange(-80, 80) + 0.5, dtype=np.float32) / 80
    low, high = max(at - 80, 0), min(at + 80, len(sound))
    sound[low:high] *= ramp[low - at + 80 : high - at + 80]


def _round(sound: np.ndarray, samples: int) -> np.ndarray:
    """The sound later by `samples`, its end put before its start."""
    out = np.roll(sound, samples)
    _fade(out, samples % len(out))
    return out


def _excerpt(sound: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """`length` samples from a random place; a shorter sound is repeated."""
    if not len(sound):
        raise DataError("the other sound is empty: give some speech")
    if len(sound) < length:
        sound = np.tile(sound, -(-length // len(sound)))
    start = int(rng.integers(len(sound) - length + 1))
    return sound[start : start + length].astype(np.float32, copy=True)


def _stretch(sound: np.ndarray, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Faster or slower about a random place (and so higher or lower), round the clip where it runs out."""
    low = min(max(STRETCH[0], DRIFT / frames), STRETCH[1])
    change = rng.uniform(low, STRETCH[1])
    pace = 1 + change if rng.random() < 0.5 else 1 / (1 + change)
    place = rng.uniform(0.3, 0.7) * len(sound)
    at = place + (np.arange(len(sound)) - place) * pace
    return np.interp(at, np.arange(len(sound)), sound, period=len(sound)).astype(np.float32)


def _frozen(mouths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One mouth for the whole clip, or from somewhere in its first third on; still, or with a camera's noise."""
    begin = int(rng.integers(0, len(mouths) // 3 + 1)) if rng.random() < 0.5 else 0
    out = mouths.copy()
    out[begin:] = mouths[begin if begin else int(rng.integers(len(mouths)))]
    return _noisy(out, begin, rng)


def _looped(mouths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A few frames over and over, forwards or to and fro."""
    length = int(rng.integers(LOOP[0], LOOP[1] + 1))
    first = int(rng.integers(len(mouths) - length + 1))
    turn = np.arange(length)
    if rng.random() < 0.5:
        turn = np.concatenate([turn, turn[-2:0:-1]])
    return mouths[first + np.resize(turn, len(mouths))]


def _noisy(mouths: np.ndarray, begin: int, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        return mouths
    noise = rng.normal(0.0, NOISE, mouths[begin:].shape)
    mouths[begin:] = np.clip(np.rint(mouths[begin:] + noise), 0, 255).astype(np.uint8)
    return mouths
