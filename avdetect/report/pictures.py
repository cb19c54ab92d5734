"""What a report shows besides the verdict, and how it becomes pictures inside the page (data: URIs)."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

MEL_RANGE_DB = 80.0  # shown below the loudest point
_MEL_COLUMNS = 1200
_CROP_SIDE = 320  # pixels in the page; larger crops are reduced
_OVERLAY_OPACITY = 0.65
_MIN_ATTENTION_SPREAD = 1e-3


@dataclass
class FacePicture:
    """One face crop. crop: (H, W, 3) uint8 RGB; attention: map (h, w) or None; score: P(fake) or None."""

    track_id: int
    time_s: float
    score: float | None
    crop: np.ndarray
    attention: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.crop.dtype != np.uint8 or self.crop.ndim != 3 or self.crop.shape[2] != 3:
            raise ValueError(f"a face crop is (H, W, 3) uint8, found {self.crop.shape} {self.crop.dtype}")
        if self.attention is not None and np.ndim(self.attention) != 2:
            raise ValueError(f"an attention map is (h, w), found {np.shape(self.attention)}")


@dataclass
class Sound:
    """A stretch of the file's sound as a data: URI."""

    uri: str
    start_s: float
    length_s: float


@dataclass
class ReportPictures:
    """Evidence to look at; whatever is None is replaced by its reason in the page.

    mel: (bands, frames) dB, band 0 lowest, from mel_start_s on; mel_hop_s: seconds per frame; mel_centres_hz:
    (bands,) rising; mel_max_hz: upper edge of the top band; voice_map: of the shape of mel, 0 and above; sync_curve:
    (offsets,) lip-voice distance at sync_offsets_ms; lips_map: (T,) at lips_times_s; map_notes: by modality what its
    map means, or why there is none; card: of the detector, {} where it is not known.
    """

    faces: list[FacePicture] = field(default_factory=list)
    mel: np.ndarray | None = None
    mel_start_s: float = 0.0
    mel_hop_s: float | None = None
    mel_max_hz: float | None = None
    mel_centres_hz: np.ndarray | None = None
    voice_map: np.ndarray | None = None
    sync_curve: np.ndarray | None = None
    sync_offsets_ms: np.ndarray | None = None
    lips_map: np.ndarray | None = None
    lips_times_s: np.ndarray | None = None
    sound: Sound | None = None
    map_notes: dict[str, str] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.mel is not None:
            if self.mel_hop_s is None or self.mel_max_hz is None or self.mel_centres_hz is None:
                raise ValueError("a mel-spectrogram needs mel_hop_s, mel_max_hz and mel_centres_hz")
            if np.ndim(self.mel) != 2 or len(self.mel) != len(self.mel_centres_hz):
                raise ValueError(
                    f"mel is (bands, frames) with one centre per band, found {np.shape(self.mel)}"
                )
        if self.voice_map is not None and np.shape(self.voice_map) != np.shape(self.mel):
            found = f"{np.shape(self.voice_map)} and {np.shape(self.mel)}"
            raise ValueError(f"voice_map and mel must have the same shape, found {found}")
        if np.shape(self.lips_map) != np.shape(self.lips_times_s):
            raise ValueError("lips_map and lips_times_s must have the same length")
        if self.sync_curve is not None and np.shape(self.sync_curve) != np.shape(self.sync_offsets_ms):
            raise ValueError("sync_curve and sync_offsets_ms must have the same length")


def crop_uri(crop: np.ndarray) -> str:
    """The face crop (H, W, 3) uint8 as JPEG."""
    return _jpeg_uri(_reduced(crop))


def overlay_uri(crop: np.ndarray, attention: np.ndarray) -> str | None:
    """The crop in grey under its attention map, stretched from its own lowest to its own highest value.

    None where the map is even: stretching it would show differences that are none.
    """
    values = _stretched(attention)
    if values is None:
        return None
    base = _reduced(crop)
    size = (base.shape[1], base.shape[0])
    large = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    return _jpeg_uri(_under_heat(np.asarray(Image.fromarray(base).convert("L"), np.float32), large))


def _stretched(values: np.ndarray) -> np.ndarray | None:
    """From the lowest to the highest value -> 0..1, float32; None where they hardly differ for their size."""
    values = np.asarray(values, np.float32)
    spread = float(np.ptp(values)) if values.size and np.isfinite(values).all() else 0.0
    if spread < _MIN_ATTENTION_SPREAD * max(1e-9, float(np.abs(values).max(initial=0.0))):
        return None
    return (values - values.min()) / spread


def _under_heat(grey: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Grey 0..255 (H, W) under a map 0..1 (H, W) -> (H, W, 3) uint8."""
    colours = matplotlib.colormaps["inferno"](heat)[..., :3] * 255
    opacity = _OVERLAY_OPACITY * heat[..., None]
    return np.rint(grey[..., None] * (1 - opacity) + colours * opacity).astype(np.uint8)


def mel_uri(mel: np.ndarray) -> str:
    """The mel-spectrogram (bands, frames) dB as PNG, low tones at the bottom, one pixel a band.

    Long recordings are pooled to `_MEL_COLUMNS` columns, each the loudest of its frames.
    """
    image = Image.fromarray(np.rint(_shade(mel) * 255).astype(np.uint8)[::-1], "L")
    image.putpalette(mel_palette())
    return _uri(image, "png", optimize=True)


def mel_palette() -> bytes:
    """Red, green and blue of the 256 shades, from `MEL_RANGE_DB` below the loudest point up to it."""
    return (matplotlib.colormaps["magma"](np.arange(256))[:, :3] * 255).astype(np.uint8).tobytes()


def mel_overlay_uri(mel: np.ndarray, values: np.ndarray) -> str | None:
    """The mel-spectrogram in grey under a map of its shape; None where the map is even."""
    columns = _column_starts(values)
    widths = np.diff(np.append(columns, np.shape(values)[1]))
    pooled = _stretched(np.add.reduceat(np.asarray(values, np.float32), columns, axis=1) / widths)
    return None if pooled is None else _jpeg_uri(_under_heat(170 * _shade(mel), pooled)[::-1])


def _column_starts(values: np.ndarray) -> np.ndarray:
    return np.unique(np.linspace(0, np.shape(values)[1], _MEL_COLUMNS, endpoint=False).astype(int))


def _shade(mel: np.ndarray) -> np.ndarray:
    """(bands, frames) dB -> (bands, columns) in 0..1 over `MEL_RANGE_DB` below the loudest point."""
    values = np.maximum.reduceat(np.asarray(mel, np.float32), _column_starts(mel), axis=1)
    finite = values[np.isfinite(values)]
    top = float(finite.max()) if finite.size else 0.0
    shade = (np.nan_to_num(values, nan=-np.inf, posinf=top) - (top - MEL_RANGE_DB)) / MEL_RANGE_DB
    return shade.clip(0, 1)


def _reduced(crop: np.ndarray) -> np.ndarray:
    image = Image.fromarray(crop)
    image.thumbnail((_CROP_SIDE, _CROP_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _jpeg_uri(pixels: np.ndarray) -> str:
    return _uri(Image.fromarray(pixels), "jpeg", quality=92, subsampling=0)


def _uri(image: Image.Image, kind: str, **options: int | bool) -> str:
    out = BytesIO()
    image.save(out, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
