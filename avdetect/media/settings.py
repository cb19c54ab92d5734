"""How a file is read. The settings travel with the weights trained on what they gave."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, fields

from avdetect.errors import ConfigError


@dataclass(frozen=True)
class ClipSettings:
    """Sampling in time and space of faces, mouths and sound."""

    detect_interval_s: float = 0.25  # faces are searched every so many seconds
    detect_max_side: int = 640  # on frames reduced to this longer side (single images: twice this)
    min_face_px: int = 32  # smallest face side, pixels of the upright original frame
    min_face_prob: float = 0.9  # smallest detector confidence
    max_tracks: int = 6  # most prominent tracks kept (duration x area)
    crop_margin: float = 0.2  # square crop: side = (1 + 2 margin) max(w, h) of the face box, same centre
    crop_size: int = 224  # crops are stored with this side
    max_crops: int = 48  # per track; beyond it every other crop is dropped and the stride doubles
    mouth_size: int = 48  # side of the grey mouth crops
    mouth_scale: float = 0.55  # side of the square mouth box / height of the face box (nose tip to chin)
    grid_fps: float = 25.0  # mouth crops per second
    sample_rate: int = 16000  # of the sound, Hz
    pictures: str = "search"  # still pictures: "search" for faces, or "face": each is a face crop already

    def __post_init__(self) -> None:
        if self.pictures not in ("search", "face"):
            raise ConfigError(f"clip setting pictures is {self.pictures!r}: it must be search or face.")
        for name in (
            "detect_interval_s",
            "detect_max_side",
            "max_tracks",
            "crop_size",
            "max_crops",
            "mouth_size",
            "mouth_scale",
            "grid_fps",
            "sample_rate",
        ):
            if not getattr(self, name) > 0:
                raise ConfigError(f"clip setting {name} is {getattr(self, name)}: it must be positive.")

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> ClipSettings:
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                close = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}."
                raise ConfigError(f"clip setting '{name}' is unknown: {hint}")
        return cls(**values)
