"""What recordings of talking faces differ in, other than time: stronger than `LipSyncAugment`, for few recordings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from avdetect.transforms.audio import add_noise
from avdetect.transforms.degrade_sound import reverberate
from avdetect.transforms.settings import Settings
from avdetect.transforms.speech_codecs import CODECS, code

EQ_POINTS = 8  # frequencies, spread evenly on the mel scale, at which an equaliser is drawn
NOTE_HZ = (82.0, 880.0)
SMALLEST_SIDE = 8

Change = Callable[[np.ndarray], np.ndarray]  # of one frame


@dataclass(frozen=True)
class TalkingAugment(Settings):
    """Random framing, light, camera, room, channel and surroundings; one draw for the whole clip, in time with it.

    Every `..._p` is a probability. `pose`: rotation in degrees, relative zoom and relative shift, largest each;
    `jitter`: standard deviation of the framing from frame to frame, as a part of the side. What comes in at the
    edges is reflected. Sound: reverberation, equaliser, band limits, music or noise in the background, gain, codec.
    """

    sample_rate: int = 16000
    flip_p: float = 0.5
    pose_p: float = 0.9
    rotate: float = 12.0
    zoom: float = 0.18
    shift: float = 0.1
    jitter_p: float = 0.4
    jitter: float = 0.012
    light_p: float = 0.8
    brightness: float = 0.2
    contrast: float = 0.4
    gamma: float = 0.4
    blur_p: float = 0.25
    blur: float = 1.6  # largest standard deviation, pixels
    downscale_p: float = 0.2
    smallest: int = 14  # pixels of the side
    grain_p: float = 0.2
    grain: float = 10.0  # largest standard deviation, grey levels
    jpeg_p: float = 0.2
    quality: tuple[int, int] = (20, 85)
    erase_p: float = 0.15
    reverb_p: float = 0.2
    rt60_s: tuple[float, float] = (0.1, 0.6)
    eq_p: float = 0.5
    eq_db: float = 8.0
    band_p: float = 0.3
    low_hz: tuple[float, float] = (50.0, 400.0)
    high_hz: tuple[float, float] = (2800.0, 7500.0)
    music_p: float = 0.15
    noise_p: float = 0.4
    snr_db: tuple[float, float] = (0.0, 35.0)
    codec_p: float = 0.04
    kbps: tuple[int, int] = (12, 48)
    gain_db: tuple[float, float] = (-20.0, 6.0)

    def __call__(
        self, mouths: np.ndarray, audio: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """mouths: uint8 (M, m, m[, 3]); audio: float (T,) -> both, changed, of the same shapes."""
        return self.picture(mouths, rng), self.sound(audio, rng)

    def picture(self, mouths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 (M, m, m[, 3]) -> the same shape."""
        out = mouths[:, :, ::-1] if rng.random() < self.flip_p else mouths
        if rng.random() < self.pose_p:
            out = self._pose(np.ascontiguousarray(out), rng)
        if rng.random() < self.light_p:
            out = self._light(rng)[out]
        if rng.random() < self.downscale_p:
            out = _each(out, self._smaller(out.shape[1], rng))
        if rng.random() < self.blur_p:
            width = rng.uniform(0.4, self.blur)
            out = _each(out, lambda frame: cv2.GaussianBlur(frame, (0, 0), width))
        if rng.random() < self.erase_p:
            out = _erased(out, rng)
        if rng.random() < self.grain_p:
            grain = rng.standard_normal(out.shape, np.float32) * rng.uniform(1.0, self.grain)
            out = np.clip(out + grain, 0, 255).astype(np.uint8)
        if rng.random() < self.jpeg_p:
            options = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*self.quality, endpoint=True))]
            out = _each(
                out, lambda f: cv2.imdecode(cv2.imencode(".jpg", f, options)[1], cv2.IMREAD_UNCHANGED)
            )
        return np.ascontiguousarray(out)

    def _pose(self, mouths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        side = mouths.shape[1]
        middle = ((side - 1) / 2, (side - 1) / 2)
        turn, zoom = rng.uniform(-self.rotate, self.rotate), 1.0 + rng.uniform(-self.zoom, self.zoom)
        matrix = cv2.getRotationMatrix2D(middle, turn, zoom)
        matrix[:, 2] += rng.uniform(-self.shift, self.shift, 2) * side
        steps = np.zeros((len(mouths), 2))
        if rng.random() < self.jitter_p:
            steps = rng.normal(0.0, self.jitter * side * rng.random(), steps.shape)
        out = np.empty_like(mouths)
        for index, frame in enumerate(mouths):
            moved = matrix.copy()
            moved[:, 2] += steps[index]
            out[index] = cv2.warpAffine(frame, moved, (side, side), borderMode=cv2.BORDER_REFLECT_101)
        return out

    def _light(self, rng: np.random.Generator) -> np.ndarray:
        """Table of grey levels (256,) uint8."""
        level = (np.arange(256) / 255.0) ** np.exp(rng.uniform(-self.gamma, self.gamma))
        contrast = 1.0 + rng.uniform(-self.contrast, self.contrast)
        level = (level - 0.5) * contrast + 0.5 + rng.uniform(-self.brightness, self.brightness)
        return np.clip(np.rint(255.0 * level), 0, 255).astype(np.uint8)

    def _smaller(self, side: int, rng: np.random.Generator) -> Change:
        """Reduction to a random smaller side and back."""
        least = min(max(self.smallest, SMALLEST_SIDE), side)
        small = int(rng.integers(least, side + 1))
        back = [cv2.INTER_LINEAR, cv2.INTER_CUBIC][int(rng.integers(2))]

        def resized(frame: np.ndarray) -> np.ndarray:
            reduced = cv2.resize(frame, (small, small), interpolation=cv2.INTER_AREA)
            return cv2.resize(reduced, (side, side), interpolation=back)

        return resized

    def sound(self, audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """float (T,) -> float32 (T,)."""
        out = audio.astype(np.float32, copy=True)
        if not out.size or not out.any():
            return out
        if rng.random() < self.reverb_p:
            out = reverberate(out, rng.uniform(*self.rt60_s), self.sample_rate, rng)
        out = self._channel(out, rng)
        if rng.random() < self.music_p:
            out = _mixed(out, music(len(out), self.sample_rate, rng), rng.uniform(3.0, 25.0))
        if rng.random() < self.noise_p:
            out = add_noise(out, rng.uniform(*self.snr_db), rng.uniform(0.0, 1.5), rng)
        if rng.random() < self.codec_p:
            names = sorted(CODECS)
            out = out * np.float32(0.5 / max(float(np.abs(out).max()), 1e-6))
            out = code(out, names[rng.integers(len(names))], int(rng.integers(*self.kbps)), self.sample_rate)
        return out * np.float32(10 ** (rng.uniform(*self.gain_db) / 20))

    def _channel(self, audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Equaliser and band limits (slopes of 24 dB an octave) in one filter without delay."""
        with_eq, with_band = rng.random() < self.eq_p, rng.random() < self.band_p
        if not (with_eq or with_band):
            return audio
        hz = np.fft.rfftfreq(len(audio), 1 / self.sample_rate)
        gain = np.zeros_like(hz)
        if with_eq:
            mel = np.log1p(hz / 700.0)
            points = np.linspace(0.0, mel[-1], EQ_POINTS)
            gain += np.interp(mel, points, rng.uniform(-self.eq_db, self.eq_db, EQ_POINTS))
        if with_band:
            low, high = rng.uniform(*self.low_hz), rng.uniform(*self.high_hz)
            gain -= 10.0 * np.log10(1.0 + (low / np.maximum(hz, 1.0)) ** 8)
            gain -= 10.0 * np.log10(1.0 + (hz / high) ** 8)
        out = np.fft.irfft(np.fft.rfft(audio) * 10 ** (gain / 20), len(audio))
        return out.astype(np.float32)


def _each(frames: np.ndarray, change: Change) -> np.ndarray:
    return np.stack([change(frame) for frame in np.ascontiguousarray(frames)]) if len(frames) else frames


def _erased(mouths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A grey box of up to two fifths of the side, the same in all frames (a hand, a microphone, a logo)."""
    side = mouths.shape[1]
    height, width = rng.integers(side // 8, 2 * side // 5 + 1, 2)
    top, left = rng.integers(0, side - height + 1), rng.integers(0, side - width + 1)
    out = mouths.copy()
    out[:, top : top + height, left : left + width] = rng.integers(256)
    return out


def _mixed(speech: np.ndarray, other: np.ndarray, snr_db: float) -> np.ndarray:
    power, added = (float(np.mean(np.square(x, dtype=np.float64))) for x in (speech, other))
    return speech + other * np.float32(np.sqrt(power / max(added, 1e-20) * 10 ** (-snr_db / 10)))


def music(samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Plucked notes with harmonics at random times, float32 (samples,): what plays behind a talk."""
    time = np.arange(samples) / sample_rate
    out = np.zeros(samples, np.float32)
    for begin in np.cumsum(rng.exponential(0.2, max(1, round(5 * samples / sample_rate)))):
        first = int(begin * sample_rate)
        if first >= samples:
            break
        since = time[: samples - first]
        pitch = np.exp(rng.uniform(*np.log(NOTE_HZ)))
        decay = np.exp(-since / rng.uniform(0.1, 0.8))
        for harmonic in range(1, 6):
            out[first:] += (decay * np.sin(2 * np.pi * pitch * harmonic * since) / harmonic).astype(
                np.float32
            )
    return out
