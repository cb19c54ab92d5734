"""Clips on disk: one uncompressed .npz each, face crops as PNG members (lossless, readable one by one)."""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from avdetect.errors import DataError
from avdetect.media.clip import Clip
from avdetect.media.files import MediaInfo
from avdetect.media.settings import ClipSettings
from avdetect.media.tracks import FaceTrack

SCHEMA = "avdetect.clip/1"
_TRACK_ARRAYS = ("times", "boxes", "probs", "crop_times", "mouths")


def save_clip(clip: Clip, path: str | Path) -> None:
    """Write `clip` to `path`: beside it first, then renamed, so that no half-written file has the name."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("meta.json", json.dumps(_meta(clip)))
            if clip.audio is not None:
                _write_array(archive, "audio", clip.audio)
            for track in clip.tracks:
                for name in _TRACK_ARRAYS:
                    _write_array(archive, f"track{track.id}/{name}", getattr(track, name))
                for k, crop in enumerate(track.crops):
                    png = io.BytesIO()
                    Image.fromarray(crop).save(png, "PNG", compress_level=1)
                    archive.writestr(_crop_name(track.id, k), png.getvalue())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes files that only their owner reads
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def load_clip(path: str | Path) -> Clip:
    """The clip that `save_clip` wrote. Raises DataError where it is missing or damaged."""
    with ClipFile(path) as file:
        meta = file.meta
        size = meta["settings"]["crop_size"]
        tracks = []
        for number, track in enumerate(meta["tracks"]):
            crops = [file.crop(number, k) for k in range(track["crops"])]
            arrays = {name: file.track_array(number, name) for name in _TRACK_ARRAYS}
            tracks.append(
                FaceTrack(
                    id=track["id"],
                    mouth_start=track["mouth_start"],
                    crops=np.stack(crops) if crops else np.zeros((0, size, size, 3), np.uint8),
                    **arrays,
                )
            )
        return Clip(
            meta["path"],
            meta["kind"],
            meta["duration_s"],
            MediaInfo(**meta["info"]),
            ClipSettings.from_dict(meta["settings"]),
            tracks,
            file.audio(),
            meta["reasons"],
            meta["warnings"],
            meta["timing_s"],
        )


class ClipFile:
    """A saved clip opened lazily, for loaders that want one crop or one stretch at a time; reopens after
    pickling.

    `meta`: path, kind, duration_s, info, settings, reasons, warnings, timing_s, `audio_samples` (None: no
    sound) and `tracks`, a list of dicts with id, mouth_start, detections, crops, mouths (counts). `track`
    below is the position in that list. Raises DataError where the file is missing or damaged.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            self._archive = zipfile.ZipFile(self.path)
            self.meta: dict = json.loads(self._archive.read("meta.json"))
        except FileNotFoundError as error:
            raise DataError(f"prepared clip {path} is missing: run 'avdetect data prepare' again.") from error
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{path} is no prepared clip or is damaged ({error}): delete it and run 'avdetect data "
                "prepare' again."
            ) from error
        if self.meta.get("schema") != SCHEMA:
            raise DataError(
                f"{path} has the schema {self.meta.get('schema')!r} where {SCHEMA!r} is expected: prepare "
                "it again."
            )

    def __enter__(self) -> ClipFile:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def __getstate__(self) -> dict:
        return {"path": self.path}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["path"])

    def close(self) -> None:
        self._archive.close()

    def crop(self, track: int, k: int) -> np.ndarray:
        """(S, S, 3) uint8 RGB, the k-th face crop of a track."""
        with Image.open(io.BytesIO(self._read(_crop_name(self._id(track), k))), formats=("PNG",)) as image:
            return np.asarray(image)

    def mouths(self, track: int) -> np.ndarray:
        """(M, m, m) uint8 grey or (M, m, m, 3) RGB."""
        return self.track_array(track, "mouths")

    def audio(self) -> np.ndarray | None:
        """(T,) float32 mono, or None."""
        return None if self.meta["audio_samples"] is None else self._array("audio")

    def track_array(self, track: int, name: str) -> np.ndarray:
        """One of times, boxes, probs, crop_times, mouths of a track."""
        return self._array(f"track{self._id(track)}/{name}")

    def _id(self, track: int) -> int:
        return self.meta["tracks"][track]["id"]

    def _array(self, name: str) -> np.ndarray:
        return np.lib.format.read_array(io.BytesIO(self._read(f"{name}.npy")), allow_pickle=False)

    def _read(self, member: str) -> bytes:
        try:
            return self._archive.read(member)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{self.path} is damaged at {member} ({error}): delete it and run 'avdetect data prepare' "
                "again."
            ) from error


def _crop_name(track_id: int, k: int) -> str:
    return f"track{track_id}/crop{k:04d}.png"


def _write_array(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def _meta(clip: Clip) -> dict:
    return {
        "schema": SCHEMA,
        "path": clip.path,
        "kind": clip.kind,
        "duration_s": clip.duration_s,
        "info": asdict(clip.info),
        "settings": clip.settings.to_dict(),
        "reasons": clip.reasons,
        "warnings": clip.warnings,
        "timing_s": clip.timing_s,
        "audio_samples": None if clip.audio is None else len(clip.audio),
        "tracks": [
            {
                "id": track.id,
                "mouth_start": track.mouth_start,
                "detections": len(track.times),
                "crops": len(track.crops),
                "mouths": len(track.mouths),
            }
            for track in clip.tracks
        ],
    }
