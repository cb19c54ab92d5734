"""What a media file is, and the checks that need no decoder."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

from avdetect.errors import MediaError

ACCEPTED = (
    "video (mp4, mov, mkv, webm, avi, mpg …), image (jpg, png, webp, bmp, tiff) "
    "or audio (wav, flac, mp3, m4a, ogg, opus)"
)


@dataclass(frozen=True)
class MediaInfo:
    """What a file is. Width and height are those of the upright picture; unknown or absent entries are
    None."""

    container: str
    size_bytes: int
    sha256: str
    has_video: bool = False
    has_audio: bool = False
    is_image: bool = False
    duration_s: float | None = None  # announced by the container
    video_codec: str | None = None
    fps: float | None = None  # average; time stamps are used for timing, not this
    width: int | None = None
    height: int | None = None
    rotation: int | None = None  # degrees counter-clockwise that were applied: 0, 90, 180, 270
    pix_fmt: str | None = None
    video_start_s: float | None = None  # first frame, on the container's clock
    audio_codec: str | None = None
    sample_rate: int | None = None
    channels: int | None = None
    audio_start_s: float | None = None  # first sample, on the container's clock
    tags: dict[str, str] = field(default_factory=dict)  # of `media.tags`

    def to_dict(self) -> dict:
        return asdict(self)


def check_file(path: str | Path) -> Path:
    """`path` as an existing, non-empty file. Raises MediaError."""
    file = Path(path)
    if file.is_dir():
        raise MediaError(f"{path} is a folder: give one {ACCEPTED} file.")
    if not file.exists():
        raise MediaError(f"{path} does not exist: check the path.")
    if not file.is_file():
        raise MediaError(f"{path} is not a regular file: save it as a file first.")
    try:
        size = file.stat().st_size
        file.open("rb").close()
    except OSError as error:
        raise MediaError(f"{path} cannot be opened ({error.strerror}): check its permissions.") from error
    if size == 0:
        raise MediaError(f"{path} is empty (0 bytes): copy or download it again.")
    return file


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
