"""What a report shows besides the verdict, and how it becomes pictures inside the page (data: URIs)."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from io import BytesIO

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
    """One face crop. crop: (H, W, 3) uint8 RGB; attention: (h, w) in 0..1 or None; score: P(fake) or None."""

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
class ReportPictures:
    """Evidence to look at; whatever is None is replaced by its reason in the page.

    mel: (bands, frames) dB, band 0 lowest; mel_hop_s: seconds per frame; mel_centres_hz: (bands,) rising;
    mel_max_hz: upper edge of the top band; sync_curve: (offsets,) lip-voice distance at sync_offsets_ms.
    """

    faces: list[FacePicture] = field(default_factory=list)
    mel: np.ndarray | None = None
    mel_hop_s: float | None = None
    mel_max_hz: float | None = None
    mel_centres_hz: np.ndarray | None = None
    sync_curve: np.ndarray | None = None
    sync_offsets_ms: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.mel is not None:
            if self.mel_hop_s is None or self.mel_max_hz is None or self.mel_centres_hz is None:
                raise ValueError("a mel-spectrogram needs mel_hop_s, mel_max_hz and mel_centres_hz")
            if np.ndim(self.mel) != 2 or len(self.mel) != len(self.mel_centres_hz):
                raise ValueError(
                    f"mel is (bands, frames) with one centre per band, found {np.shape(self.mel)}"
                )
        if self.sync_curve is not None and np.shape(self.sync_curve) != np.shape(self.sync_offsets_ms):
            raise ValueError("sync_curve and sync_offsets_ms must have the same length")


def crop_uri(crop: np.ndarray) -> str:
    """The face crop (H, W, 3) uint8 as JPEG."""
    return _jpeg_uri(_reduced(crop))


def overlay_uri(crop: np.ndarray, attention: np.ndarray) -> str | None:
    """The crop in grey under its attention map, stretched from its own lowest to its own highest value.

    None where the map is even: stretching it would show differences that are none.
    """
    values = np.asarray(attention, np.float32)
    spread = float(np.ptp(values)) if np.isfinite(values).all() else 0.0
    if spread < _MIN_ATTENTION_SPREAD:
        return None
    values = (values - values.min()) / spread
    base = _reduced(crop)
    size = (base.shape[1], base.shape[0])
    large = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    heat = matplotlib.colormaps["inferno"](large)[..., :3] * 255
    grey = np.repeat(np.asarray(Image.fromarray(base).convert("L"), np.float32)[..., None], 3, axis=2)
    opacity = _OVERLAY_OPACITY * large[..., None]
    return _jpeg_uri(np.rint(grey * (1 - opacity) + heat * opacity).astype(np.uint8))


def mel_uri(mel: np.ndarray) -> str:
    """The mel-spectrogram (bands, frames) dB as PNG, low tones at the bottom, one pixel a band.

    Long recordings are pooled to `_MEL_COLUMNS` columns, each the loudest of its frames.
    """
    values = np.asarray(mel, np.float32)
    starts = np.unique(np.linspace(0, values.shape[1], _MEL_COLUMNS, endpoint=False).astype(int))
    values = np.maximum.reduceat(values, starts, axis=1)
    finite = values[np.isfinite(values)]
    top = float(finite.max()) if finite.size else 0.0
    shade = (np.nan_to_num(values, nan=-np.inf, posinf=top) - (top - MEL_RANGE_DB)) / MEL_RANGE_DB
    image = Image.fromarray(np.rint(shade.clip(0, 1) * 255).astype(np.uint8)[::-1], "L")
    image.putpalette((matplotlib.colormaps["magma"](np.arange(256))[:, :3] * 255).astype(np.uint8).tobytes())
    return _uri(image, "png", optimize=True)


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
