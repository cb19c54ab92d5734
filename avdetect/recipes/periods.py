"""When is a clip fake: scores on a fine time grid from the evidence of a clip, and how well they find the periods."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from avdetect.evaluation.localisation import localisation_report, segments_from_scores
from avdetect.evidence import Evidence
from avdetect.inference.bundle import load_bundle
from avdetect.inference.scoring import calibrated

if TYPE_CHECKING:
    from avdetect.inference.bundle import Bundle
    from avdetect.recipes.stages import Context

STEP_S = 0.04  # of the grid: one frame at 25 fps


def localisation(context: Context, table: pd.DataFrame) -> dict[str, Any]:
    """AP@0.5/0.75/0.95 and AR of the fake periods of the test clips; also `segments.jsonl`.

    Needs `fake_periods` in the manifest; a genuine clip has none. Clips that could not be judged find nothing.
    """
    bundle = load_bundle(context.run.path / "bundle")
    segments, periods, lines = {}, {}, []
    for (_, row), evidence in zip(table.iterrows(), context.evidence.rows("test"), strict=True):
        key, told = row["key"], row.get("fake_periods")
        if pd.isna(told) and row["label"] == 1:
            continue  # fake, but when is not known
        periods[key] = json.loads(told) if pd.notna(told) else []
        segments[key] = fake_segments(evidence, bundle)
        found = None if segments[key] is None else segments[key].round(4).tolist()
        lines.append(json.dumps({"key": key, "segments": found}))
    (context.run.path / "segments.jsonl").write_text("".join(f"{line}\n" for line in lines))
    skipped = len(table) - len(periods)
    return {**localisation_report(segments, periods), "n_without_periods": skipped, "step_s": STEP_S}


def fake_segments(evidence: Evidence, bundle: Bundle) -> np.ndarray | None:
    """Segments (n, 3) of (start_s, end_s, score) of one clip, best first; None where nothing was judged."""
    scores = step_scores(evidence, bundle)
    if not len(scores) or np.isnan(scores).all():
        return None
    starts = np.arange(len(scores)) * STEP_S
    return segments_from_scores(starts, starts + STEP_S, scores, min_length_s=2 * STEP_S, max_gap_s=STEP_S)


def step_scores(evidence: Evidence, bundle: Bundle) -> np.ndarray:
    """P(fake) (N,) of steps of `STEP_S` from time 0 on; NaN where nothing was judged.

    Joined over face, voice and lip-sync by the noisy OR that the fusion head starts from, 1 - prod(1 - p). A step
    has the logit of the crop that is nearest in time, at most one crop's distance away; of a voice window the
    mean over those that cover it; of lip-sync that of its second.
    """
    parts = {
        "visual": _face_steps(evidence),
        "audio": _voice_steps(evidence),
        "lipsync": _sync_steps(evidence),
    }
    length = max((len(steps) for steps in parts.values()), default=0)
    genuine, judged = np.ones(length), np.zeros(length, bool)
    for name, steps in parts.items():
        for index in np.flatnonzero(np.isfinite(steps)):
            genuine[index] *= 1 - calibrated(bundle, name, float(steps[index]))
            judged[index] = True
    return np.where(judged, 1 - genuine, np.nan)


def _face_steps(evidence: Evidence) -> np.ndarray:
    face = evidence.face
    if face is None:
        return np.empty(0)
    times, logits = face.crop_times, face.crop_logits
    reach = float(np.median(np.diff(times))) if len(times) > 1 else STEP_S
    middles = np.arange(round((times[-1] + reach) / STEP_S) + 1) * STEP_S + STEP_S / 2
    nearest = np.abs(middles[:, None] - times[None]).argmin(1)
    return np.where(np.abs(middles - times[nearest]) <= reach, logits[nearest], np.nan)


def _voice_steps(evidence: Evidence) -> np.ndarray:
    voice = evidence.voice
    if voice is None:
        return np.empty(0)
    return _spread(voice.window_times, voice.window_s, voice.window_logits)


def _sync_steps(evidence: Evidence) -> np.ndarray:
    sync = evidence.sync
    if sync is None:
        return np.empty(0)
    judged = np.isfinite(sync.second_logits)
    return _spread(sync.second_times[judged], 1.0, sync.second_logits[judged])


def _spread(starts: np.ndarray, length_s: float, logits: np.ndarray) -> np.ndarray:
    """Mean logit of the windows over each step; NaN where none is."""
    if not len(starts):
        return np.empty(0)
    steps = int(np.ceil((starts.max() + length_s) / STEP_S))
    total, count = np.zeros(steps), np.zeros(steps)
    for start, logit in zip(starts, logits, strict=True):
        first, last = max(0, round(start / STEP_S)), round((start + length_s) / STEP_S)
        total[first:last] += logit
        count[first:last] += 1
    return np.divide(total, count, out=np.full(steps, np.nan), where=count > 0)
