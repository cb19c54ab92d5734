"""Mouth crops and the audio beside them, on one grid."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from avdetect.errors import ConfigError
from avdetect.transforms.audio import add_noise
from avdetect.transforms.settings import Settings


def _check_mouths(mouths: np.ndarray) -> None:
    if mouths.dtype != np.uint8 or mouths.shape[3:] not in ((), (3,)) or mouths.ndim < 3:
        raise ValueError(
            f"mouth crops must be uint8 (M, m, m) or (M, m, m, 3), not {mouths.dtype} {mouths.shape}"
        )


@dataclass(frozen=True)
class LipSyncPreprocess(Settings):
    """Mouth crops and a clip's audio -> the two inputs of a lip-sync encoder, cut to the same span.

    `clip_settings` are the fields of `media.ClipSettings` with which a file must be read for it.
    """

    mouth_size: int = 48
    grid_fps: float = 25.0
    sample_rate: int = 16000
    region: str = "mouth"  # "mouth", or "face": the crop of the whole face that SyncNet takes
    colour: bool = False

    def __post_init__(self) -> None:
        if self.region not in ("mouth", "face"):
            raise ConfigError(f"lip-sync region is {self.region!r}: it must be mouth or face.")
        for name in ("mouth_size", "grid_fps", "sample_rate"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise ConfigError(
                    f"the {name} of a lip-sync input is {value!r}: it must be a positive number"
                )

    @property
    def clip_settings(self) -> dict[str, Any]:
        """For `ClipSettings(**encoder.preprocess.clip_settings)`."""
        return {
            "mouth_size": self.mouth_size,
            "mouth_region": self.region,
            "mouth_colour": self.colour,
            "grid_fps": self.grid_fps,
            "sample_rate": self.sample_rate,
        }

    @property
    def samples_per_frame(self) -> int:
        """Audio samples that pass during one grid frame."""
        return round(self.sample_rate / self.grid_fps)

    def __call__(self, mouths: np.ndarray, mouth_start: int, audio: np.ndarray) -> tuple[Tensor, Tensor]:
        """mouths: uint8 (M, m, m) grey or (M, m, m, 3) RGB, the first at grid index `mouth_start`; audio:
        float (T,) from time 0.

        Returns mouths and waveform (1, M * samples_per_frame) float32. Mouths, S = mouth_size: grey as
        float32 (1, M, S, S) in [0, 1]; colour as uint8 (1, M, S, S, 3), because whole faces are large: the
        network makes them float piece by piece. Where the audio ends before the mouths it is filled with
        zeros, which the encoder treats as silence: no evidence. Raises `ConfigError` for grey mouths where
        the encoder takes colour, or the reverse.
        """
        _check_mouths(mouths)
        if (mouths.ndim == 4) != self.colour:
            kinds = ("grey", "RGB") if self.colour else ("RGB", "grey")
            raise ConfigError(
                f"The mouth crops are {kinds[0]} and this lip-sync encoder takes {kinds[1]}: read or prepare "
                f"the file with the clip settings mouth_colour={self.colour}, mouth_region={self.region}, "
                f"mouth_size={self.mouth_size}."
            )
        frames = self._colour(mouths) if self.colour else self._grey(mouths)
        first, length = mouth_start * self.samples_per_frame, len(mouths) * self.samples_per_frame
        part = audio[first : first + length]
        waveform = np.zeros(length, dtype=np.float32)
        waveform[: part.size] = part
        return frames, torch.from_numpy(waveform).unsqueeze(0)

    def _grey(self, mouths: np.ndarray) -> Tensor:
        frames = torch.tensor(mouths).to(torch.float32).div_(255.0).unsqueeze(0)
        return self._resized(frames) if len(mouths) else frames

    def _colour(self, mouths: np.ndarray) -> Tensor:
        frames = torch.tensor(mouths)
        if len(mouths):
            frames = self._resized(frames.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return frames.contiguous().unsqueeze(0)

    def _resized(self, frames: Tensor) -> Tensor:
        """(A, B, m, m) -> (A, B, mouth_size, mouth_size)."""
        size = (self.mouth_size, self.mouth_size)
        if frames.shape[-2:] == size:
            return frames
        return F.interpolate(frames, size=size, mode="bilinear", antialias=True, align_corners=False)


@dataclass(frozen=True)
class LipSyncAugment(Settings):
    """Random changes of light, framing and sound that leave the timing alone; one draw for the whole clip."""

    flip_p: float = 0.5
    light_p: float = 0.7
    brightness: float = 0.15  # largest shift, as a part of the 0..255 range
    contrast: float = 0.3  # largest relative change
    shift_p: float = 0.7
    shift: float = 0.06  # largest shift, as a part of the side
    scale: float = 0.1  # largest relative zoom
    gain_db: tuple[float, float] = (-12.0, 6.0)
    noise_p: float = 0.4
    snr_db: tuple[float, float] = (10.0, 40.0)

    def __call__(
        self, mouths: np.ndarray, audio: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """mouths: uint8 (M, m, m[, 3]); audio: float (T,) -> both, changed, of the same shapes."""
        _check_mouths(mouths)
        out = mouths
        if rng.random() < self.flip_p:
            out = out[:, :, ::-1]
        if rng.random() < self.shift_p:
            out = self._reframe(np.ascontiguousarray(out), rng)
        if rng.random() < self.light_p:
            out = self._relight(out, rng)
        sound = audio.astype(np.float32, copy=False)
        if rng.random() < self.noise_p and sound.size:
            sound = add_noise(sound, rng.uniform(*self.snr_db), rng.uniform(0.0, 1.0), rng)
        sound = sound * np.float32(10 ** (rng.uniform(*self.gain_db) / 20))
        return np.ascontiguousarray(out), sound

    def _reframe(self, mouths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        side = mouths.shape[2]
        zoom = 1.0 + rng.uniform(-self.scale, self.scale)
        centre = side / 2 + rng.uniform(-self.shift, self.shift, size=2) * side
        margin = min(int(side * (self.scale / 2 + self.shift)) + 1, side - 1)
        box = (
            centre[0] - side / 2 / zoom + margin,
            centre[1] - side / 2 / zoom + margin,
            centre[0] + side / 2 / zoom + margin,
            centre[1] + side / 2 / zoom + margin,
        )
        around = ((0, 0), (margin, margin), (margin, margin), (0, 0))
        padded = np.pad(mouths, around[: mouths.ndim], "reflect")
        limit = padded.shape[2]
        box = tuple(float(np.clip(edge, 0, limit)) for edge in box)
        frames = (
            Image.fromarray(frame).resize((side, side), Image.Resampling.BILINEAR, box) for frame in padded
        )
        return np.stack([np.asarray(frame) for frame in frames]) if len(mouths) else mouths

    def _relight(self, mouths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        contrast = 1.0 + rng.uniform(-self.contrast, self.contrast)
        shift = rng.uniform(-self.brightness, self.brightness) * 255.0
        table = np.clip(np.rint((np.arange(256) - 127.5) * contrast + 127.5 + shift), 0, 255).astype(np.uint8)
        return table[mouths]
