"""Mouth crops of one face on the dense grid, cut while the frames stream by."""

from __future__ import annotations

import math

import numpy as np

from avdetect.media.crops import cut_region, region_geometry
from avdetect.media.settings import ClipSettings
from avdetect.media.spool import SpooledArray
from avdetect.media.video import VideoFrame

_SAME_TIME_S = 1e-3  # rounding of time stamps in containers
_SIZE_MEMORY = 0.7  # share of the old mouth size: the face box breathes with the mouth, its square must not
# Grid points to both sides over which the course of the square is smoothed by a running median: 13 for the
# face crop, as in SyncNet's pipeline (which takes in zeros at the ends of a track; here the median is shorter
# there).
_HALF_MEDIAN = {"mouth": 0, "face": 6}


class MouthGrid:
    """The mouths (or whole faces, `mouth_region`) of one track at every grid point from `start` on.

    Between two detections the square is interpolated linearly; during missed ones it stays where it was, and
    what is cut meanwhile counts only if the face returns. A few frames wait for the smoothing; crops are
    spooled.
    """

    def __init__(self, settings: ClipSettings, start: int, box: np.ndarray, landmarks: np.ndarray):
        self.settings = settings
        self.start = start
        self._half = _HALF_MEDIAN[settings.mouth_region]
        self._geometry = region_geometry(box, landmarks, settings)  # at the last detection
        self._crops = SpooledArray(empty_mouths(settings).shape[1:], np.uint8)
        self._waiting: list[VideoFrame] = []  # one a grid point, not cut yet
        self._course: list[np.ndarray] = []  # geometries: of those waiting, and of a few points before
        self._held: list[np.ndarray] = []  # crops cut during misses

    def follow(self, frames: list[VideoFrame], box: np.ndarray, landmarks: np.ndarray) -> None:
        """The face was found again in the last of `frames`, which begin with the frame searched before."""
        geometry = region_geometry(box, landmarks, self.settings)
        if self.settings.mouth_region == "mouth":
            geometry[2] = _SIZE_MEMORY * self._geometry[2] + (1 - _SIZE_MEMORY) * geometry[2]
        if self._held:
            self._crops.append(np.array(self._held, np.uint8))
            self._held = []
        shown, course = self._points(frames, geometry)
        self._waiting += shown
        self._course += course
        self._cut_waiting(len(self._waiting) - self._half)
        self._geometry = geometry

    def miss(self, frames: list[VideoFrame]) -> None:
        """The face was not found in the last of `frames`: cut where it was last."""
        self._flush()
        shown, course = self._points(frames, self._geometry)
        self._held += self._cut(shown, course)

    def finish(self) -> np.ndarray:
        """(M, m, m) or (M, m, m, 3) uint8 up to the last detection."""
        self._flush()
        return self._crops.array()

    def _flush(self) -> None:
        self._cut_waiting(len(self._waiting))
        self._course = []

    def _cut_waiting(self, count: int) -> None:
        """Cut the first `count` of the frames that wait."""
        if count <= 0:
            return
        first = len(self._course) - len(self._waiting)
        smooth = [
            np.median(self._course[max(0, at - self._half) : at + self._half + 1], axis=0)
            for at in range(first, first + count)
        ]
        self._crops.append(np.array(self._cut(self._waiting[:count], smooth), np.uint8))
        del self._waiting[:count]
        del self._course[: max(0, first + count - self._half)]

    def _cut(self, frames: list[VideoFrame], course: list[np.ndarray]) -> list[np.ndarray]:
        crops, last, rgb = [], None, None
        for frame, geometry in zip(frames, course, strict=True):
            if not self.settings.mouth_colour:
                crops.append(frame.full_range(cut_region(frame.luma(), geometry, self.settings)))
                continue
            if frame is not last:
                last, rgb = frame, frame.rgb()
            crops.append(cut_region(rgb, geometry, self.settings))
        return crops

    def _points(
        self, frames: list[VideoFrame], geometry: np.ndarray
    ) -> tuple[list[VideoFrame], list[np.ndarray]]:
        """Frame and square at the grid points up to the last frame; the square moves on to `geometry`."""
        fps, begin, end = self.settings.grid_fps, frames[0].time, frames[-1].time
        stamps = np.array([frame.time for frame in frames])
        next_point = self.start + len(self._crops) + len(self._waiting) + len(self._held)
        shown, course = [], []
        for grid in range(next_point, math.floor((end + _SAME_TIME_S) * fps) + 1):
            time = grid / fps
            frame = frames[max(0, int(np.searchsorted(stamps, time + _SAME_TIME_S, side="right")) - 1)]
            share = min(1.0, max(0.0, (frame.time - begin) / (end - begin))) if end > begin else 1.0
            shown.append(frame)
            course.append((1 - share) * self._geometry + share * geometry)
        return shown, course


def empty_mouths(settings: ClipSettings) -> np.ndarray:
    """No mouths: (0, m, m) or (0, m, m, 3) uint8."""
    colour = (3,) if settings.mouth_colour else ()
    return np.zeros((0, settings.mouth_size, settings.mouth_size, *colour), np.uint8)
