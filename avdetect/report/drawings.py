"""Geometry of the drawings, as numbers for the template's SVG.

x is in percent of the width, so that text keeps its size anywhere; y in percent of the height from above.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from avdetect.inference.verdict import MODALITIES, PARTS, Segment, Verdict, clock, label_of, suspicious_spans
from avdetect.report.pictures import ReportPictures, mel_overlay_uri, mel_palette, mel_uri

_MAX_BARS = 240
_MAX_TICKS = 7
_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600)
_MEL_TICKS_HZ = (125, 250, 500, 1000, 2000, 4000, 8000, 16000)
_MIN_TICK_GAP = 9.0  # percent of the height
_CURVE_MARGIN = 0.12  # of the curve's height, above and below


@dataclass
class Tick:
    at: float  # percent
    text: str
    anchor: str = "middle"
    minor: bool = False  # left out on a narrow screen


@dataclass
class Bar:
    """One stretch of time in a lane. label: as `label_of`, "unknown" where not judged."""

    x: float
    width: float
    height: float
    label: str
    title: str


@dataclass
class Lane:
    modality: str
    bars: list[Bar]
    marks: list[tuple[float, float]]  # x, width of suspicious stretches
    spans: list[tuple[float, float]]  # the same in seconds
    judged: bool


@dataclass
class Timeline:
    duration_s: float
    ticks: list[Tick]
    lanes: list[Lane]
    fake_y: float  # height of the thresholds, percent from the top
    real_y: float
    pooled: int  # segments a bar stands for (its highest score); 1 = none pooled
    rows: list[Segment]  # what the bars show, as numbers
    told: str  # as `_told`


@dataclass
class Spectrogram:
    uri: str
    map_uri: str | None
    start_s: float
    length_s: float
    axis_s: float
    whole: bool  # covers the time axis, or nearly
    x: float  # percent of the time axis
    width: float
    bands_hz: str  # JSON, of the rows from below
    palette: str  # of `mel_palette`, hexadecimal
    time_ticks: list[Tick]
    frequency_ticks: list[Tick]


@dataclass
class SyncCurve:
    points: str  # "x,y x,y …"
    ticks: list[Tick]
    zero_x: float
    best_x: float
    best_y: float
    best_ms: float
    low: float  # distances at the bottom and the top of the drawing's scale
    high: float
    from_ms: float  # the axis
    to_ms: float
    told: str  # as `_told`


@dataclass
class LipStrip:
    points: str  # "x,y x,y …" of an area
    ticks: list[Tick]
    axis_s: float
    told: str  # as `_told`


def _told(rows: Iterable[tuple[float, float, str]]) -> str:
    """JSON of (from, to, what is there in words) along an axis, for the script that shows values under the pointer."""
    return json.dumps(
        [[round(start, 3), round(end, 3), text] for start, end, text in rows], ensure_ascii=False
    )


def time_ticks(duration_s: float) -> list[Tick]:
    """At most `_MAX_TICKS` + 1 round times from 0 to the end."""
    step = next((s for s in _STEPS_S if duration_s / s <= _MAX_TICKS), _STEPS_S[-1])
    decimals = 1 if step < 1 else 0
    ticks = []
    for index in range(math.floor(duration_s / step + 1e-9) + 1):
        at = 100 * index * step / duration_s
        ticks.append(_tick(at, clock(index * step, decimals), index))
    return ticks


def _tick(at: float, text: str, number: int) -> Tick:
    """Texts at the ends stay inside the drawing; number: steps from zero, odd ones are minor."""
    anchor = "start" if at < 4 else "end" if at > 96 else "middle"
    return Tick(round(at, 3), text, anchor, minor=number % 2 == 1)


def timeline(verdict: Verdict) -> Timeline | None:
    """Three lanes on one time axis; None where no stretch of time was judged (images, unknown verdicts)."""
    if all(getattr(segment, name) is None for segment in verdict.segments for name in MODALITIES):
        return None
    announced = verdict.media.get("duration_s") or 0.0
    duration = max(announced, max(segment.end_s for segment in verdict.segments))
    if duration <= 0:
        return None
    pooled = math.ceil(len(verdict.segments) / _MAX_BARS)
    rows = [_highest(verdict.segments[i : i + pooled]) for i in range(0, len(verdict.segments), pooled)]
    return Timeline(
        duration_s=duration,
        ticks=time_ticks(duration),
        lanes=[_lane(verdict, name, rows, duration) for name in MODALITIES],
        fake_y=100 * (1 - verdict.thresholds["fake_above"]),
        real_y=100 * (1 - verdict.thresholds["real_below"]),
        pooled=pooled,
        rows=rows,
        told=_told((row.start_s, row.end_s, _row_text(row)) for row in rows),
    )


def _row_text(row: Segment) -> str:
    scores = ((PARTS[name], getattr(row, name)) for name in MODALITIES)
    said = ", ".join(f"{part} {'not judged' if score is None else f'{score:.2f}'}" for part, score in scores)
    return f"{clock(row.start_s, 1)}–{clock(row.end_s, 1)}: {said}"


def _highest(segments: list[Segment]) -> Segment:
    best = {
        name: max((getattr(s, name) for s in segments if getattr(s, name) is not None), default=None)
        for name in MODALITIES
    }
    return Segment(segments[0].start_s, segments[-1].end_s, **best)


def _lane(verdict: Verdict, name: str, rows: list[Segment], duration: float) -> Lane:
    bars = []
    for row in rows:
        score = getattr(row, name)
        said = "not judged" if score is None else f"score {score:.2f}"
        bars.append(
            Bar(
                x=round(100 * row.start_s / duration, 3),
                width=round(100 * (row.end_s - row.start_s) / duration, 3),
                height=100.0 if score is None else round(max(2.0, 100 * score), 2),
                label=label_of(score, **verdict.thresholds),
                title=f"{clock(row.start_s)} to {clock(row.end_s)}: {said}",
            )
        )
    spans = suspicious_spans(verdict, name)
    marks = [(round(100 * a / duration, 3), round(100 * (b - a) / duration, 3)) for a, b in spans]
    return Lane(name, bars, marks, spans, judged=any(bar.label != "unknown" for bar in bars))


def spectrogram(pictures: ReportPictures, axis_s: float | None) -> Spectrogram | None:
    """The mel-spectrogram on the timeline's axis (`axis_s` seconds long), or on its own."""
    if pictures.mel is None or not np.size(pictures.mel):
        return None
    length = pictures.mel.shape[1] * pictures.mel_hop_s
    axis = max(axis_s or 0.0, pictures.mel_start_s + length)
    bands = len(pictures.mel_centres_hz)
    ticks: list[Tick] = []
    for hertz in _MEL_TICKS_HZ:
        if not pictures.mel_centres_hz[0] <= hertz <= pictures.mel_max_hz:
            continue
        # Above the highest centre there is half a band, up to mel_max_hz.
        known = np.append(pictures.mel_centres_hz, pictures.mel_max_hz)
        places = np.append(np.arange(bands) + 0.5, bands)
        at = 100 * (1 - float(np.interp(hertz, known, places)) / bands)
        if not ticks or ticks[-1].at - at >= _MIN_TICK_GAP:
            ticks.append(Tick(round(at, 2), f"{hertz} Hz" if hertz < 1000 else f"{hertz // 1000} kHz"))
    return Spectrogram(
        uri=mel_uri(pictures.mel),
        map_uri=None if pictures.voice_map is None else mel_overlay_uri(pictures.mel, pictures.voice_map),
        start_s=pictures.mel_start_s,
        length_s=length,
        axis_s=axis,
        whole=length >= 0.95 * axis,
        x=round(100 * pictures.mel_start_s / axis, 3),
        width=round(100 * length / axis, 3),
        bands_hz=json.dumps([round(float(hertz), 1) for hertz in pictures.mel_centres_hz]),
        palette=mel_palette().hex(),
        time_ticks=time_ticks(axis),
        frequency_ticks=ticks,
    )


def sync_curve(pictures: ReportPictures) -> SyncCurve | None:
    """Distance of lips and voice over the offset, lowest point marked; None without a curve."""
    if pictures.sync_curve is None:
        return None
    known = np.isfinite(np.asarray(pictures.sync_curve, float))
    distances = np.asarray(pictures.sync_curve, float)[known]
    offsets = np.asarray(pictures.sync_offsets_ms, float)[known]
    if len(distances) < 2 or np.ptp(offsets) == 0:
        return None
    left, right = float(offsets.min()), float(offsets.max())
    low, high = float(distances.min()), float(distances.max())
    margin = _CURVE_MARGIN * (high - low) or 1.0
    x = 100 * (offsets - left) / (right - left)
    y = 100 * (1 - (distances - low + margin) / (high - low + 2 * margin))
    best = int(distances.argmin())
    step = 200 if right - left > 600 else 100
    marks = np.arange(math.ceil(left / step), math.floor(right / step) + 1) * step
    at = 100 * (marks - left) / (right - left)
    return SyncCurve(
        points=" ".join(f"{px:.2f},{py:.2f}" for px, py in zip(x, y, strict=True)),
        ticks=[
            _tick(px, f"{ms:+d}" if ms else "0", ms // step)
            for px, ms in zip(at.tolist(), marks.astype(int).tolist(), strict=True)
        ],
        zero_x=round(100 * (0 - left) / (right - left), 2),
        best_x=round(float(x[best]), 2),
        best_y=round(float(y[best]), 2),
        best_ms=float(offsets[best]),
        low=low - margin,
        high=high + margin,
        from_ms=left,
        to_ms=right,
        told=_told(_around(offsets, distances)),
    )


def _around(offsets: np.ndarray, distances: np.ndarray) -> Iterable[tuple[float, float, str]]:
    """Each offset with half of the way to its neighbours."""
    middles = (offsets[1:] + offsets[:-1]) / 2
    edges = [float(offsets[0]), *middles.tolist(), float(offsets[-1])]
    for place, (ms, distance) in enumerate(zip(offsets, distances, strict=True)):
        yield edges[place], edges[place + 1], f"{ms:+.0f} ms: distance {distance:.3f}"


def lip_strip(pictures: ReportPictures, axis_s: float | None) -> LipStrip | None:
    """Which moments of the lips raised the score, on the timeline's axis; None without a map, or an empty one."""
    values, times = pictures.lips_map, pictures.lips_times_s
    if values is None or times is None or len(values) < 2 or float(np.max(values)) <= 0:
        return None
    step = float(times[1] - times[0])
    axis = max(axis_s or 0.0, float(times[-1]) + step)
    pooled = math.ceil(len(values) / _MAX_BARS)
    starts = np.arange(0, len(values), pooled)
    heights = np.maximum.reduceat(np.clip(values, 0, None), starts) / float(np.max(values))
    ends = [*times[starts[1:]].tolist(), float(times[-1]) + step]
    stretches = list(zip(times[starts].tolist(), ends, heights.tolist(), strict=True))
    corners = [(100 * t / axis, 100 * (1 - height)) for a, b, height in stretches for t in (a, b)]
    corners = [(corners[0][0], 100.0), *corners, (corners[-1][0], 100.0)]
    return LipStrip(
        points=" ".join(f"{x:.2f},{y:.1f}" for x, y in corners),
        ticks=time_ticks(axis),
        axis_s=axis,
        told=_told(
            (a, b, f"{clock(a, 1)}: {100 * height:.0f} % of the highest") for a, b, height in stretches
        ),
    )
