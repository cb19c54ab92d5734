"""A video that is kept as numbered pictures: read by `read_clip` like a video without sound.

Three places are read (`is_sequence`):

    some/folder                    a folder with the frames: 000.png, 12.jpg, frame_0007.png …
    some/shard.tar.gz!/1/real/12   the folder `1/real/12` inside an archive (.tar, .tar.gz, .tgz), not extracted
    some/X_lmdb!/X/frames/000      the folder `X/frames/000` inside the lmdb database `X_lmdb/data.mdb`

The number that ends a frame's name is its place in the source video; gaps are fine. Pictures have no time
stamps and their frame rate is not kept, so time is (number - first number) / 25 s: an assumption, and every
clip read like this says so in its `warnings`.

With `ClipSettings(pictures="face")` each picture is a face crop already: nothing is searched, the clip has one
track, and only the frames that the sampling chooses are decoded. With "search" faces are found and followed as
in any video.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO

import av
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from avdetect.errors import MediaError
from avdetect.media.crops import cut_face
from avdetect.media.files import MediaInfo, check_file
from avdetect.media.images import PICTURE_FORMATS, to_rgb
from avdetect.media.lmdb_frames import lmdb_folder
from avdetect.media.mouths import empty_mouths
from avdetect.media.sampling import FrameSampler
from avdetect.media.settings import ClipSettings
from avdetect.media.tracks import FaceTrack
from avdetect.media.video import Orientation, VideoFrame

ASSUMED_FPS = 25.0  # of the source video, which the pictures do not tell
RATE_WARNING = f"pictures have no time stamps: {ASSUMED_FPS:g} frames a second are assumed"
FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_INSIDE = re.compile(r"(?P<archive>.+(?:\.tar|\.tar\.gz|\.tgz|_lmdb))!/(?P<folder>.+)", re.IGNORECASE)
_NUMBER = re.compile(r"(\d+)$")
_DAMAGED_PICTURE = (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError)
_DAMAGED_ARCHIVE = (tarfile.TarError, EOFError, zlib.error, OSError)


def is_sequence(path: str | Path) -> bool:
    """Whether `path` is a folder, or a folder inside an archive, as `open_sequence` takes."""
    return _INSIDE.fullmatch(str(path)) is not None or Path(path).is_dir()


def place_on_disk(path: str | Path) -> str:
    """What has to exist on disk for `path` to be read: the archive of a folder inside one, else `path`."""
    inside = _INSIDE.fullmatch(str(path))
    return inside["archive"] if inside else str(path)


class FrameSequence:
    """Pictures of one video in the order of their numbers; bytes are read when asked for.

    `names`: file names (the path before them does not count); `read(name)`: the bytes of one. `times` (N,)
    seconds. `damaged`: how many pictures asked for could not be decoded so far. Raises MediaError where there
    is no picture, one has no number, or two have the same.
    """

    def __init__(self, path: str | Path, names: Iterable[str], read: Callable[[str], bytes]):
        self.path = str(path)
        self._read = read
        self.damaged = 0
        numbered: dict[int, str] = {}
        for name in names:
            if not is_frame(name):
                continue
            number = _NUMBER.search(PurePosixPath(name).stem)
            if number is None:
                raise MediaError(
                    f"{path} holds {name}, which has no frame number: a folder is read as a video where the "
                    "name of every picture in it ends in its number."
                )
            other = numbered.setdefault(int(number[1]), name)
            if other != name:
                raise MediaError(f"{path}: {other} and {name} have the same frame number: keep one of them.")
        if not numbered:
            raise MediaError(
                f"{path} is a folder without numbered pictures: give one file, or a folder of frames "
                f"({', '.join(FRAME_SUFFIXES)})."
            )
        self.numbers = np.array(sorted(numbered))
        self.names = [numbered[number] for number in self.numbers.tolist()]
        self.times = (self.numbers - self.numbers[0]) / ASSUMED_FPS

    def __len__(self) -> int:
        return len(self.names)

    @property
    def frame_step_s(self) -> float:
        """Median time from one picture to the next."""
        return float(np.median(np.diff(self.times))) if len(self) > 1 else 1 / ASSUMED_FPS

    @property
    def duration_s(self) -> float:
        return float(self.times[-1]) + 1 / ASSUMED_FPS

    def rgb(self, index: int) -> np.ndarray | None:
        """(H, W, 3) uint8, upright; None where the picture is damaged, which is counted in `damaged`."""
        content = self._content(index)
        try:
            with Image.open(io.BytesIO(content), formats=PICTURE_FORMATS) as image:
                return to_rgb(ImageOps.exif_transpose(image))
        except _DAMAGED_PICTURE:
            self.damaged += 1
            return None

    def video_frames(self) -> Iterator[VideoFrame]:
        """Every picture that can be decoded as a frame of a video. Raises MediaError where none can."""
        for index, time in enumerate(self.times.tolist()):
            rgb = self.rgb(index)
            if rgb is not None:
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
                yield VideoFrame(picture, time, Orientation())
        if self.damaged == len(self):
            raise self.undecodable(len(self))

    def undecodable(self, tried: int) -> MediaError:
        return MediaError(
            f"{self.path}: none of {tried} pictures can be decoded: copy or download them again."
        )

    def info(self) -> MediaInfo:
        """Description; `sha256` is that of the bytes of all pictures, one after the other in their order."""
        digest, size, shape = hashlib.sha256(), 0, None
        for index in range(len(self)):
            content = self._content(index)
            digest.update(content)
            size += len(content)
            shape = shape or _picture_size(content)
        return MediaInfo(
            container="frames",
            size_bytes=size,
            sha256=digest.hexdigest(),
            has_video=True,
            duration_s=self.duration_s,
            video_codec=PurePosixPath(self.names[0]).suffix[1:].lower(),
            width=shape[0] if shape else None,
            height=shape[1] if shape else None,
            rotation=0,
        )

    def _content(self, index: int) -> bytes:
        try:
            return self._read(self.names[index])
        except OSError as error:
            cause = error.strerror or error
            raise MediaError(f"{self.path}: {self.names[index]} cannot be read ({cause}).") from error


def _picture_size(content: bytes) -> tuple[int, int] | None:
    """(width, height) from the header of a picture, which is not decoded; None where it is damaged."""
    try:
        with Image.open(io.BytesIO(content), formats=PICTURE_FORMATS) as image:
            return image.size
    except _DAMAGED_PICTURE:
        return None


def is_frame(name: str) -> bool:
    """Whether a file name is that of a picture (hidden files, as `._1.png` of macOS archives, are none)."""
    file = PurePosixPath(name)
    return file.suffix.lower() in FRAME_SUFFIXES and not file.name.startswith(".")


def open_sequence(path: str | Path) -> FrameSequence:
    """The frames at `path` (see `is_sequence`). Raises MediaError where there are none."""
    inside = _INSIDE.fullmatch(str(path))
    if inside is None:
        try:
            names = os.listdir(path)
        except OSError as error:
            raise MediaError(f"{path} cannot be opened ({error.strerror}): check the path.") from error
        return FrameSequence(path, names, lambda name: Path(path, name).read_bytes())
    folder = inside["folder"].strip("/")
    if inside["archive"].lower().endswith("_lmdb"):
        return FrameSequence(path, *lmdb_folder(inside["archive"], folder))
    file = check_file(inside["archive"])
    stat = file.stat()
    archive = _unpacked(str(file.absolute()), stat.st_mtime_ns, stat.st_size)
    return FrameSequence(path, *archive.folder(folder))


def archived_sequences(archive: str | Path) -> dict[str, int]:
    """Folders with pictures inside a tar archive, each with their number; it is read once, from its begin to
    its end. Raises MediaError for a damaged one."""
    found: dict[str, int] = {}
    try:
        # Forward seeks only, and tarfile tells a truncated archive in this mode alone.
        with _content_of(check_file(archive)) as content, tarfile.open(fileobj=content, mode="r:") as tar:
            for member in tar:
                if is_frame(member.name) and (member.issym() or member.islnk()):
                    raise MediaError(
                        f"{archive} holds {member.name} as a link only: pack the picture itself."
                    )
                if is_frame(member.name) and (member.name.startswith("/") or ".." in member.name.split("/")):
                    raise MediaError(f"{archive} holds {member.name}, which leads out of it: pack it anew.")
                if member.isfile() and is_frame(member.name):
                    folder = str(PurePosixPath(member.name).parent)  # drops a leading `./`
                    found[folder] = found.get(folder, 0) + 1
    except _DAMAGED_ARCHIVE as error:
        raise _damaged(archive, error) from error
    return found


def _content_of(archive: str | Path) -> IO[bytes]:
    """A tar archive, uncompressed while it is read."""
    return open(archive, "rb") if str(archive).lower().endswith(".tar") else gzip.open(archive)


class _Unpacked:
    """A tar archive, uncompressed once into a temporary file without a name so that any member can be read."""

    def __init__(self, path: str):
        self._file = tempfile.TemporaryFile(prefix="avdetect-")
        try:
            with _content_of(path) as content:
                shutil.copyfileobj(content, self._file, 2**20)
            self._file.seek(0)
            self._tar = tarfile.open(fileobj=self._file, mode="r:")
            self._folders: dict[str, dict[str, tarfile.TarInfo]] = {}
            for member in self._tar:
                if member.isfile():
                    name = PurePosixPath(member.name)
                    self._folders.setdefault(str(name.parent), {})[name.name] = member
        except _DAMAGED_ARCHIVE as error:
            raise _damaged(path, error) from error

    def folder(self, name: str) -> tuple[list[str], Callable[[str], bytes]]:
        members = self._folders.get(name, {})
        return list(members), lambda file: self._tar.extractfile(members[file]).read()


@functools.lru_cache(maxsize=1)
def _unpacked(path: str, mtime_ns: int, size: int) -> _Unpacked:
    """The archive read last stays open: its sequences are mostly read one after the other."""
    return _Unpacked(path)


def _damaged(archive: str | Path, error: Exception) -> MediaError:
    return MediaError(f"{archive} is no readable archive ({str(error).rstrip('.')}): download it again.")


def whole_picture_track(sequence: FrameSequence, settings: ClipSettings) -> FaceTrack:
    """One track of the pictures that `settings.sampling` chooses, each taken whole.

    What cannot be decoded is left out; MediaError where nothing is left. Beyond `max_crops` every other crop
    is dropped, as in any video.
    """
    sampler = FrameSampler(settings, len(sequence))
    chosen = [index for index, time in enumerate(sequence.times.tolist()) if sampler.take(time)[1]]
    while len(chosen) > settings.max_crops:
        chosen = chosen[::2]
    whole = replace(settings, crop_margin=0.0)
    times, boxes, crops = [], [], []
    for index in chosen:
        rgb = sequence.rgb(index)
        if rgb is None:
            continue
        box = np.array([0, 0, rgb.shape[1], rgb.shape[0]], np.float32)
        times.append(sequence.times[index])
        boxes.append(box)
        crops.append(cut_face(rgb, box, whole))
    if not crops:
        raise sequence.undecodable(len(chosen))
    stamps = np.array(times)
    probs = np.ones(len(crops), np.float32)
    return FaceTrack(0, stamps, np.stack(boxes), probs, stamps, np.stack(crops), 0, empty_mouths(settings))
