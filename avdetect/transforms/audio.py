"""Waveforms: the windows that an audio encoder sees, and training augmentation."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avdetect.errors import ConfigError
from avdetect.transforms.masks import mask_frequency, mask_time
from avdetect.transforms.rawboost import ALGORITHMS, rawboost
from avdetect.transforms.settings import Settings
from avdetect.transforms.speech_codecs import CODECS, code


def _check_waveform(waveform: np.ndarray) -> None:
    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
        raise ValueError(f"a waveform must be floating point (T,), not {waveform.dtype} {waveform.shape}")
    if waveform.size == 0:
        raise ValueError("a waveform of no samples cannot be judged; treat the audio as missing")


def repeat_to_length(waveform: np.ndarray, samples: int) -> np.ndarray:
    """The waveform repeated from its start to a length of `samples`; longer ones unchanged."""
    if waveform.size >= samples:
        return waveform
    return np.tile(waveform, -(-samples // waveform.size))[:samples]


@dataclass(frozen=True)
class AudioPreprocess(Settings):
    """Waveform -> overlapping windows of equal length."""

    sample_rate: int = 16000  # Hz, expected of the waveform
    window_s: float = 4.0
    hop_s: float = 2.0

    def __post_init__(self) -> None:
        for name in ("sample_rate", "window_s", "hop_s"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise ConfigError(f"the {name} of an audio input is {value!r}: it must be a positive number")
        if round(min(self.window_s, self.hop_s) * self.sample_rate) < 1:
            raise ConfigError(
                f"an audio input has windows of {self.window_s} s every {self.hop_s} s: both must be a sample or more"
            )

    @property
    def window_samples(self) -> int:
        """Samples of one window."""
        return round(self.window_s * self.sample_rate)

    def __call__(self, waveform: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """waveform: float (T,) -> (float32 (W, window_samples), float64 (W,) start times in seconds).

        Audio shorter than a window is repeated to fill one. The last window ends with the audio, so that
        every sample is judged.
        """
        _check_waveform(waveform)
        size, hop = self.window_samples, round(self.hop_s * self.sample_rate)
        padded = repeat_to_length(waveform.astype(np.float32, copy=False), size)
        last = padded.size - size
        starts = list(range(0, last + 1, hop))
        if starts[-1] != last:
            starts.append(last)
        windows = np.stack([padded[start : start + size] for start in starts])
        return torch.from_numpy(windows), np.array(starts, dtype=np.float64) / self.sample_rate


def add_noise(waveform: np.ndarray, snr_db: float, colour: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise of power 1/f**colour (0 white, 1 pink), `snr_db` below the signal's power."""
    spectrum = np.fft.rfft(rng.standard_normal(waveform.size))
    frequency = np.arange(spectrum.size)
    spectrum[0] = 0.0
    spectrum[1:] *= frequency[1:] ** (-colour / 2)
    noise = np.fft.irfft(spectrum, waveform.size)
    power = float(np.mean(np.square(waveform, dtype=np.float64)))
    scale = np.sqrt(power * 10 ** (-snr_db / 10) / max(float(np.mean(noise**2)), 1e-20))
    return (waveform + scale * noise).astype(np.float32)


@dataclass(frozen=True)
class AudioAugment(Settings):
    """Random changes that a genuine recording may undergo, and masks; every `…_p` is a probability.

    Order: cutting, RawBoost, band limits, noise, gain, polarity, codec, masks. RawBoost, codecs and masks are
    off by default.
    """

    sample_rate: int = 16000
    crop_s: float | None = 4.0  # length of the random cut; None keeps the waveform whole
    gain_p: float = 1.0
    gain_db: tuple[float, float] = (-12.0, 6.0)
    band_p: float = 0.3
    low_hz: tuple[float, float] = (30.0, 300.0)  # where the high-pass begins
    high_hz: tuple[float, float] = (3400.0, 7600.0)  # where the low-pass ends
    noise_p: float = 0.5
    snr_db: tuple[float, float] = (10.0, 40.0)
    polarity_p: float = 0.5
    rawboost_p: float = 0.0
    rawboost_algorithm: int = (
        4  # as published: 1 convolutive, 2 impulsive, 3 stationary noise, 4 all in series
    )
    codec_p: float = 0.0
    codecs: tuple[str, ...] = tuple(CODECS)  # one is drawn
    codec_kbps: tuple[int, int] = (
        16,
        64,
    )  # thousand bits per second of mp3, aac and opus, both ends included
    mask_p: float = 0.0
    time_masks: int = 2  # these four: SpecAugment's policy LD
    time_mask_s: float = 1.0  # the longest
    frequency_masks: int = 2
    frequency_mask_bands: int = 27  # the widest, in bands of which 80 make up the mel scale

    def __post_init__(self) -> None:
        if self.rawboost_algorithm not in ALGORITHMS:
            raise ConfigError(
                f"RawBoost has no algorithm {self.rawboost_algorithm}; take one of {', '.join(map(str, ALGORITHMS))}."
            )
        if not self.codecs or (unknown := sorted(set(self.codecs) - set(CODECS))):
            found = ", ".join(unknown) if self.codecs else "none"
            raise ConfigError(f"codecs must name some of {', '.join(CODECS)}, not {found}.")

    def __call__(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """waveform: float (T,) -> float32 (crop_s * sample_rate,), or (T,) where `crop_s` is None."""
        _check_waveform(waveform)
        out = waveform.astype(np.float32, copy=False)
        if self.crop_s is not None:
            out = self._crop(out, rng)
        # what is off draws nothing: settings from before it existed give the same as then
        if self.rawboost_p and rng.random() < self.rawboost_p:
            out = rawboost(out, self.rawboost_algorithm, self.sample_rate, rng)
        if rng.random() < self.band_p:
            out = self._band_limit(out, rng)
        if rng.random() < self.noise_p:
            out = add_noise(out, rng.uniform(*self.snr_db), rng.uniform(0.0, 1.0), rng)
        if rng.random() < self.gain_p:
            out = out * np.float32(10 ** (rng.uniform(*self.gain_db) / 20))
        if rng.random() < self.polarity_p:
            out = -out
        if self.codec_p and rng.random() < self.codec_p:
            kbps = int(rng.integers(self.codec_kbps[0], self.codec_kbps[1] + 1))
            out = code(out, self.codecs[rng.integers(len(self.codecs))], kbps, self.sample_rate)
        if self.mask_p and rng.random() < self.mask_p:
            out = self._mask(out, rng)
        return np.array(out, dtype=np.float32)

    def _crop(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        size = round(self.crop_s * self.sample_rate)
        padded = repeat_to_length(waveform, size)
        start = int(rng.integers(0, padded.size - size + 1))
        return padded[start : start + size]

    def _mask(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        for _ in range(self.time_masks):
            waveform = mask_time(waveform, self.time_mask_s, self.sample_rate, rng)
        for _ in range(self.frequency_masks):
            waveform = mask_frequency(waveform, self.frequency_mask_bands, self.sample_rate, rng)
        return waveform

    def _band_limit(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        from scipy import signal  # a second to import, and only training needs it

        band = (rng.uniform(*self.low_hz), min(rng.uniform(*self.high_hz), 0.49 * self.sample_rate))
        sections = signal.butter(4, band, "bandpass", fs=self.sample_rate, output="sos")
        return signal.sosfilt(sections, waveform).astype(np.float32)
