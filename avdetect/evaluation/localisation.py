"""When is it fake? Scored time segments against the periods that were faked.

Average precision (AP) at an overlap and average recall (AR) at a number of proposals, as LAV-DF (Cai et al.,
DICTA 2022) and AV-Deepfake1M (Cai et al., ACM MM 2024) define them, and a way from scores over time to
segments. Times are seconds. A segment is a row (start_s, end_s, score), a period (start_s, end_s).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from avdetect.errors import ConfigError, DataError

AP_OVERLAPS = (0.5, 0.75, 0.95)
AR_OVERLAPS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
AR_COUNTS = (100, 50, 20, 10)
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def temporal_iou(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Intersection over union (..., ) of intervals `a` (..., 2) and `b` (..., 2), broadcast against each
    other."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    shared = np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0])
    shared = np.maximum(shared, 0.0)
    return shared / ((a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - shared)


def localisation_report(
    segments: Mapping[str, ArrayLike | None],
    periods: Mapping[str, ArrayLike],
    ap_overlaps: Sequence[float] = AP_OVERLAPS,
    ar_counts: Sequence[int] = AR_COUNTS,
    ar_overlaps: Sequence[float] = AR_OVERLAPS,
) -> dict[str, Any]:
    """AP and AR of all clips together: {"ap": {"0.5": …}, "ar": {"100": …}, counts, "reason"}.

    `segments`: clip -> (n, 3) found, in any order, None = the clip could not be scored (it then finds
    nothing, and is counted under "n_unscored"); `periods`: clip -> (m, 2) true, (0, 2) for genuine clips,
    whose segments are false alarms. Both name the same clips.

    A segment hits a period where their IoU exceeds the overlap. AP: each period in turn takes the best scored
    segment of its clip that hits it and is not taken yet; all others are false; precision, made falling, is
    integrated over recall, segments of one score entering together. (The publishers' programs leave out the
    area before the first segment, at most 1 / number of periods, and break ties by file order.) AR@N: the
    share of periods hit by any of their clip's N best segments, mean over `ar_overlaps`; clips without a
    segment count as missed. Without any period both are None, with the reason. Raises DataError on other
    clips or broken intervals, ConfigError on overlaps outside [0, 1) and counts below 1.
    """
    _check_settings(ap_overlaps, ar_counts, ar_overlaps)
    found = _Table(segments, periods)
    sizes = {
        "n_clips": len(periods), "n_periods": found.n_periods, "n_segments": len(found.scores),
        "n_unscored": sum(value is None for value in segments.values()),
    }  # fmt: skip
    if not found.n_periods:
        none = {"ap": {f"{o:g}": None for o in ap_overlaps}, "ar": {str(c): None for c in ar_counts}}
        return {**none, **sizes, "reason": "no clip has a fake period: there is nothing to find"}
    best = found.best_overlaps(ar_counts)
    return {
        "ap": {f"{overlap:g}": found.average_precision(overlap) for overlap in ap_overlaps},
        "ar": {
            str(count): float(np.mean([np.mean(row > overlap) for overlap in ar_overlaps]))
            for count, row in zip(ar_counts, best, strict=True)
        },
        **sizes,
        "reason": None,
    }


class _Table:
    """All segments in one array, clip after clip, best first; pairs with the k-th period of every clip."""

    def __init__(self, segments: Mapping[str, ArrayLike | None], periods: Mapping[str, ArrayLike]) -> None:
        if segments.keys() != periods.keys():
            strange = sorted(segments.keys() ^ periods.keys())
            raise DataError(
                f"{len(strange)} clips have segments or periods but not both, such as {strange[0]!r}: give "
                "an empty list where there are none."
            )
        truths = [_intervals(periods[clip], 2, clip, "period") for clip in periods]
        guesses = [_intervals(segments[clip], 3, clip, "segment") for clip in periods]
        guesses = [rows[np.argsort(-rows[:, 2], kind="stable")] for rows in guesses]
        self.counts = np.array([len(rows) for rows in guesses], dtype=np.int64)
        self.starts = np.cumsum(self.counts) - self.counts
        table = np.concatenate([*guesses, np.empty((0, 3))])
        self.scores = table[:, 2]
        self.n_periods = sum(len(rows) for rows in truths)
        self.pairs = []  # per k: rows of segments, place of each among its clip's, owner clip, IoU
        for k in range(max((len(rows) for rows in truths), default=0)):
            owners = np.array(
                [i for i, rows in enumerate(truths) if len(rows) > k and self.counts[i]], dtype=np.int64
            )
            sizes = self.counts[owners]
            firsts = np.cumsum(sizes) - sizes
            places = np.arange(sizes.sum()) - np.repeat(firsts, sizes)
            rows = places + np.repeat(self.starts[owners], sizes)
            target = np.array([truths[i][k] for i in owners]).reshape(-1, 2)
            overlaps = temporal_iou(table[rows, :2], np.repeat(target, sizes, axis=0))
            self.pairs.append((rows, places, firsts, overlaps))

    def average_precision(self, overlap: float) -> float:
        taken = np.zeros(len(self.scores), dtype=bool)
        for rows, places, firsts, overlaps in self.pairs:
            if len(rows):
                free = np.where((overlaps > overlap) & ~taken[rows], places, len(taken))
                first = np.minimum.reduceat(free, firsts)
                hit = first < len(taken)
                taken[rows[firsts[hit] + first[hit]]] = True
        order = np.argsort(-self.scores, kind="stable")
        if not len(order):
            return 0.0
        last = np.flatnonzero(np.append(np.diff(self.scores[order]) != 0, True))
        hits = np.cumsum(taken[order])[last]
        precision = np.maximum.accumulate((hits / (last + 1))[::-1])[::-1]
        return float(np.sum(np.diff(hits, prepend=0) * precision) / self.n_periods)

    def best_overlaps(self, counts: Sequence[int]) -> np.ndarray:
        """(len(counts), periods): the largest IoU of each period with its clip's N best segments."""
        found = []
        for count in counts:
            parts = [
                np.maximum.reduceat(np.where(places < count, overlaps, 0.0), firsts)
                for _, places, firsts, overlaps in self.pairs
                if len(places)
            ]
            parts.append(
                np.zeros(self.n_periods - sum(len(part) for part in parts))
            )  # clips without segments
            found.append(np.concatenate(parts))
        return np.array(found).reshape(len(counts), -1)


def segments_from_scores(
    starts: ArrayLike,
    ends: ArrayLike,
    scores: ArrayLike,
    *,
    levels: Sequence[float] = LEVELS,
    max_gap_s: float = 0.0,
    min_length_s: float = 0.0,
    softness: float = 0.5,
    max_segments: int = 100,
) -> np.ndarray:
    """Segments (n, 3) of (start_s, end_s, score), best first, from P(fake) `scores` (N,) of consecutive
    steps.

    `starts`, `ends` (N,): the steps in order, not overlapping (frames, seconds); NaN scores = not judged, and
    end a segment. At every one of `levels` the longest runs of steps that reach it are candidates (runs no
    more than `max_gap_s` apart are joined; those shorter than `min_length_s` dropped), as in the actionness
    grouping of Zhao et al., ICCV 2017. A candidate scores its mean inside less the mean in the quarter of its
    length on either side (outer-inner contrast, Shou et al., ECCV 2018), or its mean alone where nothing
    judged lies there, so that the run that just covers a raised part wins over its peak and over its
    surroundings. Candidates that overlap a better one are kept, their scores multiplied by exp(-IoU² /
    softness) (soft non-maximum suppression, Bodla et al., ICCV 2017); the `max_segments` best with a score
    above 0 remain.

    Returns (0, 3) where no step reaches a level. Raises DataError where no step is judged: such a clip is
    unscored, not genuine.
    """
    if not (levels and all(0 < level <= 1 for level in levels) and softness > 0 and max_segments >= 1):
        raise ConfigError(
            f"levels lie in (0, 1], softness above 0, max_segments from 1 on; found {levels}, {softness}, "
            f"{max_segments}."
        )
    times, p = _steps(starts, ends, scores)
    candidates = {run for level in levels for run in _runs(times, p, level, max_gap_s)}
    lengths = times[:, 1] - times[:, 0]
    kept = [
        (times[a, 0], times[b, 1], _contrast(times, lengths, p, a, b))
        for a, b in sorted(candidates)
        if times[b, 1] - times[a, 0] >= min_length_s
    ]
    return _soften(np.array(kept).reshape(-1, 3), softness, max_segments)


def _steps(starts: ArrayLike, ends: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    start, end, p = (np.asarray(part, dtype=np.float64).ravel() for part in (starts, ends, scores))
    if not len(start) == len(end) == len(p):
        raise DataError(
            f"{len(start)} starts, {len(end)} ends and {len(p)} scores: give one of each per step."
        )
    times = np.column_stack([start, end])
    if not (np.isfinite(times).all() and (end > start).all() and (start[1:] >= end[:-1] - 1e-6).all()):
        raise DataError("Steps must have finite times in rising order that do not overlap.")
    if np.isnan(p).all():
        raise DataError(f"None of {len(p)} steps has a score: report the clip as unscored.")
    known = p[~np.isnan(p)]
    if known.min() < 0 or known.max() > 1:
        raise DataError(f"Scores run from {known.min():.4g} to {known.max():.4g}, P(fake) lies in [0, 1].")
    return times, p


def _runs(times: np.ndarray, p: np.ndarray, level: float, max_gap_s: float) -> list[tuple[int, int]]:
    """First and last step of each run that reaches the level; an unjudged step or a pause ends a run."""
    high = np.flatnonzero(np.nan_to_num(p, nan=-1.0) >= level)
    if not len(high):
        return []
    unjudged = np.cumsum(np.isnan(p))
    gaps = times[high[1:], 0] - times[high[:-1], 1]
    apart = (gaps > max_gap_s + 1e-6) | (unjudged[high[1:]] > unjudged[high[:-1]])
    firsts, lasts = high[np.append(True, apart)], high[np.append(apart, True)]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def _contrast(times: np.ndarray, lengths: np.ndarray, p: np.ndarray, a: int, b: int) -> float:
    inside = float(np.average(p[a : b + 1], weights=lengths[a : b + 1]))
    margin = (times[b, 1] - times[a, 0]) / 4
    around = np.flatnonzero((times[:, 1] > times[a, 0] - margin) & (times[:, 0] < times[b, 1] + margin))
    around = around[((around < a) | (around > b)) & ~np.isnan(p[around])]
    return inside - float(np.average(p[around], weights=lengths[around])) if len(around) else inside


def _soften(candidates: np.ndarray, softness: float, max_segments: int) -> np.ndarray:
    left, chosen = candidates[candidates[:, 2] > 0], []
    while len(left) and len(chosen) < max_segments:
        best = int(np.argmax(left[:, 2]))
        chosen.append(left[best])
        left = np.delete(left, best, axis=0)
        left[:, 2] *= np.exp(-(temporal_iou(left[:, :2], chosen[-1][:2]) ** 2) / softness)
    return np.array(chosen).reshape(-1, 3)


def _intervals(rows: ArrayLike | None, width: int, clip: str, what: str) -> np.ndarray:
    try:
        table = np.asarray([] if rows is None else rows, dtype=np.float64)
        table = table.reshape(-1, width) if table.size == 0 else table
    except (TypeError, ValueError):
        table = np.full((1, 1), np.nan)
    if (
        table.ndim != 2
        or table.shape[1] != width
        or not np.isfinite(table).all()
        or (table[:, 1] <= table[:, 0]).any()
    ):
        raise DataError(
            f"A {what} of {clip!r} is not ({', '.join(('start_s', 'end_s', 'score')[:width])}) with finite "
            "numbers and start before end."
        )
    return table


def _check_settings(
    ap_overlaps: Sequence[float], ar_counts: Sequence[int], ar_overlaps: Sequence[float]
) -> None:
    if not all(0 <= overlap < 1 for overlap in (*ap_overlaps, *ar_overlaps)) or not ar_overlaps:
        raise ConfigError(f"Overlaps lie in [0, 1), found {(*ap_overlaps, *ar_overlaps)}.")
    if not all(isinstance(count, int) and count >= 1 for count in ar_counts):
        raise ConfigError(f"Numbers of proposals are whole and start at 1, found {tuple(ar_counts)}.")
