"""The manipulations, each with the traces that the real ones leave.

face_swap           another subject's inner face, generated at a low resolution, coloured nearly right,
                    blended in through a soft mask; it trembles from frame to frame
voice_resynthesis   the voice made again from a mel or a smoothed spectrum, with phases found by Griffin-Lim
out_of_sync         genuine sound of the same speaker from another moment or of other words
"""

import librosa
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from avdetect.data.demo.faces import CENTRE, SIZE, UNIT, Face, X, Y, step
from avdetect.data.demo.features import Painter
from avdetect.data.demo.speech import RATE, smooth_noise

FACE_SWAP = "face_swap"
VOICE_RESYNTHESIS = "voice_resynthesis"
OUT_OF_SYNC = "out_of_sync"
METHODS = (FACE_SWAP, VOICE_RESYNTHESIS, OUT_OF_SYNC)
SHORTEST_SHIFT_S, LONGEST_SHIFT_S = 0.2, 0.8


class FaceSwap:
    """Puts a donor's inner face onto a target's texture, frame by frame."""

    def __init__(self, target: Face, donor: Painter, frames: int, rng: np.random.Generator) -> None:
        self._donor = donor
        half_x = 0.80 * target.width * rng.uniform(0.92, 1.04)
        bottom = rng.uniform(0.76, 0.90)
        top = target.eye_y - target.brow_gap - rng.uniform(0.0, 0.14)
        middle, half_y = (top + bottom) / 2, (bottom - top) / 2
        distance = 1 - (np.abs(X / half_x) ** 2.6 + np.abs((Y - middle) / half_y) ** 2.6) ** (1 / 2.6)
        mask = step(distance - 0.04, rng.uniform(0.05, 0.11))
        left, right = _pixel(-half_x - 0.05), _pixel(half_x + 0.05)
        self._box = (left, max(0, _pixel(top - 0.05)), right, min(SIZE, _pixel(bottom + 0.05)))
        x0, y0, x1, y1 = self._box
        self._mask = mask[y0:y1, x0:x1, None].astype(np.float32)
        reduction = rng.uniform(2.6, 3.8)
        self._small = (round((x1 - x0) / reduction), round((y1 - y0) / reduction))
        wobble = rng.uniform(0.4, 1.2)
        self._shift = wobble * np.stack([smooth_noise(frames, 1.5, rng) for _ in range(2)], axis=1)
        self._zoom = rng.uniform(0.96, 1.04) + 0.004 * wobble * smooth_noise(frames, 1.5, rng)
        sign = rng.choice([-1.0, 1.0])
        self._mismatch = sign * rng.uniform(9, 18) + rng.uniform(-6, 6, 3)
        self._contrast = rng.uniform(0.82, 1.05)
        self._flicker = 1.2 * rng.standard_normal(frames)
        self._gains: tuple[np.ndarray, np.ndarray] | None = None

    def apply(
        self,
        texture: np.ndarray,
        frame: int,
        opening: float,
        rounding: float,
        lid: float,
        gaze: tuple[float, float],
    ) -> np.ndarray:
        """(S, S, 4) uint8 texture of the target -> the same with the donor's face in it."""
        donor = Image.fromarray(self._donor.paint(opening, rounding, lid, gaze)[..., :3])
        x0, y0, x1, y1 = self._box
        dx, dy = self._shift[frame]
        width, height = (x1 - x0) * self._zoom[frame], (y1 - y0) * self._zoom[frame]
        x, y = (x0 + x1 - width) / 2 + dx, (y0 + y1 - height) / 2 + dy
        source = (max(0.0, x), max(0.0, y), min(float(SIZE), x + width), min(float(SIZE), y + height))
        small = donor.resize(self._small, Image.Resampling.BOX, box=source)
        face = np.asarray(small.resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC), dtype=np.float32)
        under = texture[y0:y1, x0:x1, :3].astype(np.float32)
        if self._gains is None:  # colour transfer, found once per clip
            self._gains = _mean_under(face, self._mask), _mean_under(under, self._mask) + self._mismatch
        centre, goal = self._gains
        face = (face - centre) * self._contrast + goal + self._flicker[frame]
        out = texture.copy()
        out[y0:y1, x0:x1, :3] = np.clip(under + (face - under) * self._mask, 0, 255)
        return out


def resynthesise(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Speech (T,) at RATE -> (T,) made again from magnitudes alone, by one of two vocoders at random."""
    n_fft, hop = (512, 128) if rng.random() < 0.6 else (1024, 256)
    spectrum = np.abs(librosa.stft(audio.astype(np.float32), n_fft=n_fft, hop_length=hop))
    if rng.random() < 0.65:
        bands = int(rng.integers(40, 72))
        bank = librosa.filters.mel(sr=RATE, n_fft=n_fft, n_mels=bands, fmax=rng.uniform(7000, 8000))
        spectrum = np.maximum(np.linalg.pinv(bank) @ (bank @ spectrum), 0)
    else:
        smooth = gaussian_filter(np.log(spectrum + 1e-5), (rng.uniform(1.5, 3.0), rng.uniform(0.4, 0.9)))
        spectrum = np.exp(gaussian_filter1d(smooth, 0.8, axis=0))
    return librosa.griffinlim(
        spectrum,
        n_iter=int(rng.integers(4, 12)),
        hop_length=hop,
        n_fft=n_fft,
        length=len(audio),
        random_state=int(rng.integers(2**31)),
    )


def out_of_sync_shift(rng: np.random.Generator) -> float:
    """How late (positive) or early the sound is taken, in seconds."""
    return float(rng.choice([-1.0, 1.0]) * rng.uniform(SHORTEST_SHIFT_S, LONGEST_SHIFT_S))


def _mean_under(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return (rgb * mask).sum(axis=(0, 1)) / mask.sum()


def _pixel(v: float) -> int:
    return int(round(v * UNIT + CENTRE))
