"""Shot boundaries from a coarse luma difference."""

from __future__ import annotations

import numpy as np

_POINTS = 32  # luma is compared on about so many points a side
_CUT_LEVEL = (
    28  # mean absolute difference (0..255) of neighbouring frames that no motion of a talking head reaches
)


class CutFinder:
    """Finds cuts in a stream of frames; a camera flash (the old picture returns within a few frames) is
    none."""

    LOOK_AHEAD = 3

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._open: list[tuple[float, np.ndarray, int]] = []  # time, picture before it, frames left to return
        self._times: list[float] = []

    def add(self, time: float, luma: np.ndarray) -> None:
        """Take the next frame: its time in seconds and its luma (H, W) uint8."""
        step_y, step_x = (max(1, side // _POINTS) for side in luma.shape)
        points = luma[::step_y, ::step_x].astype(np.int16)
        returned = False
        still_open = []
        for cut_time, before, left in self._open:
            if before.shape == points.shape and np.abs(points - before).mean() < _CUT_LEVEL / 2:
                returned = True
            elif left > 1:
                still_open.append((cut_time, before, left - 1))
            else:
                self._times.append(cut_time)
        self._open = still_open
        last, self._last = self._last, points
        if last is None or returned:
            return
        if last.shape != points.shape:
            self._times.append(time)
        elif np.abs(points - last).mean() > _CUT_LEVEL:
            self._open.append((time, last, self.LOOK_AHEAD))

    def between(self, begin: float, end: float) -> bool:
        """Whether a cut lies in (begin, end]; earlier ones are forgotten."""
        self._times = [time for time in self._times if time > begin]
        return any(begin < time <= end for time in [*self._times, *(entry[0] for entry in self._open)])
