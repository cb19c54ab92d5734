"""Which frames of a video are searched for faces, and from which of them face crops are taken."""

from __future__ import annotations

import math

import numpy as np

from avdetect.media.settings import ClipSettings

_SAME_TIME_S = 1e-3  # rounding of time stamps in containers


class FrameSampler:
    """Asked once for every frame, in order of presentation.

    Faces are searched every `detect_interval_s`, so that they can be followed, and in every frame from which
    crops are to be taken. `frame_count`: frames of the video, needed for `sampling="uniform"`.
    """

    def __init__(self, settings: ClipSettings, frame_count: int | None = None):
        self.settings = settings
        self._index = 0
        self._search = _Clock(settings.detect_interval_s)
        self._first = _Clock(settings.sampling_interval_s)
        self._taken = 0
        self._wanted: set[int] = set()
        if settings.sampling == "uniform":
            if frame_count is None:
                raise ValueError("uniform sampling needs the number of frames")
            places = np.linspace(0, max(frame_count - 1, 0), settings.sampling_frames)
            self._wanted = set(places.astype(int).tolist())

    def take(self, time: float) -> tuple[bool, bool]:
        """Whether the next frame, at `time` seconds, is searched, and whether crops are taken from it."""
        due = self._search.due(time)
        crop = due if self.settings.sampling == "interval" else self._chosen(time)
        self._index += 1
        return due or crop, crop

    def _chosen(self, time: float) -> bool:
        if self.settings.sampling == "uniform":
            return self._index in self._wanted
        if self.settings.sampling == "every":
            return self._index % self.settings.sampling_step == 0
        if self._taken == self.settings.sampling_frames or not self._first.due(time):
            return False
        self._taken += 1
        return True


class _Clock:
    """Tells the first frame at or after every multiple of an interval; a gap in the frames counts once."""

    def __init__(self, interval_s: float):
        self._interval_s = interval_s
        self._next_s = -math.inf

    def due(self, time: float) -> bool:
        if time < self._next_s - _SAME_TIME_S:
            return False
        self._next_s = (math.floor((time + _SAME_TIME_S) / self._interval_s) + 1) * self._interval_s
        return True
