"""Cheap numbers that tell what a face crop or a stretch of sound is like, whoever judges it.

They are no evidence of a fake. `inference.novelty` compares them with those of the clips that a detector learnt from,
to notice what is no photographed face or no speech. Faces take 2 ms a crop, sound 1 ms a second, on one core.
"""

from __future__ import annotations

from functools import cache

import numpy as np

FACE_CROPS = 4  # of a track, spread evenly
_SIDE = 112  # pixels: finer detail is the camera's and the coder's
_FLAT = 1.5  # grey levels: smaller steps between neighbours are none
_RISES = (2.0, 3.0)  # grey levels above the middle, of a texture pattern at full and half of that side
_AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
_LAYOUT = 4  # fields a side

SOUND_WINDOW_S = 2.0
SOUND_TRAITS = 46
_RATE_HZ = 50  # analysis frames a second
_BANDS = 24  # of the mel scale
_CEPSTRA = 10
_PITCH_HZ = (60.0, 420.0)  # of voices; songs, whistles and birds go beyond
_VOICED = 0.55  # of the normalised autocorrelation
_STEADY, _GLIDING = (
    0.012,
    0.15,
)  # octaves from frame to frame: below the first a held tone, below the second a voice
_MODULATION_HZ = (0.5, 2.0, 4.0, 8.0, 16.0, 25.0)  # speech has most at 2 to 8: its syllables
_FLOOR = 1e-10


# -- faces ----------------------------------------------------------------------------------------------------


def face_traits(crops: np.ndarray) -> np.ndarray:
    """(K, S, S, 3) uint8 RGB -> (56,) float32, mean over up to `FACE_CROPS` crops.

    Tone and colour (8), energy by octave (12), patterns of texture (20) and the lightness of 16 fields.
    """
    if len(crops) > FACE_CROPS:
        crops = crops[np.round(np.linspace(0, len(crops) - 1, FACE_CROPS)).astype(int)]
    return np.mean([_crop_traits(crop) for crop in crops], axis=0, dtype=np.float64).astype(np.float32)


def _crop_traits(crop: np.ndarray) -> np.ndarray:
    factor = max(1, len(crop) // _SIDE)
    red, green, blue = (_reduced(crop[..., c].astype(np.float32), factor) for c in range(3))
    light = 0.299 * red + 0.587 * green + 0.114 * blue
    blueness, redness = 0.564 * (blue - light), 0.713 * (red - light)
    patterns = [
        _patterns(plane, rise) for plane, rise in zip((light, _reduced(light, 2)), _RISES, strict=True)
    ]
    fields = _reduced(light, len(light) // _LAYOUT)[:_LAYOUT, :_LAYOUT]
    fields = (fields - light.mean()) / (light.std() + 4)
    return np.concatenate([_tone(light, blueness, redness), _octaves(light, blueness, redness), *patterns,
                           fields.ravel()])  # fmt: skip


def _reduced(plane: np.ndarray, factor: int) -> np.ndarray:
    """Means of squares of that side."""
    if factor == 1:
        return plane
    height, width = (size // factor for size in plane.shape)
    return plane[: height * factor, : width * factor].reshape(height, factor, width, factor).mean((1, 3))


def _tone(light: np.ndarray, blueness: np.ndarray, redness: np.ndarray) -> list[float]:
    """Lightness and colour of the middle and of the whole, and how many greys there are."""
    side = len(light)
    middle = np.s_[side // 4 : side - side // 4, side // 4 : side - side // 4]
    greys = np.unique((light / 4).astype(np.uint8)).size
    return [
        light.mean() / 64, light.std() / 32, blueness[middle].mean() / 16, redness[middle].mean() / 16,
        blueness[middle].std() / 8, redness[middle].std() / 8, np.hypot(blueness, redness).mean() / 16, greys / 16,
    ]  # fmt: skip


def _octaves(light: np.ndarray, blueness: np.ndarray, redness: np.ndarray) -> list[float]:
    """Energy by octave, how peaked that of lightness is; share of flat neighbours, vertical over horizontal steps."""
    values = []
    for plane, octaves in ((light, 3), (blueness, 2), (redness, 2)):
        for _ in range(octaves):
            half = _reduced(plane, 2)
            detail = plane[: 2 * len(half), : 2 * half.shape[1]] - half.repeat(2, 0).repeat(2, 1)
            energy = detail**2
            values.append(0.5 * np.log(energy.mean() + 0.01))
            if octaves == 3:
                values.append(np.log((energy**2).mean() / (energy.mean() ** 2 + 1e-6) + 0.5))
            plane = half
    across, down = np.diff(light, axis=1), np.diff(light, axis=0)
    steps = np.log(((down**2).mean() + 0.01) / ((across**2).mean() + 0.01))
    return [*values, 4 * np.mean(np.abs(across) < _FLAT), steps]


def _patterns(light: np.ndarray, rise: float) -> np.ndarray:
    """Log shares (10,) of the rotation-invariant uniform patterns of eight neighbours, and of all others.

    Ojala, Pietikäinen and Mäenpää, "Multiresolution gray-scale and rotation invariant texture classification with
    local binary patterns", 2002; a neighbour counts that is `rise` grey levels lighter.
    """
    height, width = (size - 2 for size in light.shape)
    middle = light[1:-1, 1:-1] + rise
    above = np.stack([light[1 + y : 1 + y + height, 1 + x : 1 + x + width] >= middle for y, x in _AROUND])
    count = above.sum(axis=0, dtype=np.uint8)
    count[(above ^ np.roll(above, 1, axis=0)).sum(axis=0, dtype=np.uint8) > 2] = 9
    return np.log(np.bincount(count.ravel(), minlength=10) / count.size + 0.002)


# -- sound ----------------------------------------------------------------------------------------------------


def sound_traits(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """(T,) float -> (W, 46) float32, one row per `SOUND_WINDOW_S` of sound; a shorter rest joins the row before.

    Tone colour and its changes, modulation of the loudness, pitch and how it moves, level and band-width. NaN where
    there is digital silence, or less than 0.2 s in all.
    """
    size = round(SOUND_WINDOW_S * sample_rate)
    count = max(1, len(waveform) // size)
    ends = [size * (k + 1) for k in range(count - 1)] + [len(waveform)]
    rows = []
    for start, end in zip([0, *ends], ends, strict=False):
        part = np.asarray(waveform[start:end], np.float32)
        heard = part.size >= sample_rate // 5 and float(np.abs(part).max()) > 0
        rows.append(_window_traits(part, sample_rate) if heard else np.full(SOUND_TRAITS, np.nan))
    return np.array(rows, np.float32)


def _window_traits(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    hop, size = sample_rate // _RATE_HZ, sample_rate // 25
    frames = np.lib.stride_tricks.sliding_window_view(waveform, size)[::hop]
    power = np.abs(np.fft.rfft(frames * _window(size), 2 * size)) ** 2  # (N, size + 1)
    bands = power @ _bank(sample_rate, 2 * size).T + _FLOOR
    level = np.log(bands.sum(axis=1))
    heard = level > level.max() - 7.0  # 30 dB
    shape = np.log(np.maximum(bands, bands[heard].mean() * 1e-5))
    cepstra = shape @ _cosines()
    changes = np.abs(np.diff(shape, axis=0))
    flat = np.exp(np.mean(np.log(power[:, 4:-4] + _FLOOR), axis=1)) / (power[:, 4:-4].mean(axis=1) + _FLOOR)
    centroid = (bands * np.arange(_BANDS)).sum(1) / bands.sum(1)
    share = np.cumsum(power[heard].sum(0)) / max(float(power[heard].sum()), _FLOOR)
    rms = 0.5 * np.log(np.mean(waveform.astype(np.float64) ** 2) + _FLOOR)
    return np.concatenate([
        cepstra[heard].mean(0) / 4, cepstra[heard].std(0) / 2,
        [changes.mean(), changes.std(), heard.mean() * 4, (level < level.mean()).mean() * 4, level.std()],
        [np.log(flat[heard].mean() + 1e-4), np.log(flat[heard].std() + 1e-4), centroid[heard].std() / 2],
        [np.log(np.searchsorted(share, part) + 1.0) for part in (0.5, 0.9, 0.99)],
        _modulation(level), _pitch(power, heard, sample_rate, 2 * size),
        [rms / 2, np.log(np.abs(waveform).max() + 1e-6) - rms],
    ])  # fmt: skip


def _modulation(level: np.ndarray) -> np.ndarray:
    """How much of the variation of the level (log energy) lies in each range of modulation frequencies, log."""
    spectrum = np.abs(np.fft.rfft((level - level.mean()) * np.hanning(len(level)), 256)) ** 2
    frequency = np.fft.rfftfreq(256, 1 / _RATE_HZ)
    edges = zip(_MODULATION_HZ, _MODULATION_HZ[1:], strict=False)
    parts = np.array([spectrum[(frequency >= low) & (frequency < high)].sum() for low, high in edges])
    return np.log(parts / (parts.sum() + _FLOOR) + 1e-3)


def _pitch(power: np.ndarray, heard: np.ndarray, sample_rate: int, transform: int) -> list[float]:
    """Periodicity, share of voiced frames, height, spread and movement of the pitch, longest steady stretch."""
    lags = np.fft.irfft(power, transform)
    low, high = (round(sample_rate / hz) for hz in _PITCH_HZ[::-1])
    # the window's own autocorrelation makes long lags small
    taper = np.fft.irfft(np.abs(np.fft.rfft(_window(transform // 2), transform)) ** 2, transform)
    span = lags[:, low:high] / (lags[:, :1] + _FLOOR) * (taper[0] / taper[low:high])
    best = span.argmax(axis=1)
    strength = np.clip(span.max(axis=1), 0, 1.2)
    voiced = heard & (strength > _VOICED)
    pitch = np.log2(sample_rate / (best + low))
    moves = np.abs(np.diff(pitch))[voiced[1:] & voiced[:-1]]
    steady = float(np.mean(moves < _STEADY)) if moves.size else 0.0
    gliding = float(np.mean((moves >= _STEADY) & (moves < _GLIDING))) if moves.size else 0.0
    height, spread = (float(pitch[voiced].mean()), float(pitch[voiced].std())) if voiced.any() else (7.2, 0.3)
    return [
        float(strength[heard].mean()) * 4, float(strength[heard].std()) * 4, 4 * float(voiced.mean()),
        height, spread * 2, 3 * steady, 3 * gliding, 8 * float(np.mean(voiced[1:] != voiced[:-1])),
    ]  # fmt: skip


@cache
def _window(size: int) -> np.ndarray:
    return np.hanning(size).astype(np.float32)


@cache
def _bank(sample_rate: int, transform: int) -> np.ndarray:
    """(`_BANDS`, bins) triangles evenly spaced on the mel scale from 60 Hz to half the sample rate."""
    mel = np.linspace(*(2595 * np.log10(1 + np.array([60, sample_rate / 2]) / 700)), _BANDS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    frequency = np.fft.rfftfreq(transform, 1 / sample_rate)
    rising = (frequency - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequency) / (edges[2:] - edges[1:-1])[:, None]
    return np.clip(np.minimum(rising, falling), 0, None).astype(np.float32)


@cache
def _cosines() -> np.ndarray:
    """(`_BANDS`, `_CEPSTRA`) of the cosine transform, without the constant one: loudness tells nothing."""
    places = (np.arange(_BANDS) + 0.5) / _BANDS
    return np.cos(np.pi * places[:, None] * np.arange(1, _CEPSTRA + 1)) * np.sqrt(2 / _BANDS)
