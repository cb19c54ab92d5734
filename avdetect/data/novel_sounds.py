"""Sounds that are no speech, made from nothing: to measure whether a voice detector knows what it cannot judge.

Each maker is a function of (samples, sample rate in Hz, rng) -> float32 (samples,), peak 0.5. `babble` also takes
the voices that it mixes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Maker = Callable[[int, int, np.random.Generator], np.ndarray]

PEAK = 0.5
BABBLE_VOICES = 12
NOTE_A4_HZ = 440.0
CHORDS = ((0, 4, 7), (0, 3, 7), (0, 4, 7, 11), (0, 3, 7, 10), (0, 5, 7))  # semitones above the root
SCALE = (0, 2, 4, 7, 9, 12, 14, 16)


def _finished(sound: np.ndarray) -> np.ndarray:
    return (sound * (PEAK / max(float(np.abs(sound).max()), 1e-9))).astype(np.float32)


def _seconds(samples: int, rate: int) -> np.ndarray:
    return np.arange(samples) / rate


def coloured_noise(samples: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Steady noise of power f**-c, c between -1 (blue) and 2 (brown)."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.maximum(np.fft.rfftfreq(samples, 1 / rate), 20.0)
    return _finished(np.fft.irfft(spectrum * frequency ** (-rng.uniform(-1, 2) / 2), samples))


def wind(samples: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Low noise in gusts of about a second."""
    noise = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.maximum(np.fft.rfftfreq(samples, 1 / rate), 20.0)
    low = np.fft.irfft(noise / (1 + (frequency / rng.uniform(150, 600)) ** 2), samples)
    knots = max(3, round(2 * samples / rate) + 2)
    gusts = np.interp(np.linspace(0, knots - 1, samples), np.arange(knots), rng.uniform(0.05, 1, knots))
    return _finished(low * gusts)


def tones(samples: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """One to three steady or sliding sines."""
    t = _seconds(samples, rate)
    sound = np.zeros(samples)
    for _ in range(rng.integers(1, 4)):
        start = rng.uniform(100, 2500)
        end = start if rng.random() < 0.5 else rng.uniform(100, 2500)
        frequency = np.linspace(start, end, samples)
        sound += rng.uniform(0.3, 1) * np.sin(
            2 * np.pi * np.cumsum(frequency) / rate + rng.uniform(0, 6) + 0 * t
        )
    return _finished(sound)


def hum(samples: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Mains hum: 50 or 60 Hz, its harmonics, a little noise."""
    t, base = _seconds(samples, rate), rng.choice([50.0, 60.0])
    sound = 0.02 * rng.standard_normal(samples)
    for harmonic in range(1, 13):
        sound += rng.uniform(0.1, 1) / harmonic * np.sin(2 * np.pi * base * harmonic * t + rng.uniform(0, 6))
    return _finished(sound)


def clicks(samples: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Near-silence with short decaying clicks."""
    sound = 1e-3 * rng.standard_normal(samples)
    for start in rng.integers(0, samples, max(2, round(rng.uniform(1, 8) * samples / rate))):
        length = min(int(rng.uniform(0.002, 0.02) * rate), samples - start)
        decay = np.exp(-np.linspace(0, 6, length))
        sound[start : start + length] += decay * rng.standard_normal(length) * rng.uniform(0.3, 1)
    return _finished(sound)


def chirps(samples: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Birdsong-like: short whistled sweeps between 1.5 and 6 kHz in phrases."""
    sound, at = 2e-3 * rng.standard_normal(samples), 0
    while at < samples:
        length = int(rng.uniform(0.04, 0.2) * rate)
        low, high = rng.uniform(1500, 4000), rng.uniform(2500, min(6000, rate / 2 - 500))
        shape = np.linspace(0, 1, length)
        frequency = low + (high - low) * (shape if rng.random() < 0.5 else np.sin(np.pi * shape))
        chirp = np.hanning(length) * np.sin(2 * np.pi * np.cumsum(frequency) / rate)
        sound[at : at + length] += chirp[: samples - at] * rng.uniform(0.4, 1)
        at += length + int(rng.uniform(0.01, 0.3) * rate)
    return _finished(sound)


def _note(frequency: float, samples: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """A plucked or held tone with harmonics."""
    t = _seconds(samples, rate)
    bright, held = rng.uniform(0.8, 2.2), rng.random() < 0.4
    envelope = np.minimum(t / 0.02, 1) * (1.0 if held else np.exp(-t * rng.uniform(2, 8)))
    sound = np.zeros(samples)
    for harmonic in range(1, 13):
        if harmonic * frequency < 0.45 * rate:
            sound += harmonic**-bright * np.sin(2 * np.pi * harmonic * frequency * t + rng.uniform(0, 6))
    return sound * envelope


def _hz(semitones: float) -> float:
    return NOTE_A4_HZ * 2 ** (semitones / 12)


def chords(samples: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Chords of synthetic strings or organ, one to three a second."""
    sound, at, step = np.zeros(samples), 0, int(rng.uniform(0.35, 1.0) * rate)
    while at < samples:
        root, length = rng.integers(-24, 1), min(step + rate // 5, samples - at)
        for semitone in CHORDS[rng.integers(len(CHORDS))]:
            sound[at : at + length] += _note(_hz(root + semitone), length, rate, rng)
        at += step
    return _finished(sound)


def arpeggio(samples: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """A single line of notes, four to ten a second."""
    sound, at, step = np.zeros(samples), 0, int(rate / rng.uniform(4, 10))
    root = rng.integers(-20, 5)
    while at < samples:
        length = min(2 * step, samples - at)
        sound[at : at + length] += _note(_hz(root + SCALE[rng.integers(len(SCALE))]), length, rate, rng)
        at += step
    return _finished(sound)


def drums(samples: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Bass drum, snare and hi-hat on a beat of 80 to 150 a minute."""
    sound, step = np.zeros(samples), int(rate * 60 / rng.uniform(80, 150) / 2)
    t = _seconds(rate // 4, rate)
    kick = np.sin(2 * np.pi * np.cumsum(45 + 120 * np.exp(-30 * t)) / rate) * np.exp(-12 * t)
    for beat, at in enumerate(range(0, samples, step)):
        snare = rng.standard_normal(t.size) * np.exp(-20 * t)
        hat = np.diff(rng.standard_normal(t.size + 1)) * np.exp(-60 * t)
        hit = (kick, 0.3 * hat, 0.7 * snare + 0.3 * hat, 0.3 * hat)[beat % 4] * rng.uniform(0.7, 1)
        sound[at : at + t.size] += hit[: samples - at]
    return _finished(sound)


def band(samples: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Drums, chords and a melody together."""
    parts = [maker(samples, rate, rng) * rng.uniform(0.4, 1) for maker in (drums, chords, arpeggio)]
    return _finished(np.sum(parts, axis=0))


def applause(samples: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Hundreds of overlapping claps."""
    claps = np.zeros(samples)
    count = round(rng.uniform(80, 400) * samples / rate)
    np.add.at(claps, rng.integers(0, samples, count), rng.uniform(0.2, 1, count))
    t = _seconds(int(0.012 * rate), rate)
    clap = rng.standard_normal(t.size) * np.exp(-t * 400)
    return _finished(np.convolve(claps, clap)[:samples])


def engine(samples: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """A motor: pulses of 20 to 60 a second that speed up and down, low-pass noise."""
    knots = max(3, round(samples / rate) + 2)
    pace = np.interp(np.linspace(0, knots - 1, samples), np.arange(knots), rng.uniform(20, 60, knots))
    phase = 2 * np.pi * np.cumsum(pace) / rate
    sound = sum(np.sin(h * phase + rng.uniform(0, 6)) / h**0.7 for h in range(1, 20))
    return _finished(sound + 0.5 * wind(samples, rate, rng))


SOUNDS: dict[str, Maker] = {
    "noise": coloured_noise, "wind": wind, "tones": tones, "hum": hum, "clicks": clicks, "chirps": chirps,
    "chords": chords, "arpeggio": arpeggio, "drums": drums, "band": band, "applause": applause, "engine": engine,
}  # fmt: skip


def babble(voices: Sequence[np.ndarray], samples: int, rng: np.random.Generator) -> np.ndarray:
    """A crowd: `BABBLE_VOICES` excerpts of the waveforms (T,) in `voices`, all talking at once at like loudness."""
    sound = np.zeros(samples)
    for _ in range(BABBLE_VOICES):
        voice = np.resize(voices[rng.integers(len(voices))], samples)
        voice = np.roll(voice, rng.integers(samples))
        sound += voice / max(float(np.sqrt(np.mean(voice**2))), 1e-9) * rng.uniform(0.5, 1)
    return _finished(sound)
