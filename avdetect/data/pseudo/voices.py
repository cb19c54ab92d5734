"""Pseudo-fake voices: genuine speech analysed and generated anew, with the words and the timing it had.

The kinds are the ways of vocoders. All but `neural` need no weights. Copies have the level and, to a coarse
resolution, the long-term spectrum of their original, so that neither tells them apart.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import librosa
import numpy as np

from avdetect.data.pseudo.source_filter import (
    Resynthesis,
    cepstral_envelope,
    from_spectrogram,
    resynthesise,
    spectrogram,
    warp,
)
from avdetect.data.pseudo.vocoders import VoiceGenerators
from avdetect.errors import ConfigError

KINDS = ("griffin_lim", "phase", "lpc", "harmonic_noise", "noisy_highs", "neural")
# How often each is drawn. Those whose copies differ from their originals as copies by HiFi-GAN do (phases and fine
# structure above 5 kHz, on validation speech) are drawn most.
ODDS = (0.3, 0.1, 2.0, 0.2, 2.0, 2.0)
EQUALISED_P = 0.7  # of copies brought to the long-term spectrum of their original
PARTIAL_P = 0.3  # of copies of which only a part of the band, the phases or the magnitudes are generated
TINY = 1e-8


def fake_voice(
    waveform: np.ndarray,
    sample_rate: int,
    rng: np.random.Generator,
    kind: str | None = None,
    generators: VoiceGenerators | None = None,
) -> tuple[np.ndarray, str]:
    """float32 (n,) -> (float32 (n,), the kind it was made by).

    kind: one of `KINDS`; None draws one of those that can be made. generators: trained networks, for `neural`.
    Raises ConfigError for a kind that is unknown or needs networks that are not given.
    """
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"unknown kind of fake voice {kind!r}: one of {', '.join(KINDS)}")
    if kind == "neural" and generators is None:
        raise ConfigError(
            "neural fake voices need trained networks: run the stage generators, or leave neural out"
        )
    if kind is None:
        odds = [*ODDS[:-1], ODDS[-1] if generators is not None else 0.0]
        kind = KINDS[rng.choice(len(KINDS), p=np.array(odds) / sum(odds))]
    waveform = np.asarray(waveform, dtype=np.float32)
    loudness = _rms(waveform)
    if loudness == 0.0:
        return waveform.copy(), kind
    made = _MAKERS[kind](waveform / loudness, sample_rate, rng, generators)
    if rng.random() < EQUALISED_P:
        made = _equalise(made, waveform)
    if rng.random() < PARTIAL_P:
        made = _partial(waveform / loudness, made / max(_rms(made), TINY), sample_rate, rng)
    return (made * (loudness / max(_rms(made), TINY))).astype(np.float32), kind


def _rms(waveform: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))


def _griffin_lim(waveform: np.ndarray, sample_rate: int, rng: np.random.Generator, _: object) -> np.ndarray:
    """Phases found anew (Perraudin, Balazs and Søndergaard, 2013) for magnitudes that went through mel bands."""
    size = int(rng.choice([512, 1024, 1024, 2048]))
    hop = size // int(rng.choice([4, 4, 8])) if size < 2048 else size // 8
    magnitude = np.abs(spectrogram(waveform, size, hop))
    bands = int(rng.choice([0, 40, 64, 80, 80, 128]))
    if bands:
        bank, inverse = _mel_bank(sample_rate, size, bands)
        magnitude = np.maximum((magnitude @ bank.T) @ inverse.T, 1e-5 * magnitude.max())
    if rng.random() < 0.3:
        magnitude = warp(magnitude, rng.uniform(0.87, 1.15))
    if rng.random() < 0.3:
        magnitude = _smooth(magnitude, rng)
    steps, momentum = int(np.exp(rng.uniform(np.log(3), np.log(24)))), 0.99
    phase = np.exp(2j * np.pi * rng.random(magnitude.shape)).astype(np.complex64)
    before = np.zeros_like(phase)
    for _step in range(steps):
        found = spectrogram(from_spectrogram(magnitude * phase, hop, waveform.size), size, hop)
        ahead = found + momentum * (found - before)
        phase, before = ahead / np.maximum(np.abs(ahead), TINY), found
    return from_spectrogram(magnitude * phase, hop, waveform.size)


@lru_cache(maxsize=32)
def _mel_bank(sample_rate: int, size: int, bands: int) -> tuple[np.ndarray, np.ndarray]:
    """(bands, bins), and (bins, bands) that spreads a band over its bins again, with no negative weight."""
    bank = librosa.filters.mel(sr=sample_rate, n_fft=size, n_mels=bands, norm=None)
    bank = bank[bank.sum(1) > 0]
    width = bank.sum(1)
    return bank, (bank / width[:, None] / np.maximum(bank.sum(0), TINY)).T


def _smooth(magnitude: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Magnitudes (frames, bins) averaged over neighbouring frames or bins."""
    width, axis = int(rng.choice([3, 5])), int(rng.integers(2))
    shape = [(width // 2, width // 2) if place == axis else (0, 0) for place in range(2)]
    total = np.cumsum(np.pad(magnitude, shape, mode="edge"), axis=axis)
    total = np.insert(total, 0, 0.0, axis=axis)
    count = magnitude.shape[axis]
    high = np.take(total, np.arange(width, width + count), axis=axis)
    return (high - np.take(total, np.arange(count), axis=axis)) / width


def _phase(waveform: np.ndarray, _: int, rng: np.random.Generator, __: object) -> np.ndarray:
    """Magnitudes kept, phases destroyed: blurred, rounded, forgotten, or rebuilt by summing smooth frequencies."""
    made = waveform
    for _pass in range(int(rng.integers(1, 4))):
        size = int(rng.choice([256, 512, 1024]))
        hop = size // int(rng.choice([2, 4]))
        spectrum = spectrogram(made, size, hop)
        angle, way = np.angle(spectrum), int(rng.integers(4))
        if way == 0:
            angle = angle + rng.uniform(0.4, 2.0) * rng.standard_normal(angle.shape)
        elif way == 1:
            step = 2 * np.pi / int(rng.integers(2, 7))
            angle = np.round(angle / step) * step
        elif way == 2:
            angle = np.where(rng.random(angle.shape) < rng.uniform(0.3, 1.0), 0.0, angle)
        else:
            advance = np.angle(spectrum[1:] * np.conj(spectrum[:-1]))
            turn = np.exp(1j * advance)
            turn[:, 1:-1] += np.exp(1j * advance[:, :-2]) + np.exp(1j * advance[:, 2:])
            angle = np.cumsum(np.concatenate([angle[:1], np.angle(turn)]), axis=0)
        made = from_spectrogram(np.abs(spectrum) * np.exp(1j * angle), hop, waveform.size)
    return made


def _drawn(rng: np.random.Generator) -> Resynthesis:
    changed = rng.random() < 0.5
    return Resynthesis(
        envelope="lpc",
        order=int(rng.integers(14, 28)),
        voiced_to_hz=float(rng.uniform(3000, 8000)),
        noise=float(rng.uniform(0.0, 0.3)),
        pitch=float(rng.uniform(0.8, 1.25)) if changed else 1.0,
        formants=float(rng.uniform(0.87, 1.15)) if changed else 1.0,
    )


def _lpc(waveform: np.ndarray, sample_rate: int, rng: np.random.Generator, _: object) -> np.ndarray:
    return resynthesise(waveform, sample_rate, _drawn(rng), rng)


def _harmonic_noise(
    waveform: np.ndarray, sample_rate: int, rng: np.random.Generator, _: object
) -> np.ndarray:
    how = replace(_drawn(rng), envelope="cepstrum", order=int(rng.integers(25, 60)), source="sines")
    return resynthesise(waveform, sample_rate, how, rng)


def _noisy_highs(waveform: np.ndarray, sample_rate: int, rng: np.random.Generator, _: object) -> np.ndarray:
    """High frequencies rendered as noise of the same envelope: mel bands are too wide there for what pulses leave."""
    size, hop = 512, 128
    spectrum = spectrogram(waveform, size, hop)
    envelope = cepstral_envelope(np.abs(spectrum) ** 2, int(rng.integers(20, 70)))
    hiss = spectrogram(rng.standard_normal(waveform.size).astype(np.float32), size, hop)
    hiss *= envelope / np.sqrt((np.abs(hiss) ** 2).mean())
    edge, width = rng.uniform(0.12, 0.38) * sample_rate, rng.uniform(100, 800)
    hertz = np.arange(size // 2 + 1) * sample_rate / size
    share = rng.uniform(0.3, 1.0) / (1 + np.exp(np.clip((edge - hertz) / width, -50, 50)))
    return from_spectrogram(np.sqrt(1 - share) * spectrum + np.sqrt(share) * hiss, hop, waveform.size)


def _neural(
    waveform: np.ndarray, _: int, rng: np.random.Generator, generators: VoiceGenerators
) -> np.ndarray:
    """A copy by a trained network, at times of speech played slower: what up-sampling leaves then lies elsewhere."""
    factor = float(rng.choice([1.0, 22050 / 16000, rng.uniform(0.8, 1.5)]))
    if factor == 1.0:
        return generators.copy(waveform, rng)[0]
    from scipy import signal  # a second to import, and only making fakes needs it

    slow = signal.resample(waveform, round(waveform.size * factor)).astype(np.float32)
    return signal.resample(generators.copy(slow, rng)[0], waveform.size).astype(np.float32)


_MAKERS = {
    "griffin_lim": _griffin_lim,
    "phase": _phase,
    "lpc": _lpc,
    "harmonic_noise": _harmonic_noise,
    "noisy_highs": _noisy_highs,
    "neural": _neural,
}


def _equalise(made: np.ndarray, original: np.ndarray) -> np.ndarray:
    """`made` (n,) with the long-term spectrum of `original` (n,), to bands of some 250 Hz at 16 kHz."""
    size, width = 512, 9
    means = [np.sqrt((np.abs(spectrogram(x, size, size // 2)) ** 2).mean(0)) for x in (original, made)]
    kernel = np.ones(width) / width
    smooth = [np.convolve(np.pad(mean, width // 2, mode="edge"), kernel, mode="valid") for mean in means]
    gain = np.clip(
        smooth[0] / np.maximum(smooth[1], TINY), 0.0, 1e3 * smooth[0].max() / max(smooth[1].max(), TINY)
    )
    full = np.fft.rfft(made)
    at = np.linspace(0, len(gain) - 1, len(full))
    return np.fft.irfft(full * np.interp(at, np.arange(len(gain)), gain), made.size).astype(np.float32)


def _partial(
    waveform: np.ndarray, made: np.ndarray, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """Only a part taken from `made` (n,): the band above or below a frequency, the phases, or the magnitudes."""
    way = int(rng.integers(4))
    if way < 2:
        hertz = np.fft.rfftfreq(waveform.size, 1 / sample_rate)
        edge = rng.uniform(0.1, 0.3) * sample_rate
        share = 1 / (1 + np.exp(np.clip((hertz - edge) / 60.0, -50, 50)))  # 1 below the edge
        share = share if way else 1 - share
        mixed = np.fft.rfft(waveform) * (1 - share) + np.fft.rfft(made) * share
        return np.fft.irfft(mixed, waveform.size).astype(np.float32)
    spectra = [spectrogram(x, 512, 128) for x in (waveform, made)]
    size, phase = spectra if way == 2 else spectra[::-1]
    return from_spectrogram(np.abs(size) * np.exp(1j * np.angle(phase)), 128, waveform.size)
