"""Speech-like audio by a source-filter model, with the mouth that belongs to it.

A glottal pulse train (Rosenberg 1971) and noise drive a cascade of second-order resonators (Klatt 1980) whose
centres move along the formants of vowels; fricatives and bursts are band-passed noise. Consonants, vowels and
pauses come in random order: it has the rhythm and the spectrum of speech, and no words.
"""

from dataclasses import dataclass

import numpy as np
from scipy.signal import fftconvolve, lfilter, sosfilt

RATE = 16000  # Hz, of all audio made here
CONTROL_RATE = 200  # Hz, of formants, amplitudes and mouth tracks
BLOCK = RATE // CONTROL_RATE
FILTER_BLOCKS = 2  # the resonators move every 10 ms

# F1, F2, F3 in Hz of an adult male and lip rounding, after Peterson & Barney (1952).
VOWELS = np.array(
    [
        (270, 2290, 3010, 0.0),
        (390, 1990, 2550, 0.0),
        (530, 1840, 2480, 0.0),
        (660, 1720, 2410, 0.0),
        (730, 1090, 2440, 0.0),
        (570, 840, 2410, 0.6),
        (440, 1020, 2240, 0.8),
        (300, 870, 2240, 1.0),
        (640, 1190, 2390, 0.1),
        (490, 1350, 1690, 0.3),
    ]
)
# voicing, friction, friction centre in Hz, mouth opening, shortest and longest duration in s
CONSONANTS = {
    "s": (0.0, 0.55, 6000.0, 0.10, 0.08, 0.15),
    "sh": (0.0, 0.60, 3400.0, 0.14, 0.08, 0.15),
    "f": (0.0, 0.25, 5000.0, 0.03, 0.07, 0.12),
    "z": (0.35, 0.30, 5600.0, 0.10, 0.06, 0.11),
    "t": (0.0, 0.0, 4200.0, 0.12, 0.05, 0.09),
    "p": (0.0, 0.0, 1200.0, 0.0, 0.06, 0.10),
    "m": (0.30, 0.0, 1000.0, 0.0, 0.06, 0.11),
    "n": (0.32, 0.0, 1000.0, 0.15, 0.05, 0.10),
    "l": (0.50, 0.0, 1000.0, 0.25, 0.05, 0.09),
}
STOPS = ("t", "p")
CHANNELS = ("f1", "f2", "f3", "voicing", "friction", "centre", "opening", "rounding", "accent")
SMOOTHING_S = (0.06, 0.06, 0.06, 0.03, 0.015, 0.03, 0.09, 0.09, 0.12)


@dataclass(frozen=True)
class Voice:
    """How one subject speaks. Frequencies in Hz, rate in syllables' relative speed, the rest relative."""

    f0: float
    tract: float  # scale of all formants: shorter vocal tract, higher formants
    rate: float
    breath: float
    bandwidth: float
    articulation: float  # how far the mouth opens
    tilt: float  # one-pole coefficient of the spectral slope


@dataclass(frozen=True)
class Utterance:
    """Dry speech and the mouth that makes it; both start at the same time."""

    audio: np.ndarray  # (T,) float32 at RATE
    opening: np.ndarray  # (C,) at CONTROL_RATE, 0 closed .. 1 wide open
    rounding: np.ndarray  # (C,) at CONTROL_RATE, 0 spread .. 1 rounded


def random_voice(rng: np.random.Generator) -> Voice:
    """Draw a subject's voice: a low or a high one, with the vocal tract that goes with it."""
    high = rng.random() < 0.5
    return Voice(
        f0=float(rng.uniform(165, 235) if high else rng.uniform(88, 140)),
        tract=float(rng.uniform(1.10, 1.24) if high else rng.uniform(0.95, 1.08)),
        rate=float(rng.uniform(0.85, 1.25)),
        breath=float(rng.uniform(0.01, 0.06)),
        bandwidth=float(rng.uniform(0.8, 1.3)),
        articulation=float(rng.uniform(0.85, 1.05)),
        tilt=float(rng.uniform(0.0, 0.5)),
    )


def speak(voice: Voice, seconds: float, rng: np.random.Generator) -> Utterance:
    """Make an utterance of `seconds`. Phrases and pauses are stationary: any cut looks like any other."""
    points = int(np.ceil(seconds * CONTROL_RATE)) + 1
    tracks = dict(zip(CHANNELS, _tracks(voice, points, rng), strict=True))
    source = _voiced(voice, tracks, rng)
    audio = _formant_filter(voice, tracks, source) + _friction(tracks, rng)
    audio = lfilter([1.0 - voice.tilt], [1.0, -voice.tilt], audio)
    # The lips are slower than the voice and never repeat a gesture exactly.
    wobble = 1.0 + 0.10 * smooth_noise(points, 0.15 * CONTROL_RATE, rng)
    opening = np.clip(tracks["opening"] * voice.articulation * wobble, 0.0, 1.0)
    length = int(round(seconds * RATE))
    return Utterance(audio[:length].astype(np.float32), opening, np.clip(tracks["rounding"], 0.0, 1.0))


def record(dry: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same speech in a room, before a microphone: (T,) -> (T,). Short reverberation, coloured noise."""
    length = int(RATE * rng.uniform(0.08, 0.30))
    decay = np.exp(-6.9 * np.arange(length) / length)
    room = rng.standard_normal(length) * decay
    room *= rng.uniform(0.1, 0.35) / np.sqrt(np.sum(room**2))
    room[0] += 1.0
    wet = fftconvolve(dry, room)[: len(dry)]
    return wet + coloured_noise(len(dry), rng) * rms(wet) * 10 ** (-rng.uniform(26, 38) / 20)


def coloured_noise(length: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of unit RMS between white and brownish, as of a room and a preamplifier."""
    pole = rng.uniform(0.2, 0.9)
    noise = lfilter([1.0], [1.0, -pole], rng.standard_normal(length))
    return noise / rms(noise)


def rms(x: np.ndarray) -> float:
    """Root mean square; never zero, so that it can be divided by."""
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))) + 1e-9)


def smooth_noise(length: int, width: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of unit variance whose correlation reaches over about `width` points."""
    kernel = np.hanning(max(3, int(2 * width)) + 2)[1:-1]
    kernel /= np.sqrt(np.sum(kernel**2))
    return fftconvolve(rng.standard_normal(length + len(kernel) - 1), kernel, mode="valid")


def _tracks(voice: Voice, points: int, rng: np.random.Generator) -> np.ndarray:
    """(9, points) smoothed control tracks in the order of CHANNELS."""
    pre_roll = int(rng.uniform(0.5, 2.0) * CONTROL_RATE)  # cut off, so that no clip starts at a phrase start
    rows: list[tuple[float, ...]] = []
    while len(rows) < points + pre_roll:
        accent = rng.uniform(0.02, 0.12)
        for _ in range(int(rng.integers(2, 7))):
            rows += _syllable(voice, accent, rng)
            accent -= 0.03
        rows += _rows((500, 1500, 2500, 0, 0, 3000, 0.02, 0.2, -0.1), rng.uniform(0.12, 0.42))
    raw = np.array(rows[pre_roll : pre_roll + points]).T
    out = np.empty_like(raw)
    for row, seconds in enumerate(SMOOTHING_S):
        kernel = np.hanning(int(seconds * CONTROL_RATE) + 3)[1:-1]
        half = len(kernel) // 2
        padded = np.pad(raw[row], (half, len(kernel) - 1 - half), mode="edge")
        out[row] = np.convolve(padded, kernel / kernel.sum(), mode="valid")
    return out


def _syllable(voice: Voice, accent: float, rng: np.random.Generator) -> list[tuple[float, ...]]:
    f1, f2, f3, rounding = VOWELS[rng.integers(len(VOWELS))] * rng.uniform(0.94, 1.06, 4)
    stress = rng.uniform(0.55, 1.0)
    opening = (0.30 + 0.70 * np.clip((f1 - 270) / 430, 0, 1)) * (0.5 + 0.5 * stress)
    amplitude = (0.25 + 0.75 * opening) * stress
    formants = (f1 * voice.tract, f2 * voice.tract, f3 * voice.tract)
    rows: list[tuple[float, ...]] = []
    if rng.random() < 0.85:
        rows += _consonant(str(rng.choice(list(CONSONANTS))), formants, rounding, accent, voice, rng)
    lilt = accent + 0.08 * rng.standard_normal()
    rows += _rows(
        (*formants, amplitude, 0, 3000, opening, rounding, lilt), rng.uniform(0.10, 0.24) / voice.rate
    )
    if rng.random() < 0.3:
        rows += _consonant(str(rng.choice(list(CONSONANTS))), formants, rounding, accent, voice, rng)
    return rows


def _consonant(
    name: str, formants: tuple, rounding: float, accent: float, voice: Voice, rng: np.random.Generator
) -> list[tuple[float, ...]]:
    voicing, friction, centre, opening, shortest, longest = CONSONANTS[name]
    f1, f2, f3 = formants
    if voicing:
        f1, f2 = 280 * voice.tract, 0.5 * (f2 + 1300 * voice.tract)  # the tract is narrowed in front
    seconds = rng.uniform(shortest, longest) / voice.rate
    strength = rng.uniform(0.6, 1.1)
    row = (f1, f2, f3, voicing * strength, friction * strength, centre, opening, 0.5 * rounding, accent)
    rows = _rows(row, seconds)
    if name in STOPS:
        rows += _rows((f1, f2, f3, 0, 0.7 * strength, centre, opening, 0.5 * rounding, accent), 0.02)
    return rows


def _rows(values: tuple[float, ...], seconds: float) -> list[tuple[float, ...]]:
    return [values] * max(1, int(round(seconds * CONTROL_RATE)))


def _to_samples(track: np.ndarray) -> np.ndarray:
    return np.interp(np.arange(len(track) * BLOCK) / BLOCK, np.arange(len(track)), track)


def _voiced(voice: Voice, tracks: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Derivative of Rosenberg's glottal flow along a moving pitch, with jitter, shimmer and breath."""
    points = len(tracks["accent"])
    jitter = 0.006 * rng.standard_normal(points) + 0.02 * smooth_noise(points, 0.2 * CONTROL_RATE, rng)
    f0 = voice.f0 * (1.0 + tracks["accent"] + jitter)
    phase = np.cumsum(_to_samples(f0)) / RATE % 1.0
    rise = 0.5 * (1.0 - np.cos(np.pi * np.minimum(phase, 0.4) / 0.4))
    fall = np.cos(0.5 * np.pi * np.clip((phase - 0.4) / 0.18, 0.0, 1.0))
    flow = np.where(phase < 0.4, rise, fall)
    amplitude = _to_samples(np.clip(tracks["voicing"], 0, None) * (1 + 0.05 * rng.standard_normal(points)))
    breath = voice.breath * rng.standard_normal(len(phase)) * (0.4 + flow)
    return amplitude * (np.diff(flow, prepend=0.0) * RATE / 4000 + breath)


def _resonators(centres: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """(S, 6) second-order sections with unit gain at 0 Hz, centres and bandwidths in Hz."""
    radius = np.exp(-np.pi * widths / RATE)
    a1 = -2 * radius * np.cos(2 * np.pi * centres / RATE)
    a2 = radius**2
    zero = np.zeros_like(a1)
    return np.stack([1 + a1 + a2, zero, zero, zero + 1, a1, a2], axis=1)


def _formant_filter(voice: Voice, tracks: dict[str, np.ndarray], source: np.ndarray) -> np.ndarray:
    out = np.empty_like(source)
    fixed = np.array([3500.0, 4400.0]) * voice.tract
    widths = np.array([70.0, 100.0, 150.0, 220.0, 300.0]) * voice.bandwidth
    state = np.zeros((5, 2))
    for block in range(0, len(source) // BLOCK, FILTER_BLOCKS):
        centres = np.concatenate([[tracks["f1"][block], tracks["f2"][block], tracks["f3"][block]], fixed])
        cut = slice(block * BLOCK, (block + FILTER_BLOCKS) * BLOCK)
        out[cut], state = sosfilt(_resonators(centres, widths), source[cut], zi=state)
    return out


def _friction(tracks: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    noise = rng.standard_normal(len(tracks["friction"]) * BLOCK) * _to_samples(tracks["friction"])
    out = np.empty_like(noise)
    state = np.zeros((1, 2))
    for block in range(0, len(noise) // BLOCK, FILTER_BLOCKS):
        centre = tracks["centre"][block]
        cut = slice(block * BLOCK, (block + FILTER_BLOCKS) * BLOCK)
        radius = np.exp(-np.pi * 1500.0 / RATE)
        a1 = -2 * radius * np.cos(2 * np.pi * centre / RATE)
        section = np.array([[1 - radius, 0.0, -(1 - radius), 1.0, a1, radius**2]])
        out[cut], state = sosfilt(section, noise[cut], zi=state)
    return 0.6 * out
