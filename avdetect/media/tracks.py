"""Faces joined into tracks while a video streams by: detections sparse in time, mouths on a dense grid.

Only the frames since the last detections are held, and a few for the smoothing of face crops. Crops are
bounded per track, tracks are bounded in number, and the mouth grid is spooled to a temporary file when it
becomes large: memory does not grow with duration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from PIL import Image

from avdetect.media.crops import cut_face
from avdetect.media.cuts import CutFinder
from avdetect.media.mouths import MouthGrid, empty_mouths
from avdetect.media.sampling import FrameSampler
from avdetect.media.settings import ClipSettings
from avdetect.media.video import VideoFrame

_SAME_TIME_S = 1e-3  # rounding of time stamps in containers
_MIN_IOU = 0.3  # smallest overlap of one face between two detections
_MAX_MISSES = 3  # detections that a track may miss in a row (intervals, where more frames are searched)
_DETECT_BATCH = 4  # frames given to the detector at once
_HELD_BYTES = 256 * 2**20  # frames held before detection is run on a smaller batch
_MIN_DETECTIONS = 4  # of a credible track (half of the searched frames in shorter clips)
_MIN_FOUND = 0.75  # share of the searched frames of its life in which a credible track was found …
_SURE_PROB = 0.995  # … unless its median confidence is this high: chance finds flicker and are unsure


@dataclass(frozen=True)
class Detections:
    """Faces of one image: `boxes` (N, 4) x0 y0 x1 y1, `probs` (N,), `landmarks` (N, 5, 2): eyes, nose, mouth
    corners."""

    boxes: np.ndarray
    probs: np.ndarray
    landmarks: np.ndarray

    @classmethod
    def none(cls) -> Detections:
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))

    def scaled(self, scale_x: float, scale_y: float) -> Detections:
        xy = np.array([scale_x, scale_y], np.float32)
        return Detections(self.boxes * np.tile(xy, 2), self.probs, self.landmarks * xy)

    def credible(self, min_side: float, min_prob: float, limit: int) -> Detections:
        """The `limit` largest faces with both sides >= `min_side` and confidence >= `min_prob`."""
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        keep = np.flatnonzero((sides.min(axis=1, initial=np.inf) >= min_side) & (self.probs >= min_prob))
        keep = keep[np.argsort(-sides[keep].prod(axis=1), kind="stable")][:limit]
        return Detections(self.boxes[keep], self.probs[keep], self.landmarks[keep])


class FaceDetector(Protocol):
    """Anything that finds faces; `read_clip` takes one."""

    def detect(self, images: list[np.ndarray], min_face_px: float) -> list[Detections]:
        """Faces of RGB `images` (H, W, 3) uint8 of one size, in their pixels; none under `min_face_px`."""
        ...


@dataclass
class FaceTrack:
    """One face followed through a video (or found in an image). Seconds, pixels of the upright original
    frame."""

    id: int  # 0 is the most prominent
    times: np.ndarray  # (D,) float64, detections
    boxes: np.ndarray  # (D, 4) float32 x0, y0, x1, y1
    probs: np.ndarray  # (D,) float32 detector confidence
    crop_times: np.ndarray  # (K,) float64
    crops: np.ndarray  # (K, S, S, 3) uint8 RGB
    mouth_start: int  # grid index of mouths[0]; its time is mouth_start / grid_fps
    mouths: np.ndarray  # (M, m, m) uint8 grey or (M, m, m, 3) RGB, one per grid point; M = 0 for images


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (N, 4) and (M, 4): (N, M)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    inter = np.clip(high - low, 0, None).prod(axis=2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)[:, None] + (others[:, 2:] - others[:, :2]).prod(axis=1)[
        None
    ]
    return inter / np.maximum(area - inter, 1e-9)


@dataclass
class _Track:
    """A track being followed."""

    mouths: MouthGrid
    times: list[float] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    probs: list[float] = field(default_factory=list)
    crop_times: list[float] = field(default_factory=list)
    crops: list[np.ndarray] = field(default_factory=list)
    chances: int = 0  # detections in frames from which crops are taken
    stride: int = 1  # every so many chances give a crop
    misses: int = 0  # in a row, up to now
    missed: int = 0  # between detections, in all

    def prominence(self, interval_s: float) -> float:
        boxes = np.array(self.boxes)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1).mean()
        return float((self.times[-1] - self.times[0] + interval_s) * area)

    def credible(self, sampled: int) -> bool:
        """Whether this is a face and no chance find, in a clip of which `sampled` frames were searched."""
        found = len(self.times)
        if found < min(_MIN_DETECTIONS, max(1, sampled // 2)):
            return False
        return found >= _MIN_FOUND * (found + self.missed) or float(np.median(self.probs)) >= _SURE_PROB

    def finished(self, number: int) -> FaceTrack:
        return FaceTrack(
            number,
            np.array(self.times),
            np.array(self.boxes, np.float32),
            np.array(self.probs, np.float32),
            np.array(self.crop_times),
            np.stack(self.crops),
            self.mouths.start,
            self.mouths.finish(),
        )


class FaceCollector:
    """Feed it every frame in order with `add`, then take the tracks from `finish`.

    `frame_count`: frames of the video, needed for `sampling="uniform"`. `sampled` counts the frames searched,
    `seen` those with a credible face, `uncropped` the tracks that are left out because no frame that was
    chosen for crops shows them.
    """

    def __init__(
        self,
        settings: ClipSettings,
        detector: FaceDetector,
        frame_step_s: float = 0.04,
        frame_count: int | None = None,
    ):
        self.settings = settings
        self.detector = detector
        self.sampled = 0
        self.seen = 0
        self.uncropped = 0
        self._longest_gap_s = max(1.0, (_MAX_MISSES + 1) * max(settings.detect_interval_s, frame_step_s))
        self._frames: list[VideoFrame] = []  # from the last resolved detection frame on
        self._marks: list[int] = []  # which of them are to be searched
        self._crop_marks: list[bool] = []  # whether crops are taken there
        self._held_bytes = 0
        self._sampler = FrameSampler(settings, frame_count)
        self._resolved = False  # frames[0] has been searched already
        self._cuts = CutFinder()
        self._active: list[_Track] = []
        self._done: list[_Track] = []

    def add(self, frame: VideoFrame) -> None:
        """Take the next frame."""
        self._cuts.add(frame.time, frame.luma())
        self._forget_undisplayed(frame.time)
        search, crop = self._sampler.take(frame.time)
        if search:
            self._marks.append(len(self._frames))
            self._crop_marks.append(crop)
        self._frames.append(frame)
        self._held_bytes += frame.nbytes
        # A few frames behind a mark tell a cut from a camera flash.
        settled = len(self._frames) - CutFinder.LOOK_AHEAD
        if len(self._marks) >= _DETECT_BATCH and self._marks[_DETECT_BATCH - 1] < settled:
            self._resolve(_DETECT_BATCH)
        elif self._held_bytes > _HELD_BYTES:
            self._resolve(len(self._marks))

    def _forget_undisplayed(self, now: float) -> None:
        """Drop the last frame if it will not be searched and no grid point falls into its time on display."""
        last = len(self._frames) - 1
        if last < 1 or (self._marks and self._marks[-1] == last):
            return
        fps = self.settings.grid_fps
        first_point = math.ceil((self._frames[last].time - _SAME_TIME_S) * fps)
        if first_point / fps >= now - _SAME_TIME_S:
            self._held_bytes -= self._frames.pop().nbytes

    def finish(self) -> list[FaceTrack]:
        """The credible tracks, most prominent first."""
        if self._frames:
            last = len(self._frames) - 1
            if not (self._marks and self._marks[-1] == last) and not (self._resolved and last == 0):
                self._marks.append(last)
                self._crop_marks.append(self.settings.sampling == "interval")
            self._resolve(len(self._marks))
        for track in self._active:
            self._end(track)
        self._active, self._frames = [], []
        self._done = [track for track in self._done if track.credible(self.sampled)]
        return [track.finished(number) for number, track in enumerate(self._done)]

    def _resolve(self, count: int) -> None:
        """Search the first `count` marked frames and carry the tracks up to the last of them."""
        if not count:
            return
        start, marks, crop_marks = 0, self._marks[:count], self._crop_marks[:count]
        results = self._detect([self._frames[mark] for mark in marks])
        for mark, crop, found in zip(marks, crop_marks, results, strict=True):
            self.sampled += 1
            self.seen += bool(len(found.probs))
            self._step(self._frames[start : mark + 1], found, crop)
            start = mark
        self._frames = self._frames[start:]
        self._held_bytes = sum(frame.nbytes for frame in self._frames)
        self._marks = [mark - start for mark in self._marks[count:]]
        self._crop_marks, self._resolved = self._crop_marks[count:], True

    def _detect(self, frames: list[VideoFrame]) -> list[Detections]:
        settings, results = self.settings, []
        reduced = [frame.reduced_rgb(settings.detect_max_side) for frame in frames]
        begin = 0
        while begin < len(frames):  # runs of one size; a stream may change it
            end = begin + 1
            while end < len(frames) and reduced[end].shape == reduced[begin].shape:
                end += 1
            height, width = reduced[begin].shape[:2]
            scale = min(width / frames[begin].width, height / frames[begin].height)
            found = self.detector.detect(reduced[begin:end], settings.min_face_px * scale)
            for frame, faces in zip(frames[begin:end], found, strict=True):
                results.append(
                    faces.scaled(frame.width / width, frame.height / height).credible(
                        settings.min_face_px, settings.min_face_prob, 2 * settings.max_tracks
                    )
                )
            begin = end
        return results

    def _step(self, frames: list[VideoFrame], found: Detections, crop: bool) -> None:
        """One interval: `frames` from the last searched frame to the one in which `found` was found.

        crop: face crops are taken from that one.
        """
        now = frames[-1].time
        if self._cuts.between(frames[0].time, now) or now - frames[0].time > self._longest_gap_s:
            for track in self._active:
                self._end(track)
            self._active = []
        pairs = self._associate(found)
        for index, track in enumerate(list(self._active)):
            if index in pairs:
                self._follow(track, frames, found, pairs[index])
            else:
                self._miss(track, frames)
        for face in range(len(found.probs)):
            if face not in pairs.values():
                grid = math.ceil((now - _SAME_TIME_S) * self.settings.grid_fps)
                track = _Track(
                    MouthGrid(self.settings, max(grid, 0), found.boxes[face], found.landmarks[face])
                )
                self._record(track, now, found, face)
                self._active.append(track)
        if crop:
            self._take_crops(frames[-1])

    def _take_crops(self, frame: VideoFrame) -> None:
        rgb = None
        for track in self._active:
            if track.times[-1] != frame.time:
                continue
            if track.chances % track.stride == 0:
                rgb = frame.rgb() if rgb is None else rgb
                self._crop(track, rgb, frame.time)
            track.chances += 1

    def _associate(self, found: Detections) -> dict[int, int]:
        """Greedy one-to-one matching by overlap: active track -> face."""
        if not self._active or not len(found.probs):
            return {}
        overlap = iou(np.array([track.boxes[-1] for track in self._active]), found.boxes)
        pairs: dict[int, int] = {}
        while overlap.max() >= _MIN_IOU:
            track, face = np.unravel_index(overlap.argmax(), overlap.shape)
            pairs[int(track)] = int(face)
            overlap[track, :] = overlap[:, face] = 0
        return pairs

    def _record(self, track: _Track, now: float, found: Detections, face: int) -> None:
        track.times.append(now)
        track.boxes.append(found.boxes[face])
        track.probs.append(float(found.probs[face]))

    def _follow(self, track: _Track, frames: list[VideoFrame], found: Detections, face: int) -> None:
        track.mouths.follow(frames, found.boxes[face], found.landmarks[face])
        track.missed += track.misses
        track.misses = 0
        self._record(track, frames[-1].time, found, face)

    def _miss(self, track: _Track, frames: list[VideoFrame]) -> None:
        track.misses += 1
        gap_s = frames[-1].time - track.times[-1]
        patience_s = _MAX_MISSES * self.settings.detect_interval_s - _SAME_TIME_S
        if (track.misses > _MAX_MISSES and gap_s > patience_s) or gap_s > self._longest_gap_s:
            self._active.remove(track)
            self._end(track)
            return
        track.mouths.miss(frames)

    def _crop(self, track: _Track, rgb: np.ndarray, now: float) -> None:
        track.crops.append(cut_face(rgb, track.boxes[-1], self.settings))
        track.crop_times.append(now)
        if len(track.crops) > self.settings.max_crops:
            track.crops, track.crop_times = track.crops[::2], track.crop_times[::2]
            track.stride *= 2

    def _end(self, track: _Track) -> None:
        """Keep a finished track if it is credible and among the most prominent."""
        if not track.credible(self.sampled):
            return
        if not track.crops:
            self.uncropped += 1
            return
        self._done.append(track)
        self._done.sort(key=lambda done: -done.prominence(self.settings.detect_interval_s))
        del self._done[self.settings.max_tracks :]


def faces_in_image(rgb: np.ndarray, settings: ClipSettings, detector: FaceDetector) -> list[FaceTrack]:
    """One track with one crop per credible face of a picture (H, W, 3) uint8, largest first.

    There is only one picture, so it is searched at twice `detect_max_side`. With `pictures="face"` it is not
    searched: all of it is the crop, as in datasets that hold face crops only.
    """
    height, width = rgb.shape[:2]
    if settings.pictures == "face":
        whole = np.array([0, 0, width, height], np.float32)
        crop = cut_face(rgb, whole, replace(settings, crop_margin=0.0))
        return [_still_track(0, whole, np.float32(1), crop, settings)]
    scale = min(1.0, 2 * settings.detect_max_side / max(height, width))
    small_size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Image.fromarray(rgb).resize(small_size, Image.Resampling.BOX)) if scale < 1 else rgb
    found = detector.detect([small], settings.min_face_px * scale)[0]
    found = found.scaled(width / small_size[0], height / small_size[1])
    found = found.credible(settings.min_face_px, settings.min_face_prob, settings.max_tracks)
    return [
        _still_track(number, box, prob, cut_face(rgb, box, settings), settings)
        for number, (box, prob) in enumerate(zip(found.boxes, found.probs, strict=True))
    ]


def _still_track(
    number: int, box: np.ndarray, prob: np.float32, crop: np.ndarray, settings: ClipSettings
) -> FaceTrack:
    return FaceTrack(
        number, np.zeros(1), box[None], prob[None], np.zeros(1), crop[None], 0, empty_mouths(settings)
    )
