"""How a file is read. The settings travel with the weights trained on what they gave."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, fields

from avdetect.errors import ConfigError

_CHOICES = {
    "sampling": ("interval", "uniform", "every", "first"),
    "crop_policy": ("scale", "tight"),
    "mouth_region": ("mouth", "face"),
    "pictures": ("search", "face"),
}


@dataclass(frozen=True)
class ClipSettings:
    """Sampling in time and space of faces, mouths and sound."""

    detect_interval_s: float = 0.25  # faces are searched every so many seconds
    detect_max_side: int = 640  # on frames reduced to this longer side (single images: twice this)
    min_face_px: int = 32  # smallest face side, pixels of the upright original frame
    min_face_prob: float = 0.9  # smallest detector confidence
    max_tracks: int = 6  # most prominent tracks kept (duration x area)
    # Frames that face crops are taken from. "interval": every one that is searched; "uniform":
    # `sampling_frames` spread evenly over the video, by frame number; "every": every `sampling_step`-th;
    # "first": the first `sampling_frames` that lie `sampling_interval_s` apart, by time stamp. These are
    # searched in addition.
    sampling: str = "interval"
    sampling_frames: int = 32
    sampling_step: int = 10
    sampling_interval_s: float = 0.5
    # "scale": a square with `crop_margin` around the face box, the frame's edges repeated; "tight": the box
    # alone, made square with black bars.
    crop_policy: str = "scale"
    crop_margin: float = 0.2  # square crop: side = (1 + 2 margin) max(w, h) of the face box, same centre
    crop_size: int = 224  # crops are stored with this side
    max_crops: int = 48  # per track; beyond it every other crop is dropped and the stride doubles
    mouth_region: str = "mouth"  # what lip-sync sees: the "mouth", or the whole "face" as SyncNet does
    mouth_colour: bool = False  # mouth crops are grey, or RGB
    mouth_size: int = 48  # side of the mouth crops
    mouth_scale: float = 0.55  # side of the square mouth box / height of the face box (nose tip to chin)
    grid_fps: float = 25.0  # mouth crops per second
    sample_rate: int = 16000  # of the sound, Hz
    pictures: str = "search"  # still pictures: "search" for faces, or "face": each is a face crop already

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(
                    f"clip setting {name} is {getattr(self, name)!r}: it must be {' or '.join(choices)}."
                )
        for name in ("sampling_frames", "sampling_step"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ConfigError(
                    f"clip setting {name} is {getattr(self, name)}: it must be a whole number from 1 on."
                )
        if self.sampling in ("uniform", "first") and self.sampling_frames > self.max_crops:
            raise ConfigError(
                f"clip setting sampling_frames is {self.sampling_frames} but max_crops is {self.max_crops}: "
                "raise max_crops or sample fewer frames."
            )
        for name in (
            "sampling_interval_s",
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
            if not (isinstance(getattr(self, name), int | float) and getattr(self, name) > 0):
                raise ConfigError(
                    f"clip setting {name} is {getattr(self, name)!r}: it must be a positive number."
                )

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
